"""A list of messages as one prompt, for a new evaluation: LMArena takes text, not roles.

Texts stand verbatim and in order; only the headings between them are ours. What a model must know about tools and
formats stands before all of them. Leading system messages are joined, later ones keep their place. A single user
message is sent as it is, behind the system text. Pictures and documents go along as attachments, in order; where there
are several messages, headings say which message brought which.

A follow-up is what stands behind the last answer, for an evaluation that has the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Final

from bridge.answering.messages import Message, Role, start_of_turn
from bridge.answering.tools.blocks import call_block, response_block
from bridge.answering.tools.calls import CallsSoFar

_HEADINGS: Final[dict[Role, str]] = {"system": "System", "user": "User", "assistant": "Assistant"}
_PLAIN_HEADINGS: Final = {role: f"[{heading}]\n" for role, heading in _HEADINGS.items()}

#: What is asked for, by who speaks last.
_OPENINGS: Final[dict[Role, str]] = {
    "user": "[The conversation so far. Answer its last message.]",
    "tool": "[The conversation so far. Go on from the results at its end.]",
    "system": "[The conversation so far. Write what comes next, as the instruction at its end says.]",
    "assistant": (
        "[The conversation so far. The assistant's last message is not finished: continue it from exactly where it "
        "stops, without repeating any of it and without a word about it.]"
    ),
}


def prompt(messages: Sequence[Message], instructions: str = "") -> str:
    """Write the messages as one text that shows a model all of them, behind `instructions`."""
    leading = list(takewhile(lambda message: message.role == "system" and message.is_plain, messages))
    spoken = messages[len(leading) :]
    blocks = [text for text in (instructions, *[message.text for message in leading]) if text]
    if len(spoken) == 1 and spoken[0].is_prompt:
        blocks.append(spoken[0].text)
    elif spoken:
        blocks.append(_OPENINGS[spoken[-1].role])
        numbers, calls = Counter[str](), CallsSoFar()
        for message in spoken:
            if message.is_plain and message.role != "tool":
                blocks.append(_PLAIN_HEADINGS[message.role] + message.text)
            else:
                blocks.append(_block(message, numbers, calls))
    return "\n\n".join(blocks)


def shortened(messages: tuple[Message, ...], instructions: str, max_chars: int) -> tuple[Message, ...]:
    """Drop the oldest messages but leading system ones, as few as it takes to make a prompt of `max_chars` at most.

    The last message stays, even where it is too long by itself.
    """
    leading = len(list(takewhile(lambda message: message.role == "system", messages)))
    most = len(messages) - leading - 1  # dropped
    if most <= 0:
        return messages

    def fits(dropped: int) -> bool:
        return len(prompt(messages[:leading] + messages[leading + dropped :], instructions)) <= max_chars

    # Nearly as many as it takes, so that few prompts are written, and no long one: that would hold the event loop.
    low = high = _too_many(messages[leading:-1], max_chars - len(messages[-1].text))
    step = 1
    while high < most and not fits(high):
        low, high, step = high + 1, min(most, high + step), 2 * step
    while low < high:
        middle = (low + high) // 2
        if fits(middle):
            high = middle
        else:
            low = middle + 1
    return messages[:leading] + messages[leading + high :] if high else messages


def _too_many(messages: Sequence[Message], max_chars: int) -> int:
    """How many at the beginning do not fit into a prompt of `max_chars`, at least, with what is behind them."""
    for number in range(len(messages) - 1, -1, -1):
        message = messages[number]
        max_chars -= len(message.text)
        if message.role in ("user", "assistant"):
            max_chars -= len("\n\n") + len(_PLAIN_HEADINGS[message.role] if message.is_plain else "")
        if max_chars < 0:
            return number + 1
    return 0


def follow_up(messages: Sequence[Message]) -> str:
    """Write what stands behind the last answer: results of its calls, and a user's text as it is."""
    calls, numbers = CallsSoFar(), Counter[str]()
    start = start_of_turn(messages)
    for message in messages[:start]:
        calls.add(message.tool_calls)
    return "\n\n".join(
        [message.text if message.role == "user" else _result(message, numbers, calls) for message in messages[start:]]
    )


def _block(message: Message, numbers: Counter[str], calls: CallsSoFar) -> str:
    """Write one message; `numbers` counts the pictures and the documents up to it."""
    shown = "\n".join([call_block(call) for call in message.tool_calls])
    if message.role == "tool":
        text = "\n\n".join(filter(None, (_result(message, numbers, calls), shown)))
    else:
        speaker = " ".join(filter(None, (_HEADINGS[message.role], message.name)))
        about = ", ".join([speaker, *_attached(message, numbers)])
        text = f"[{about}]\n" + "\n\n".join(filter(None, (message.text, shown)))
    calls.add(message.tool_calls)
    return text


def _result(message: Message, numbers: Counter[str], calls: CallsSoFar) -> str:
    name = calls.answered_by(message).name
    return response_block(message.text, message.tool_call_id, name, ", ".join(_attached(message, numbers)))


def _attached(message: Message, numbers: Counter[str]) -> Iterator[str]:
    """Say which pictures and documents came with a message."""
    for file in message.files:
        numbers[file.kind] += 1
        yield f"{file.kind} {numbers[file.kind]}"
