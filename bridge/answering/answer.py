"""One answer as it is relayed: its batches, and what is to be known when it has ended.

What upstream said and what the caller was told are two records: stages may cut or rewrite an answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from io import StringIO
from typing import Final, Self

import orjson

from bridge.answering import transcript
from bridge.answering.chat import Usage
from bridge.answering.events import AnswerEvent
from bridge.answering.messages import Message, markdown
from bridge.answering.stages import Stages
from bridge.answering.tokens import TokenCount, estimate, rough_estimate
from bridge.errors import answers_too_large, from_upstream
from upstream.answer import ArenaAnswer
from upstream.protocol.errors import Truncated, UpstreamError
from upstream.protocol.events import Event, Failure, Finish, Images, ReasoningDeltas, TextDeltas


class AnswerText:
    """An answer's text as long as a conversation could be known again by it, and its tokens."""

    __slots__ = ("_chars", "_text", "_tokens")

    #: Beyond this no client sends an answer back: the site refuses a prompt of little more than half of it.
    MAX_CHARS: Final = 200_000

    def __init__(self) -> None:
        self._text: StringIO | None = StringIO()
        self._chars = 0
        self._tokens = TokenCount()  # of what is not kept

    def add(self, text: str) -> None:
        """Take the next piece."""
        if self._text is None:
            self._tokens.add(text)
            return
        self._text.write(text)
        self._chars += len(text)
        if self._chars > self.MAX_CHARS:
            self._tokens.add(self._text.getvalue())
            self._text = None

    def tokens(self) -> int:
        """Estimate its tokens so far."""
        return self._tokens.total if self._text is None else estimate(self._text.getvalue())

    def rough_tokens(self) -> int:
        """The same by its length alone."""
        return self._tokens.total if self._text is None else rough_estimate(self._text.getvalue())

    def whole(self) -> str | None:
        """The whole text, or None where it was too long to keep."""
        return self._text.getvalue() if self._text is not None else None


class AnswerRecord:
    """The text and the tokens of one answer: as upstream said it, or as the caller was told it."""

    __slots__ = ("_reasoning", "_text", "chunks")

    def __init__(self) -> None:
        self._text = AnswerText()
        self._reasoning = TokenCount()
        #: Deltas so far.
        self.chunks = 0

    def add(self, batch: Iterable[AnswerEvent]) -> None:
        """Count the events of a batch."""
        for event in batch:
            if type(event) is TextDeltas:  # as nearly all are; `match` would take three times as long
                self._text.add(event.text)
                self.chunks += event.json.count(b"\n") + 1
                continue
            match event:
                case ReasoningDeltas(text=text, json=json):
                    self._reasoning.add(text)
                    self.chunks += json.count(b"\n") + 1
                case Images(images=images):
                    self.chunks += 1
                    self._text.add(markdown(images))

    def whole(self) -> str | None:
        """The whole text, or None where it was too long to keep."""
        return self._text.whole()

    def usage(self, messages: Sequence[Message]) -> Usage:
        """Estimate the tokens so far; `messages` are what was asked."""
        reasoning = self._reasoning.total
        return Usage(estimate(transcript.prompt(messages)), self._text.tokens() + reasoning, reasoning)

    def rough_usage(self, messages: Sequence[Message]) -> Usage:
        """The same by length alone."""
        asked = sum([rough_estimate(message.text) for message in messages])
        reasoning = self._reasoning.rough_total
        return Usage(asked, self._text.rough_tokens() + reasoning, reasoning)


