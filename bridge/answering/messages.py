"""The messages of a chat, of whichever front API they came by: immutable, valid once built."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from operator import attrgetter
from typing import Final, Literal, NamedTuple, TypeAlias

from upstream.protocol.events import Image
from upstream.protocol.files import File

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]


ToolKind: TypeAlias = Literal["function", "custom"]


class ToolCall(NamedTuple):
    """A tool that an assistant message called.

    `arguments` is a JSON text, or the free text that a custom tool takes.
    """

    id: str
    name: str
    arguments: str
    kind: ToolKind = "function"


class Message(NamedTuple):
    """One message. `text` is its text parts, joined by newlines; `name` is the participant's, if it has one.

    A message of role `tool` is a result: `tool_call_id` says of which call, or `name` of which tool.

    A tuple, since a history has hundreds, and a frozen dataclass takes longer to make.
    """

    role: Role
    text: str
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    files: tuple[File, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Nothing but a role and a text, as nearly all are."""
        return self[2:] == _PLAIN

    @property
    def is_prompt(self) -> bool:
        """A user's text, with files or without: it can be sent as it is, for upstream has no place for more."""
        return self.role == "user" and self[2:-1] == _PLAIN[:-1]

    def without_pictures(self) -> Message:
        """The same for a model that sees no pictures: documents stay."""
        return self._replace(files=tuple(file for file in self.files if file.kind != "picture")) if self.files else self


#: What stands behind the role and the text of a plain message.
_PLAIN: Final = Message("user", "")[2:]

#: Read from each message of a long history, several times: `map` takes a third of a comprehension's time.
_TEXT: Final[Callable[[Message], str]] = attrgetter("text")
_CALLS: Final[Callable[[Message], tuple[ToolCall, ...]]] = attrgetter("tool_calls")
_FILES: Final[Callable[[Message], tuple[File, ...]]] = attrgetter("files")


def join_answers(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Write each answer as one message: its calls may have come as messages of their own, behind that with its text.

    An empty message of the assistant beside another is none: agents keep it of a stream that broke off at once.
    """
    if all(map(_TEXT, messages)) and not any(map(_CALLS, messages)):
        return messages
    joined: list[Message] = []
    for message in messages:
        before = joined[-1] if joined else None
        if (
            before is None
            or not before.role == message.role == "assistant"
            or before.name != message.name
            or not (_is_without_text(before) or _is_without_text(message))
        ):
            joined.append(message)
        elif _is_without_text(message):
            joined[-1] = before._replace(tool_calls=before.tool_calls + message.tool_calls)
        elif before.tool_calls:
            joined.append(message)
        else:
            joined[-1] = message
    return tuple(joined)


def _is_without_text(message: Message) -> bool:
    return not (message.text.strip() or message.files)


def start_of_turn(messages: Sequence[Message]) -> int:
    """Where the messages behind the last assistant's begin."""
    start = len(messages)
    while start and messages[start - 1].role != "assistant":
        start -= 1
    return start


def files_of(messages: Iterable[Message]) -> tuple[File, ...]:
    """All pictures and documents of the messages, in order."""
    return tuple(chain.from_iterable(map(_FILES, messages)))


def calls_of(messages: Iterable[Message]) -> tuple[ToolCall, ...]:
    """All calls of the messages, in order."""
    return tuple(chain.from_iterable(map(_CALLS, messages)))


def bytes_of(messages: Sequence[Message]) -> int:
    """What their texts and files take of memory, in bytes, roughly: a character counts as one."""
    return sum(map(len, map(_TEXT, messages))) + sum([len(file.data) for file in files_of(messages)])


def markdown(images: Iterable[Image]) -> str:
    """Generated images as the text of a chat shows them."""
    return "".join(f"![image]({image.url})\n" for image in images)
