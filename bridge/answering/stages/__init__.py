"""Stages: what changes an answer between upstream and its encoder.

    upstream ─▶ batch ─▶ [stage ─▶ stage …] ─▶ batch ─▶ encoder          no stage: the batch passes as it came

A stage is synchronous and knows no socket: each batch that comes goes through all of them in the same callback. Most
requests have none. A reading stage may, when the answer has ended, want the model to be asked once more.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Final, Protocol, TypeAlias

from bridge.answering.events import AnswerEvent
from bridge.errors import ApiError

#: Finish reasons of an answer that is not whole: what it breaks off in is neither repaired nor asked for again.
CUT: Final = ("length", "content-filter")


class ToolsOutcome(StrEnum):
    """What became of the tools that a request brought, from the best to the worst; callers see the word."""

    CALLED = "called"
    REPAIRED = "repaired"
    NONE = "none"
    UNPARSED = "unparsed"


class Stage(Protocol):
    """Changes one answer. Batches hold no terminal event: how an answer ends is told by `end` or by an error."""

    #: The caller needs nothing more: upstream may be closed now.
    done: bool
    #: The finish reason that the answer has because of this stage; None for upstream's own.
    finish_reason: str | None
    #: What the caller was given says the same as what the evaluation holds, so that the conversation may go on there.
    faithful: bool

    def feed(self, batch: Sequence[AnswerEvent]) -> list[AnswerEvent]:
        """Take a batch; return what of it, and of what was held back, goes on now."""

    def end(self) -> list[AnswerEvent]:
        """Return what is still held back: the answer is complete, or this stage or a later one is `done`."""


class ReadingStage(ABC):
    """A stage that reads what the whole answer says: it may hold much back, ask once more, or refuse the answer."""

    done: bool = False
    finish_reason: str | None = None
    faithful: bool = True
    #: What the caller was given can be obtained again by asking the site for another answer to the same turn.
    regenerable: bool = True
    #: What the model is to be asked in one more turn; None where the answer is good, or nothing more can be done.
    prompt: str | None = None
    #: Why the caller gets no answer, or no good end of one.
    error: ApiError | None = None
    #: Only a stage that reads tool calls has one, once the answer has ended.
    outcome: ToolsOutcome | None = None
    #: It was given tools whose calls it reads.
    offers_tools: bool = False
    #: Characters of the answer that the caller is not given, since they are neither text nor call.
    dropped: int = 0
    #: Characters that are kept until the answer has ended: held back, or to be checked then.
    size: int = 0

    @abstractmethod
    def feed(self, batch: Sequence[AnswerEvent]) -> list[AnswerEvent]:
        """Take a batch; return what of it, and of what was held back, goes on now."""

    @abstractmethod
    def conclude(self, *, cut: bool, may_ask: bool) -> list[AnswerEvent]:
        """Read the answer, which has ended; return what goes on. It may set `prompt` where that is allowed.

        `cut` says that the answer breaks off: nothing of it is repaired, and nothing more is asked for.
        """

    @abstractmethod
    def repaired(self, text: str | None) -> list[AnswerEvent]:
        """Read the answer to `prompt`, None where there was no whole one; return what goes on."""


AnyStage: TypeAlias = Stage | ReadingStage

#: Makes a request's stage: one for each answer, since it may be asked for again.
StageMaker: TypeAlias = Callable[[], AnyStage]


class Stages:
    """The stages of one answer, in their order; up to `repairs` times the model may be asked once more.

    When the answer has ended, call `end`, then `repaired` as long as there is a `prompt`.
    """

    __slots__ = ("_asking", "_cut", "_readers", "_repairs", "_stages")

    def __init__(self, makers: Iterable[StageMaker], repairs: int = 0) -> None:
        self._stages: Sequence[AnyStage] = tuple([make() for make in makers])
        self._readers = [stage for stage in self._stages if isinstance(stage, ReadingStage)]
        self._repairs = repairs
        self._asking: int | None = None  # the place of the stage that wants another turn
        self._cut = False

    def __bool__(self) -> bool:
        return bool(self._stages)

    @property
    def done(self) -> bool:
        """The caller needs nothing more."""
        for stage in self._stages:  # noqa: SIM110 — asked for each batch; a generator is slower
            if stage.done:
                return True
        return False

    @property
    def faithful(self) -> bool:
        """The evaluation holds what the caller was given."""
        return all(stage.faithful for stage in self._stages)

    @property
    def regenerable(self) -> bool:
        """The site's own way of answering a turn again would answer the caller's."""
        return all(reader.regenerable for reader in self._readers)

    @property
    def size(self) -> int:
        """Characters that are kept until the answer has ended."""
        return sum([reader.size for reader in self._readers])

    @property
    def error(self) -> ApiError | None:
        """Why the answer is refused, now that it has ended."""
        return next((reader.error for reader in self._readers if reader.error is not None), None)

    @property
    def outcome(self) -> ToolsOutcome | None:
        """What became of the request's tools; None without tools, or before the answer has ended."""
        return next((reader.outcome for reader in self._readers if reader.outcome is not None), None)

    @property
    def offers_tools(self) -> bool:
        """The model was shown tools."""
        return any(reader.offers_tools for reader in self._readers)

    @property
    def dropped(self) -> int:
        """Characters of the answer that are neither text nor call."""
        return sum([reader.dropped for reader in self._readers])

    @property
    def prompt(self) -> str | None:
        """What the model is to be asked now, before the answer is complete."""
        if self._asking is None:
            return None
        stage = self._stages[self._asking]
        return stage.prompt if isinstance(stage, ReadingStage) else None

    def finish_reason(self, upstreams: str | None) -> str | None:
        """The reason for which the answer ends, where upstream gives `upstreams`: the last stage's that has one."""
        reasons = [stage.finish_reason for stage in self._stages if stage.finish_reason is not None]
        return reasons[-1] if reasons else upstreams

    def feed(self, batch: Sequence[AnswerEvent]) -> Sequence[AnswerEvent]:
        """Send a batch through all stages."""
        for stage in self._stages:
            batch = stage.feed(batch)
        return batch

    def end(self, upstreams: str | None, *, complete: bool) -> list[AnswerEvent]:
        """End the stages in their order: what one has held back goes through those after it.

        `complete` says that upstream has ended the answer, for the reason `upstreams`. Where a stage wants another turn
        those after it are not ended yet.
        """
        self._cut = not complete or upstreams in CUT or self.done
        return self._end_from(0, [])

    def repaired(self, text: str | None) -> list[AnswerEvent]:
        """Go on with the answer to `prompt`; None where there was no whole one."""
        place, self._asking = self._asking, None
        if place is None:
            return []
        stage = self._stages[place]
        batch: list[AnswerEvent] = []
        if isinstance(stage, ReadingStage):
            stage.prompt = None
            batch = stage.repaired(text)
        return self._end_from(place + 1, batch)

    def _end_from(self, place: int, batch: list[AnswerEvent]) -> list[AnswerEvent]:
        for at in range(place, len(self._stages)):
            stage = self._stages[at]
            batch = stage.feed(batch) if batch else []
            if not isinstance(stage, ReadingStage):
                batch += stage.end()
                continue
            batch += stage.conclude(cut=self._cut, may_ask=self._repairs > 0)
            if stage.prompt is not None:
                self._repairs -= 1
                self._asking = at
                for later in self._stages[at + 1 :]:
                    batch = later.feed(batch)
                return batch
        return batch


#: Of an answer that is passed on as it came, as most are. It has no state, so all such answers share it.
NO_STAGES: Final = Stages(())
