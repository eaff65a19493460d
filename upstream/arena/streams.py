"""A streamed answer: the steps to perform, and their source."""

from __future__ import annotations

from dataclasses import dataclass

from upstream.arena.recording import AnswerRecorder
from upstream.arena.steps import Flow


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer in steps; `recorder` (None except for a model's answer) must get each byte before it is sent.

    If a fault changes the answer, `steps` wraps `source`; both must be closed. With `bursts`, consecutive lines may
    share a write, since their source never waits.
    """

    steps: Flow
    source: Flow
    bursts: bool = True
    recorder: AnswerRecorder | None = None
