"""Stages: what changes an answer between upstream and its encoder.

    upstream ─▶ batch ─▶ [stage ─▶ stage …] ─▶ batch ─▶ encoder          no stage: the batch passes as it came

A stage is synchronous and knows no socket: each batch that comes goes through all of them in the same callback. Most
requests have none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeAlias

from bridge.answering.events import AnswerEvent


class Stage(Protocol):
    """Changes one answer. Batches hold no terminal event: how an answer ends is told by `end` or by an error."""

    #: The caller needs nothing more: upstream may be closed now.
    done: bool
    #: The finish reason that the answer has because of this stage; None for upstream's own.
    finish_reason: str | None
    #: What the caller was told says the same as what the evaluation holds, so that the conversation may go on there.
    faithful: bool

    def feed(self, batch: Sequence[AnswerEvent]) -> list[AnswerEvent]:
        """Take a batch; return what of it, and of what was held back, goes on now."""

    def end(self) -> list[AnswerEvent]:
        """Return what is still held back: the answer is complete, or this stage or a later one is `done`."""


#: Makes a request's stage: one for each answer, since it may be asked for again.
StageMaker: TypeAlias = Callable[[], Stage]


class Stages:
    """The stages of one answer, in their order."""

    __slots__ = ("_stages",)

    def __init__(self, makers: Iterable[StageMaker]) -> None:
        self._stages: Sequence[Stage] = tuple([make() for make in makers])

    def __bool__(self) -> bool:
        return bool(self._stages)

    @property
    def done(self) -> bool:
        """The caller needs nothing more."""
        return any(stage.done for stage in self._stages)

    @property
    def faithful(self) -> bool:
        """The evaluation holds what the caller was told."""
        return all(stage.faithful for stage in self._stages)

    def finish_reason(self, upstreams: str | None) -> str | None:
        """The reason for which the answer ends, where upstream gives `upstreams`: the last stage's that has one."""
        reasons = [stage.finish_reason for stage in self._stages if stage.finish_reason is not None]
        return reasons[-1] if reasons else upstreams

    def feed(self, batch: Sequence[AnswerEvent]) -> Sequence[AnswerEvent]:
        """Send a batch through all stages."""
        for stage in self._stages:
            batch = stage.feed(batch)
        return batch

    def end(self) -> list[AnswerEvent]:
        """End the stages in their order: what one has held back goes through those after it."""
        batch: list[AnswerEvent] = []
        for stage in self._stages:
            batch = (stage.feed(batch) if batch else []) + stage.end()
        return batch
