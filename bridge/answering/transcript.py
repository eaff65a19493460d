"""A list of messages as one prompt, for a new evaluation: LMArena takes text, not roles.

Texts stand verbatim and in order; only the headings between them are ours. Leading system messages are joined,
later ones keep their place. A single user message is sent as it is, behind the system text. Pictures and documents go
along as attachments, in order; where there are several messages, headings say which message brought which.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import takewhile

from bridge.answering.messages import Message

_HEADINGS = {"system": "System", "user": "User", "assistant": "Assistant", "tool": "Tool result"}
_PLAIN_HEADINGS = {role: f"[{heading}]\n" for role, heading in _HEADINGS.items()}


def prompt(messages: Sequence[Message]) -> str:
    """Write the messages as one text that shows a model all of them."""
    leading = list(takewhile(lambda message: message.role == "system" and message.is_plain, messages))
    spoken = messages[len(leading) :]
    blocks = [message.text for message in leading if message.text]
    if len(spoken) == 1 and spoken[0].is_prompt:
        blocks.append(spoken[0].text)
    elif spoken:
        blocks.append("[The conversation so far. Answer its last message.]")
        numbers = Counter[str]()
        for message in spoken:
            if message.is_plain:
                blocks.append(_PLAIN_HEADINGS[message.role] + message.text)
            else:
                blocks.extend(_blocks(message, numbers))
    return "\n\n".join(blocks)


def _blocks(message: Message, numbers: Counter[str]) -> Iterator[str]:
    """Write one message; `numbers` counts the pictures and the documents up to it."""
    if message.text or message.files or not message.tool_calls:
        about = " ".join(filter(None, (_HEADINGS[message.role], message.name)))
        if message.tool_call_id:
            about += f" ({message.tool_call_id})"
        for file in message.files:
            numbers[file.kind] += 1
            about += f", {file.kind} {numbers[file.kind]}"
        yield f"[{about}]\n{message.text}"
    for call in message.tool_calls:
        yield f"[Assistant calls the tool {call.name} ({call.id})]\n{call.arguments}"
