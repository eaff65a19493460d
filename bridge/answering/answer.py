"""One answer as it is relayed: its batches, and the facts that are known once it has ended.

What upstream sent and what the caller received are recorded separately, since stages may cut or rewrite an answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Self

import orjson

from bridge.answering.chat import Usage
from bridge.answering.events import AnswerEvent
from bridge.answering.messages import Message, image_markdown
from bridge.answering.record import AnswerRecord
from bridge.answering.second_turn import read_whole
from bridge.answering.stages import NO_STAGES, Stages, ToolsOutcome
from bridge.answering.stages.limit import Limit
from bridge.errors import ApiError, answers_too_large, from_upstream
from upstream.answer import ArenaAnswer
from upstream.protocol.errors import Truncated, UpstreamError
from upstream.protocol.events import Event, Failure, Finish, Images, TextDeltas

#: Longer answers are searched for calls and JSON in a thread: mending malformed JSON may take a second.
_READ_IN_THREAD_CHARS: Final = 16_000

_logger: Final = logging.getLogger(__name__)


@dataclass
class Answer:
    """One answer that has begun: an async context manager that releases what the answer holds.

    Iterate over it once; `complete`, `finish_reason` and `usage()` are final after the last batch.
    """

    evaluation: str  # <origin>/c/<id>
    conversation: str  # new | follow-up | regenerate, and why
    account: str  # its label
    _upstream: ArenaAnswer
    _prompt_tokens: int
    _cached_tokens: int
    #: Called with the whole answer as the caller received it, and whether the site could regenerate it for the same
    #: turn. The result is awaited before the caller sees the end.
    _on_complete: Callable[[Message, bool], Awaitable[None] | None]
    #: Returns a future that is done once other processes know of the end, if there are any.
    _on_close: Callable[[], asyncio.Future[Any] | None]
    #: Reads back the whole text of a truncated answer; None if that is turned off.
    _recover: Callable[[], Awaitable[str | None]] | None = None
    _stages: Stages = NO_STAGES
    #: Asks the model again in the same evaluation; the caller must close the answer.
    _ask_again: Callable[[str], Awaitable[ArenaAnswer]] | None = None
    #: The maximum number of tokens for the caller; the limit among the stages sees only the first answer.
    _max_tokens: int | None = None
    #: The last batch has been returned: upstream has finished, or a stage needs no more of the answer.
    complete: bool = field(default=False, init=False)
    finish_reason: str | None = field(default=None, init=False)
    #: What upstream sent, for the statistics.
    received: AnswerRecord = field(init=False)
    #: What the caller received, for its usage and the conversation; the same record if there are no stages.
    delivered: AnswerRecord = field(init=False)
    _failure: UpstreamError | None = field(default=None, init=False)
    _refusal: ApiError | None = field(default=None, init=False)  # a stage's
    _ended: bool = field(default=False, init=False)  # nothing more is read from upstream
    _finish: Finish | None = field(default=None, init=False)  # upstream's, None if a stage ended the answer

    def __post_init__(self) -> None:
        self.received = AnswerRecord()
        self.delivered = self.received if self._stages is NO_STAGES else AnswerRecord()

    def usage(self) -> Usage:
        """Estimate the tokens so far of what the caller received."""
        return self.delivered.usage(self._prompt_tokens, self._cached_tokens)

    def upstream_usage(self) -> Usage:
        """Estimate the tokens so far of what upstream sent, for the statistics."""
        return self.received.usage(self._prompt_tokens, self._cached_tokens)

    @property
    def offers_tools(self) -> bool:
        """Whether the model was shown tools."""
        return self._stages.offers_tools

    @property
    def tools_outcome(self) -> ToolsOutcome | None:
        """The outcome of reading tool calls; None without tools, or before the answer has ended."""
        return self._stages.outcome if self._stages else None

    @property
    def dropped_chars(self) -> int:
        """How many characters around the tool calls were dropped."""
        return self._stages.dropped

    @property
    def text(self) -> str:
        """The text that the caller has received so far; '' if it was too long to keep."""
        return self.delivered.whole() or ""

    def keep(self, size: int) -> None:
        """Report how many bytes the caller buffers until the answer ends.

        Raises ApiError (503) if all answers together buffer too much.
        """
        if not self._upstream.keep(size + self._stages.size):
            raise answers_too_large()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        try:
            await self._upstream.aclose()
        finally:
            returned = self._on_close()
        if returned is not None and (error is None or isinstance(error, Exception)):
            await asyncio.wait((returned,))

    def __aiter__(self) -> Answer:
        return self

    async def __anext__(self) -> Sequence[AnswerEvent]:
        """Return the events of one read, without the terminal one; after the stages, none may be left.

        Raises ApiError if the answer fails.
        """
        if self._failure is not None:
            raise from_upstream(self._failure)
        if self._refusal is not None:
            raise self._refusal.again()
        if self.complete:
            raise StopAsyncIteration
        if self._stages.prompt is not None:
            return await self._take_second_turn()
        if self._stages.done:  # since `flow`
            return await self._end([], None)
        batch = await self._upstream.read()
        match batch[-1]:
            case Failure(error=Truncated()) if self._recover is not None:
                batch = await self._completed(batch)
        match batch[-1]:
            case Finish() as finish:
                return await self._end(self._apply_stages(batch[:-1]), finish)
            case Failure(error=error):
                self._failure = error
                return self._apply_stages(batch[:-1])
        given = self._apply_stages(batch)
        return await self._end(given, None) if self._stages.done else given

    async def flow(self, send: Callable[[Sequence[AnswerEvent]], bool]) -> None:
        """Pass each batch to `send` as soon as it arrives, for as long as `send` returns True.

        The last batch, and whatever has to be awaited, is left to the iteration. Raises what `send` raises.
        """
        if self._stages.done or self._ended:
            return

        def pass_on(batch: list[Event]) -> bool:
            given = self._apply_stages(batch)
            return (not given or send(given)) and not self._stages.done

        unchanged = self._stages is NO_STAGES
        await self._upstream.flow((lambda batch: send(self._apply_stages(batch))) if unchanged else pass_on)

    def _apply_stages(self, batch: Sequence[Event]) -> Sequence[AnswerEvent]:
        """Record a batch without terminal event; return the events that go to the caller."""
        self.received.add(batch)
        if self._stages is NO_STAGES:
            return batch
        given = self._stages.feed(batch)
        if self._stages.size:
            self.keep(0)
        self.delivered.add(given)
        return given

    async def _end(self, given: Sequence[AnswerEvent], finish: Finish | None) -> Sequence[AnswerEvent]:
        """End the answer, by upstream's `finish`, or without one because a stage is done.

        Return the last events for the caller, after those that the same read has `given`.
        """
        self._ended, self._finish = True, finish
        if self._stages is NO_STAGES:
            return await self._conclude(given)
        if finish is None:
            await self._upstream.aclose()
        reason, complete = finish.reason if finish else None, finish is not None
        rest = await self._read(self._stages.size, partial(self._stages.end, reason, complete=complete))
        self.delivered.add(rest)
        batch = [*given, *rest]
        if self._stages.prompt is None:
            return await self._conclude(batch)
        return batch or await self._take_second_turn()

    async def _take_second_turn(self) -> Sequence[AnswerEvent]:
        """Ask the model again as often as a stage wants it; return the resulting events for the caller."""
        batch: list[AnswerEvent] = []
        while (prompt := self._stages.prompt) is not None:
            text = await self._read_second_answer(prompt)
            batch += await self._read(len(text or ""), partial(self._stages.repaired, text))
        self.delivered.add(batch)
        return await self._conclude(batch)

    async def _read(self, chars: int, stages: Callable[[], list[AnswerEvent]]) -> list[AnswerEvent]:
        """Let the stages read an answer of `chars` characters, in a thread if that could block the event loop."""
        return await asyncio.to_thread(stages) if chars > _READ_IN_THREAD_CHARS else stages()

    async def _conclude(self, batch: Sequence[AnswerEvent]) -> Sequence[AnswerEvent]:
        """Mark the answer complete and remember it, or keep a stage's refusal; return the last `batch`."""
        stages, finish = self._stages, self._finish
        self.finish_reason = finish.reason if finish else None
        faithful = regenerable = True
        if stages:
            self._refusal = stages.error
            if self._refusal is not None:
                if not batch:
                    raise self._refusal.again()
                return batch
            self.finish_reason = stages.finish_reason(self.finish_reason)
            faithful, regenerable = stages.faithful, stages.regenerable
        self.complete = True
        whole = self.delivered.whole()
        if finish is not None and whole is not None and faithful:
            # Before the caller sees the end, because its next turn may follow immediately.
            answer = Message("assistant", whole, tool_calls=self.delivered.calls)
            remembered = self._on_complete(answer, regenerable)
            if remembered is not None:
                await remembered
        return batch

    async def _read_second_answer(self, prompt: str) -> str | None:
        """Ask the model again; return its whole answer, or None if there is none.

        The caller keeps what it has received, so an error here does not fail its request.
        """
        limit = (
            None
            if self._max_tokens is None
            else Limit(max(0, self._max_tokens - self.delivered.usage(0, 0).completion))
        )
        if self._ask_again is None:
            return None
        await self._upstream.aclose()  # the site takes only one turn of an evaluation at a time
        try:
            answer = await self._ask_again(prompt)
        except (UpstreamError, ApiError) as error:
            _logger.info("the model could not be asked again: %s", error)
            return None
        return await read_whole(answer, self.received, limit)

    async def _completed(self, batch: list[Event]) -> list[Event]:
        """Replace the failure of a truncated answer by the rest of its text, if the site has it."""
        recover, self._recover = self._recover, None
        sent = self.received.whole()
        if recover is None or sent is None:
            return batch
        events = batch[:-1]
        if not (sent or any(isinstance(event, TextDeltas) for event in events)):
            return batch
        whole = await recover()
        if whole is None:
            return batch
        if not whole.startswith(sent + _text_of(events)) and _is_half(events[-1:]):
            del events[-1]  # the whole character is part of the rest
        sent += _text_of(events)
        if not whole.startswith(sent):
            return batch
        rest = whole[len(sent) :]
        recovered: list[Event] = [TextDeltas(rest, orjson.dumps(rest))] if rest else []
        return [*events, *recovered, Finish("stop")]


def _text_of(events: Iterable[Event]) -> str:
    """The text of some events, as `AnswerRecord` keeps it."""
    return "".join(
        event.text if isinstance(event, TextDeltas) else image_markdown(event.urls)
        for event in events
        if isinstance(event, TextDeltas | Images)
    )


def _is_half(events: Sequence[Event]) -> bool:
    """Whether these events are the U+FFFD that `upstream.protocol.wire` makes of half a surrogate pair."""
    match events:
        case [TextDeltas(text="\ufffd")]:
            return True
    return False
