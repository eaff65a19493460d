"""One answer as it is relayed: its batches, and what is to be known when it has ended.

What upstream sent and what the caller was given are two records: stages may cut or rewrite an answer."""

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
from bridge.answering.messages import Message, markdown
from bridge.answering.record import AnswerRecord
from bridge.answering.second_turn import read_whole
from bridge.answering.stages import NO_STAGES, Stages, ToolsOutcome
from bridge.answering.stages.limit import Limit
from bridge.errors import ApiError, answers_too_large, from_upstream
from upstream.answer import ArenaAnswer
from upstream.protocol.errors import Truncated, UpstreamError
from upstream.protocol.events import Event, Failure, Finish, Images, TextDeltas

#: Longer answers are read for calls and JSON in a thread: mending what is nearly JSON may take a second.
_READ_IN_THREAD_CHARS: Final = 16_000

_logger: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class Answer:
    """One answer that has begun, as a context that lets go of all that it holds.

    Iterate it once; `complete`, `finish_reason` and `usage()` are true when that has ended.
    """

    evaluation: str  # <origin>/c/<id>
    conversation: str  # new | follow-up | regenerate, and why
    account: str  # its label
    _upstream: ArenaAnswer
    _prompt_tokens: int
    _cached_tokens: int
    #: Called with the whole answer as the caller was given it, and whether the site can give another one to the same
    #: turn; what it returns is awaited before the caller sees the end.
    _on_complete: Callable[[Message, bool], Awaitable[None] | None]
    #: Returns what is to be waited for until other processes know of the end, if anything.
    _on_close: Callable[[], asyncio.Future[Any] | None]
    #: Reads back the whole text of an answer that broke off; None where that is not wanted.
    _recover: Callable[[], Awaitable[str | None]] | None = None
    _stages: Stages = NO_STAGES
    #: Asks the model once more, in the same evaluation; the answer is the caller's to close.
    _ask_again: Callable[[str], Awaitable[ArenaAnswer]] | None = None
    #: The most tokens that the caller is to be given; the stages' limit sees only the first answer.
    _max_tokens: int | None = None
    #: The last batch has been returned: upstream's answer is complete, or a stage needs nothing more of it.
    complete: bool = False
    finish_reason: str | None = None
    #: What upstream sent, for the statistics.
    received: AnswerRecord = field(default_factory=AnswerRecord)
    #: What the caller was given, for its usage and the conversation; the same record where there is no stage.
    delivered: AnswerRecord = field(init=False)
    _failure: UpstreamError | None = None
    _refusal: ApiError | None = None  # a stage's
    _ended: bool = False  # upstream's part of it
    _finish: Finish | None = None  # how, if not by a stage

    def __post_init__(self) -> None:
        self.delivered = self.received if self._stages is NO_STAGES else AnswerRecord()

    def usage(self) -> Usage:
        """Estimate the tokens so far of what the caller was given."""
        return self.delivered.usage(self._prompt_tokens, self._cached_tokens)

    def upstream_usage(self) -> Usage:
        """Estimate the tokens so far of what upstream sent, for the statistics."""
        return self.received.usage(self._prompt_tokens, self._cached_tokens)

    @property
    def offers_tools(self) -> bool:
        """The model was shown tools."""
        return self._stages.offers_tools

    @property
    def tools_outcome(self) -> ToolsOutcome | None:
        """What became of the request's tools; None without tools, or before the answer has ended."""
        return self._stages.outcome if self._stages else None

    @property
    def dropped_chars(self) -> int:
        """What of the answer stood around calls and reached nobody, in characters."""
        return self._stages.dropped

    @property
    def text(self) -> str:
        """The text so far as the caller was given it; '' where it was too long to keep."""
        return self.delivered.whole() or ""

    def keep(self, size: int) -> None:
        """Say how many bytes of this answer are kept until it ends. Raises ApiError (503): too much of all answers."""
        if not self._upstream.keep(size + self._stages.size):
            raise answers_too_large()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        try:
            await self._upstream.aclose()
        finally:
            given_back = self._on_close()
        if given_back is not None and (error is None or isinstance(error, Exception)):
            await asyncio.wait((given_back,))

    def __aiter__(self) -> Answer:
        return self

    async def __anext__(self) -> Sequence[AnswerEvent]:
        """Return what one read held, without its terminal event; stages may leave nothing of it.

        Raises ApiError where the answer breaks.
        """
        if self._failure is not None:
            raise from_upstream(self._failure)
        if self._refusal is not None:
            raise self._refusal.again()
        if self.complete:
            raise StopAsyncIteration
        if self._stages.prompt is not None:
            return await self._take_second_turn()
        if self._stages.done:  # one was, in `flow`
            return await self._end([], None)
        batch = await self._upstream.read()
        match batch[-1]:
            case Failure(error=Truncated()) if self._recover is not None:
                batch = await self._completed(batch)
        match batch[-1]:
            case Finish() as finish:
                return await self._end(self._tell(batch[:-1]), finish)
            case Failure(error=error):
                self._failure = error
                return self._tell(batch[:-1])
        given = self._tell(batch)
        return await self._end(given, None) if self._stages.done else given

    async def flow(self, send: Callable[[Sequence[AnswerEvent]], bool]) -> None:
        """Hand each batch to `send` in the moment in which it comes, as long as that returns True.

        It leaves the last batch, and what may have to be waited for, to the iteration. Raises what `send` raises.
        """
        if self._stages.done or self._ended:
            return

        def pass_on(batch: list[Event]) -> bool:
            given = self._tell(batch)
            return (not given or send(given)) and not self._stages.done

        passes = self._stages is NO_STAGES
        await self._upstream.flow((lambda batch: send(self._tell(batch))) if passes else pass_on)

    def _tell(self, batch: Sequence[Event]) -> Sequence[AnswerEvent]:
        """Count a batch without a terminal event; return what of it the caller is given."""
        self.received.add(batch)
        if self._stages is NO_STAGES:
            return batch
        given = self._stages.feed(batch)
        if self._stages.size:
            self.keep(0)
        self.delivered.add(given)
        return given

    async def _end(self, given: Sequence[AnswerEvent], finish: Finish | None) -> Sequence[AnswerEvent]:
        """The answer is over: by upstream's `finish`, or since a stage is done, which needs nothing more of it.

        Return what the caller is given at its end, after what it was `given` by the same read.
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
        """Ask the model once more, as often as a stage wants it; return what the caller is given then."""
        batch: list[AnswerEvent] = []
        while (prompt := self._stages.prompt) is not None:
            text = await self._asked_again(prompt)
            batch += await self._read(len(text or ""), partial(self._stages.repaired, text))
        self.delivered.add(batch)
        return await self._conclude(batch)

    async def _read(self, chars: int, stages: Callable[[], list[AnswerEvent]]) -> list[AnswerEvent]:
        """Let the stages read an answer of so many characters; in a thread, if it may hold the loop for long."""
        return await asyncio.to_thread(stages) if chars > _READ_IN_THREAD_CHARS else stages()

    async def _conclude(self, batch: Sequence[AnswerEvent]) -> Sequence[AnswerEvent]:
        """The caller has been given everything, of which `batch` is the last, or will be given the reason why not."""
        stages = self._stages
        if stages:
            self._refusal = stages.error
            if self._refusal is not None:
                if not batch:
                    raise self._refusal.again()
                return batch
        self.complete = True
        reason = self._finish.reason if self._finish else None
        self.finish_reason = stages.finish_reason(reason) if stages else reason
        whole = self.delivered.whole()
        if self._finish is not None and whole is not None and (not stages or stages.faithful):
            # Before the caller sees the end: its next turn may come at once.
            answer = Message("assistant", whole, tool_calls=self.delivered.calls)
            remembered = self._on_complete(answer, stages.regenerable)
            if remembered is not None:
                await remembered
        return batch

    async def _asked_again(self, prompt: str) -> str | None:
        """Ask the model once more; return its whole answer, or None where there is none.

        What the caller was given stands: an error here is not an error of its request.
        """
        limit = (
            None
            if self._max_tokens is None
            else Limit(max(0, self._max_tokens - self.delivered.usage(0, 0).completion))
        )
        if self._ask_again is None:
            return None
        await self._upstream.aclose()  # it is over, and the site takes one turn after another
        try:
            answer = await self._ask_again(prompt)
        except (UpstreamError, ApiError) as error:
            _logger.info("the model could not be asked once more: %s", error)
            return None
        return await read_whole(answer, self.received, limit)

    async def _completed(self, batch: list[Event]) -> list[Event]:
        """Put the rest of an answer that broke off after text in the place of its failure, if the site has it."""
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
            del events[-1]  # the other half of the character is part of the rest
        sent += _text_of(events)
        if not whole.startswith(sent):
            return batch
        rest = whole[len(sent) :]
        recovered: list[Event] = [TextDeltas(rest, orjson.dumps(rest))] if rest else []
        return [*events, *recovered, Finish("stop")]


def _text_of(events: Iterable[Event]) -> str:
    """The text of some events as `AnswerText` counts it."""
    texts = (
        event.text if isinstance(event, TextDeltas) else markdown(event.images) if isinstance(event, Images) else ""
        for event in events
    )
    return "".join(texts)


def _is_half(events: Sequence[Event]) -> bool:
    """Whether these events are what `upstream.protocol.wire` makes of half a character at the end of an answer."""
    match events:
        case [TextDeltas(text="\ufffd")]:
            return True
    return False
