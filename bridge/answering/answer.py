"""One answer as it is relayed: its batches, and what is to be known when it has ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from io import StringIO
from typing import Final, Self

import orjson

from bridge.answering import transcript
from bridge.answering.chat import Message, Usage, markdown
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


@dataclass(slots=True)
class Answer:
    """One answer that has begun, as a context that lets go of all that it holds.

    Iterate it once; `finish` and `usage()` are true when that has ended.
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
    finish: Finish | None = None
    chunks: int = 0  # deltas so far
    _failure: UpstreamError | None = None
    _text: AnswerText = field(default_factory=AnswerText)
    _reasoning: TokenCount = field(default_factory=TokenCount)

    def usage(self) -> Usage:
        """Estimate it so far: a millisecond for 100,000 characters of messages, so only where it is asked for."""
        reasoning = self._reasoning.total
        return Usage(estimate(transcript.prompt(self._messages)), self._text.tokens() + reasoning, reasoning)

    def rough_usage(self) -> Usage:
        """The same for the statistics, by length alone: that costs a microsecond, whoever counts the requests."""
        asked = sum([rough_estimate(message.text) for message in self._messages])
        reasoning = self._reasoning.rough_total
        return Usage(asked, self._text.rough_tokens() + reasoning, reasoning)

    @property
    def text(self) -> str:
        """The text so far; '' where it was too long to keep."""
        return self._text.whole() or ""

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

    async def __anext__(self) -> list[Event]:
        """Return what one read held, without its terminal event. Raises ApiError where the answer breaks."""
        if self._failure is not None:
            raise from_upstream(self._failure)
        if self.finish is not None:
            raise StopAsyncIteration
        batch = await self._upstream.read()
        match batch[-1]:
            case Failure(error=Truncated()) if self._recover is not None:
                batch = await self._completed(batch)
        return self._count(batch)

    async def _completed(self, batch: list[Event]) -> list[Event]:
        """Put the rest of an answer that broke off after text in the place of its failure, if the site has it."""
        recover, self._recover = self._recover, None
        sent = self._text.whole()
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

    async def flow(self, send: Callable[[list[Event]], bool]) -> None:
        """Hand each batch to `send` in the moment in which it comes, as long as that returns True.

        It leaves the last batch, and whatever may have to be waited for, to the iteration. Raises what `send` raises.
        """
        await self._upstream.flow(lambda batch: send(self._count(batch)))

    def _count(self, batch: list[Event]) -> list[Event]:
        """Count what was read; return it without its terminal event."""
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
                case Finish():
                    self.finish = event
                    if (whole := self._text.whole()) is not None:
                        self._on_complete(whole)  # before the caller sees the end: its next turn may come at once
                case Failure(error=error):
                    self._failure = error
        return batch[:-1] if self.finish or self._failure else batch


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
