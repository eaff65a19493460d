"""Writing a list of messages as one prompt, since LMArena takes a text without roles.

Texts are kept verbatim and in order, with headings between them. Instructions about tools and formats come first.
Leading system messages are joined; later ones keep their place. A single user message follows the system text without a
heading. Pictures and documents are sent as attachments, in order; if there are several messages, the headings say which
of them each file belongs to.

A follow-up, for an evaluation that already holds the history, has only the messages after the last answer.
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

#: What the model is asked to do, by the role of the last message.
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
    """Write all messages as one text, after `instructions`."""
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


def shorten(messages: tuple[Message, ...], instructions: str, max_chars: int) -> tuple[Message, ...]:
    """Drop as few of the oldest messages as it takes to make a prompt of at most `max_chars`.

    Leading system messages are kept, and so is the last message, even if it is too long by itself.
    """
    leading = len(list(takewhile(lambda message: message.role == "system", messages)))
    droppable = len(messages) - leading - 1
    if droppable <= 0:
        return messages

    def fits(dropped: int) -> bool:
        return len(prompt(messages[:leading] + messages[leading + dropped :], instructions)) <= max_chars

    # Start close to the result, so that few prompts are built, and none much too long: that would block the event loop.
    low = high = _too_many(messages[leading:-1], max_chars - len(messages[-1].text))
    step = 1
    while high < droppable and not fits(high):
        low, high, step = high + 1, min(droppable, high + step), 2 * step
    while low < high:
        middle = (low + high) // 2
        if fits(middle):
            high = middle
        else:
            low = middle + 1
    return messages[:leading] + messages[leading + high :] if high else messages


def _too_many(messages: Sequence[Message], max_chars: int) -> int:
    """Return a lower bound for the number of messages to drop so that the others fit into `max_chars`."""
    for number in range(len(messages) - 1, -1, -1):
        message = messages[number]
        max_chars -= len(message.text)
        if message.role in ("user", "assistant"):
            max_chars -= len("\n\n") + len(_PLAIN_HEADINGS[message.role] if message.is_plain else "")
        if max_chars < 0:
            return number + 1
    return 0


def follow_up(messages: Sequence[Message]) -> str:
    """Write the messages after the last answer: the results of its calls, and a user's text without a heading."""
    calls, numbers = CallsSoFar(), Counter[str]()
    start = start_of_turn(messages)
    for message in messages[:start]:
        calls.add(message.tool_calls)
    return "\n\n".join(
        [message.text if message.role == "user" else _result(message, numbers, calls) for message in messages[start:]]
    )


def _block(message: Message, numbers: Counter[str], calls: CallsSoFar) -> str:
    """Write one message; `numbers` has the count of pictures and of documents before it."""
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
    """Name the pictures and documents of a message, by their number in the prompt."""
    for file in message.files:
        numbers[file.kind] += 1
        yield f"{file.kind} {numbers[file.kind]}"
