"""What a caller is told: upstream's events, and the tool calls that a stage has read out of its text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from bridge.answering.messages import ToolCall
from upstream.protocol.events import Event


@dataclass(frozen=True, slots=True)
class ToolCalls:
    """All calls of an answer, in order; at most one such event in each answer, and no text after it."""

    calls: tuple[ToolCall, ...]


AnswerEvent: TypeAlias = Event | ToolCalls
