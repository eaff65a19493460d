"""The events of an answer as the caller receives it: upstream's own, and those that stages add."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from bridge.answering.messages import ToolCall
from upstream.protocol.events import Event

#: The longest answer, reasoning included, that is collected or held back as a whole. Models write up to 600,000
#: characters.
MAX_WHOLE_CHARS: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ToolCalls:
    """All tool calls of an answer, in order. An answer has at most one such event, and no text after it."""

    calls: tuple[ToolCall, ...]


@dataclass(frozen=True, slots=True)
class Stopped:
    """The answer ended just before this stop string of the request."""

    stop: str


AnswerEvent: TypeAlias = Event | ToolCalls | Stopped
