"""The messages of a chat, independent of the API that they came through; immutable, and valid once built."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from operator import attrgetter
from typing import Final, Literal, NamedTuple, TypeAlias

from upstream.protocol.files import File

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]


ToolKind: TypeAlias = Literal["function", "custom"]


class ToolCall(NamedTuple):
    """A tool call of an assistant message. `arguments` is JSON, or the free text for a custom tool."""

    id: str
    name: str
    arguments: str
    kind: ToolKind = "function"


class Message(NamedTuple):
    """One message. `text` joins its text parts by newlines; `name` is the participant's name, if there is one.

    A message of role `tool` is a result; it names its call by `tool_call_id`, or its tool by `name`.

    A named tuple, because histories have hundreds of messages and frozen dataclasses are slower to create.
    """

    role: Role
    text: str
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    files: tuple[File, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether the message has only a role and a text, as most do."""
        return self[2:] == _PLAIN

    @property
    def is_prompt(self) -> bool:
        """Whether it is a user's text, with or without files, which can be sent upstream without a heading."""
        return self.role == "user" and self[2:-1] == _PLAIN[:-1]

    def without_pictures(self) -> Message:
        """Copy the message for a model that takes no pictures; documents stay."""
        return self._replace(files=tuple(file for file in self.files if file.kind != "picture")) if self.files else self


#: The fields after role and text, as a plain message has them.
_PLAIN: Final = Message("user", "")[2:]

#: Used on each message of long histories: `map` takes a third of the time of a comprehension.
_TEXT: Final[Callable[[Message], str]] = attrgetter("text")
_CALLS: Final[Callable[[Message], tuple[ToolCall, ...]]] = attrgetter("tool_calls")
_FILES: Final[Callable[[Message], tuple[File, ...]]] = attrgetter("files")


def join_answers(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Merge the messages of each answer into one, since its calls may be messages of their own after the text.

    An empty assistant message next to another one is dropped; agents keep those of streams that broke off at once.
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
    """Return the index of the first message after the assistant's last one."""
    start = len(messages)
    while start and messages[start - 1].role != "assistant":
        start -= 1
    return start


def files_of(messages: Iterable[Message]) -> tuple[File, ...]:
    """Collect all pictures and documents of the messages, in order."""
    return tuple(chain.from_iterable(map(_FILES, messages)))


def calls_of(messages: Iterable[Message]) -> tuple[ToolCall, ...]:
    """Collect all calls of the messages, in order."""
    return tuple(chain.from_iterable(map(_CALLS, messages)))


def bytes_of(messages: Sequence[Message]) -> int:
    """Estimate the memory that the messages' texts and files take, in bytes; a character counts as one."""
    return sum(map(len, map(_TEXT, messages))) + sum([len(file.data) for file in files_of(messages)])


def image_markdown(urls: Iterable[str]) -> str:
    """Write generated images as Markdown, for the text of an answer."""
    return "".join(f"![image]({url})\n" for url in urls)