@dataclass(slots=True)
class Answer:
    """One answer that has begun, as a context that lets go of all that it holds.

    Iterate it once; `complete`, `finish_reason` and `usage()` are true when that has ended.
    """

    evaluation: str  # <origin>/c/<id>
    conversation: str  # new | follow-up | regenerate, and why
    account: str  # its label
    _upstream: ArenaAnswer
    _messages: tuple[Message, ...]
    _on_complete: Callable[[str], None]
    _on_close: Callable[[], None]
    #: Reads back the whole text of an answer that broke off; None where that is not wanted.
    _recover: Callable[[], Awaitable[str | None]] | None = None
    _stages: Stages = field(default_factory=partial(Stages, ()))
    #: The last batch has been returned: upstream's answer is complete, or a stage needs nothing more of it.
    complete: bool = False
    finish_reason: str | None = None
    #: What upstream said, for the statistics.
    said: AnswerRecord = field(default_factory=AnswerRecord)
    #: What the caller was told, for its usage and the conversation; the same record where there is no stage.
    told: AnswerRecord = field(init=False)
    _failure: UpstreamError | None = None

    def __post_init__(self) -> None:
        self.told = AnswerRecord() if self._stages else self.said

    def usage(self) -> Usage:
        """Estimate the caller's usage so far: a millisecond for 100,000 characters, so only where it is asked for."""
        return self.told.usage(self._messages)

    def rough_usage(self) -> Usage:
        """Estimate what upstream was asked and said, by length alone, for the statistics."""
        return self.said.rough_usage(self._messages)

    @property
    def text(self) -> str:
        """The text so far as the caller was told it; '' where it was too long to keep."""
        return self.told.whole() or ""

    def keep(self, size: int) -> None:
        """Say how many bytes of this answer are kept until it ends. Raises ApiError (503): too much of all answers."""
        if not self._upstream.keep(size):
            raise answers_too_large()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._upstream.aclose()
        finally:
            self._on_close()

    def __aiter__(self) -> Answer:
        return self

    async def __anext__(self) -> Sequence[AnswerEvent]:
        """Return what one read held, without its terminal event; stages may leave nothing of it.

        Raises ApiError where the answer breaks.
        """
        if self._failure is not None:
            raise from_upstream(self._failure)
        if self.complete:
            raise StopAsyncIteration
        if self._stages.done:  # one was, in `flow`
            return self._finish(None)
        batch = await self._upstream.read()
        match batch[-1]:
            case Failure(error=Truncated()) if self._recover is not None:
                batch = await self._completed(batch)
        match batch[-1]:
            case Finish() as finish:
                return [*self._tell(batch[:-1]), *self._finish(finish)]
            case Failure(error=error):
                self._failure = error
                return self._tell(batch[:-1])
        told = self._tell(batch)
        return [*told, *self._finish(None)] if self._stages.done else told

    async def flow(self, send: Callable[[Sequence[AnswerEvent]], bool]) -> None:
        """Hand each batch to `send` in the moment in which it comes, as long as that returns True.

        It leaves the last batch, and what may have to be waited for, to the iteration. Raises what `send` raises.
        """
        if self._stages.done:
            return

        def pass_on(batch: list[Event]) -> bool:
            told = self._tell(batch)
            return (not told or send(told)) and not self._stages.done

        await self._upstream.flow(pass_on if self._stages else lambda batch: send(self._tell(batch)))

    def _tell(self, batch: Sequence[Event]) -> Sequence[AnswerEvent]:
        """Count a batch without a terminal event; return what of it the caller is told."""
        self.said.add(batch)
        if not self._stages:
            return batch
        told = self._stages.feed(batch)
        self.told.add(told)
        return told

    def _finish(self, finish: Finish | None) -> Sequence[AnswerEvent]:
        """The answer is over: by upstream's `finish`, or since a stage is done. Return what stages have held back."""
        rest = self._stages.end()
        if rest:
            self.told.add(rest)
        self.complete = True
        self.finish_reason = self._stages.finish_reason(finish.reason if finish else None)
        whole = self.told.whole()
        if finish is not None and self._stages.faithful and whole is not None:
            self._on_complete(whole)  # before the caller sees the end: its next turn may come at once
        return rest

    async def _completed(self, batch: list[Event]) -> list[Event]:
        """Put the rest of an answer that broke off after text in the place of its failure, if the site has it."""
        recover, self._recover = self._recover, None
        sent = self.said.whole()
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
