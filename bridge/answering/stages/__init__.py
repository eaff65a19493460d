"""Stages: transformations of an answer between upstream and the encoder.

    upstream ─▶ batch ─▶ [stage ─▶ stage …] ─▶ batch ─▶ encoder          without stages, batches pass unchanged

Stages are synchronous and do no I/O: each batch passes through all of them in one callback. Most requests have none.
When the answer has ended, a reading stage may have the model asked again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Final, Protocol, TypeAlias

from bridge.answering.events import AnswerEvent
from bridge.errors import ApiError

#: Finish reasons of an incomplete answer: what is cut off is neither repaired nor asked for again.
CUT: Final = ("length", "content-filter")


class ToolsOutcome(StrEnum):
    """The outcome of reading tool calls, from best to worst; callers see the values."""

    CALLED = "called"
    REPAIRED = "repaired"
    NONE = "none"
    UNPARSED = "unparsed"


class Stage(Protocol):
    """Transforms one answer. Batches have no terminal event; an answer ends with a call of `end`, or with an error."""

    #: Whether nothing more of the answer is needed, so that upstream can be closed.
    done: bool
    #: The finish reason that this stage gives the answer; None to keep upstream's.
    finish_reason: str | None
    #: Whether the caller received what the evaluation holds, so that the conversation can continue there.
    faithful: bool

    def feed(self, batch: Sequence[AnswerEvent]) -> list[AnswerEvent]:
        """Take a batch; return the events to pass on now."""

    def end(self) -> list[AnswerEvent]:
        """Return what is still held back, once the answer is complete, or this stage or a later one is `done`."""


class ReadingStage(ABC):
    """A stage that interprets the whole answer: it may hold text back, have the model asked again, or refuse it."""

    done: bool = False
    finish_reason: str | None = None
    faithful: bool = True
    #: Whether the site's "regenerate" would produce another answer to what the caller asked.
    regenerable: bool = True
    #: The prompt for one more turn; None if the answer is good or cannot be repaired.
    prompt: str | None = None
    #: The reason why the answer fails, at its beginning or at its end.
    error: ApiError | None = None
    #: Set by the stage that reads tool calls, once the answer has ended.
    outcome: ToolsOutcome | None = None
    #: Whether this stage reads tool calls.
    offers_tools: bool = False
    #: The number of characters that the caller does not receive, being neither text nor part of a call.
    dropped: int = 0
    #: The number of characters kept until the answer has ended, because they are held back or checked then.
    size: int = 0

    @abstractmethod
    def feed(self, batch: Sequence[AnswerEvent]) -> list[AnswerEvent]:
        """Take a batch; return the events to pass on now."""

    @abstractmethod
    def conclude(self, *, cut: bool, may_ask: bool) -> list[AnswerEvent]:
        """Interpret the answer, which has ended; return the remaining events. May set `prompt` if `may_ask`.

        If the answer is `cut` off, nothing is repaired, and the model is not asked again.
        """

    @abstractmethod
    def repaired(self, text: str | None) -> list[AnswerEvent]:
        """Interpret the answer to `prompt`, None if it is incomplete; return the remaining events."""


AnyStage: TypeAlias = Stage | ReadingStage

#: Creates a stage; each answer to a request needs its own.
StageMaker: TypeAlias = Callable[[], AnyStage]


class Stages:
    """The stages of one answer, in order; the model may be asked again up to `repairs` times.

    When the answer has ended, call `end`, then `repaired` for as long as there is a `prompt`.
    """

    __slots__ = ("_asking", "_cut", "_readers", "_repairs", "_stages")

    def __init__(self, makers: Iterable[StageMaker], repairs: int = 0) -> None:
        self._stages: Sequence[AnyStage] = tuple([make() for make in makers])
        self._readers = [stage for stage in self._stages if isinstance(stage, ReadingStage)]
        self._repairs = repairs
        self._asking: int | None = None  # the index of the stage that wants another turn
        self._cut = False

    def __bool__(self) -> bool:
        return bool(self._stages)

    @property
    def done(self) -> bool:
        """Whether nothing more of the answer is needed."""
        for stage in self._stages:  # noqa: SIM110 — runs for each batch, and a generator is slower
            if stage.done:
                return True
        return False

    @property
    def faithful(self) -> bool:
        """Whether the evaluation holds what the caller received."""
        return all(stage.faithful for stage in self._stages)

    @property
    def regenerable(self) -> bool:
        """Whether the site's "regenerate" would produce another answer to what the caller asked."""
        return all(reader.regenerable for reader in self._readers)

    @property
    def size(self) -> int:
        """The number of characters kept until the answer has ended."""
        return sum([reader.size for reader in self._readers])

    @property
    def error(self) -> ApiError | None:
        """The reason why the answer fails, once it has ended."""
        return next((reader.error for reader in self._readers if reader.error is not None), None)

    @property
    def outcome(self) -> ToolsOutcome | None:
        """The outcome of reading tool calls; None without tools, or before the answer has ended."""
        return next((reader.outcome for reader in self._readers if reader.outcome is not None), None)

    @property
    def offers_tools(self) -> bool:
        """Whether the model was shown tools."""
        return any(reader.offers_tools for reader in self._readers)

    @property
    def dropped(self) -> int:
        """The number of characters that are neither text nor part of a call."""
        return sum([reader.dropped for reader in self._readers])

    @property
    def prompt(self) -> str | None:
        """The prompt for one more turn, which the answer needs before it is complete; None if it needs none."""
        if self._asking is None:
            return None
        stage = self._stages[self._asking]
        return stage.prompt if isinstance(stage, ReadingStage) else None

    def finish_reason(self, upstreams: str | None) -> str | None:
        """Return the finish reason of the last stage that has one, otherwise upstream's."""
        reasons = [stage.finish_reason for stage in self._stages if stage.finish_reason is not None]
        return reasons[-1] if reasons else upstreams

    def feed(self, batch: Sequence[AnswerEvent]) -> Sequence[AnswerEvent]:
        """Pass a batch through all stages."""
        for stage in self._stages:
            batch = stage.feed(batch)
        return batch

    def end(self, upstreams: str | None, *, complete: bool) -> list[AnswerEvent]:
        """End the stages in order; what one has held back passes through those after it.

        `complete` says that upstream has finished the answer, with the finish reason `upstreams`. If a stage wants
        another turn, those after it are not ended yet.
        """
        self._cut = not complete or upstreams in CUT or self.done
        return self._end_from(0, [])

    def repaired(self, text: str | None) -> list[AnswerEvent]:
        """Continue with the answer to `prompt`, None if it is incomplete."""
        index, self._asking = self._asking, None
        if index is None:
            return []
        stage = self._stages[index]
        batch: list[AnswerEvent] = []
        if isinstance(stage, ReadingStage):
            stage.prompt = None
            batch = stage.repaired(text)
        return self._end_from(index + 1, batch)

    def _end_from(self, first: int, batch: list[AnswerEvent]) -> list[AnswerEvent]:
        for index in range(first, len(self._stages)):
            stage = self._stages[index]
            batch = stage.feed(batch) if batch else []
            if not isinstance(stage, ReadingStage):
                batch += stage.end()
                continue
            batch += stage.conclude(cut=self._cut, may_ask=self._repairs > 0)
            if stage.prompt is not None:
                self._repairs -= 1
                self._asking = index
                for later in self._stages[index + 1 :]:
                    batch = later.feed(batch)
                return batch
        return batch


#: For answers that are passed on unchanged, as most are. It has no state, so all of them share it.
NO_STAGES: Final = Stages(())
