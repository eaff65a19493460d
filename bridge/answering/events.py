"""What a caller is given: upstream's events, and the tool calls that a stage has read out of its text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from bridge.answering.messages import ToolCall
from upstream.protocol.events import Event

#: An answer that is collected or held back as a whole, its reasoning included, in characters. The longest that models
#: write have 600,000.
MAX_WHOLE_CHARS: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ToolCalls:
    """All calls of an answer, in order; at most one such event in each answer, and no text after it."""

    calls: tuple[ToolCall, ...]


@dataclass(frozen=True, slots=True)
class Stopped:
    """The answer ends before this stop string of the request."""

    stop: str


AnswerEvent: TypeAlias = Event | ToolCalls | Stopped
