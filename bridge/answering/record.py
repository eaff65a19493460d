"""What is kept of an answer: its text, as long as a conversation could be known again by it, its calls, its tokens."""

from __future__ import annotations

from collections.abc import Iterable
from io import StringIO
from typing import Final

from bridge.answering.chat import Usage
from bridge.answering.events import AnswerEvent, ToolCalls
from bridge.answering.messages import ToolCall, markdown
from bridge.answering.tokens import TokenCount, estimate
from upstream.protocol.events import Images, ReasoningDeltas, TextDeltas


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
        self._chars += len(text)
        if self._text is None:
            self._tokens.add(text)
            return
        self._text.write(text)
        if self._chars > self.MAX_CHARS:
            self._tokens.add(self._text.getvalue())
            self._text = None

    @property
    def chars(self) -> int:
        """Its length so far."""
        return self._chars

    def tokens(self) -> int:
        """Estimate its tokens so far."""
        return self._tokens.total if self._text is None else estimate(self._text.getvalue())

    def whole(self) -> str | None:
        """The whole text, or None where it was too long to keep."""
        return self._text.getvalue() if self._text is not None else None


class AnswerRecord:
    """The text and the tokens of one answer: as upstream sent it, or as the caller was given it."""

    __slots__ = ("_reasoning", "_text", "calls", "chunks")

    def __init__(self) -> None:
        self._text = AnswerText()
        #: The tools that it calls.
        self.calls: tuple[ToolCall, ...] = ()
        self._reasoning = TokenCount()
        #: Deltas so far.
        self.chunks = 0

    def add(self, batch: Iterable[AnswerEvent]) -> None:
        """Count the events of a batch."""
        for event in batch:
            if type(event) is TextDeltas:  # as nearly all are; `match` is slower
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
                case ToolCalls(calls=calls):
                    self.calls = calls

    def whole(self) -> str | None:
        """The whole text, or None where it was too long to keep."""
        return self._text.whole()

    @property
    def chars(self) -> int:
        """The length of its text so far."""
        return self._text.chars

    def usage(self, prompt_tokens: int, cached_tokens: int) -> Usage:
        """Estimate the tokens so far of an answer to a prompt of so many, of which some were not sent again."""
        reasoning = self._reasoning.total
        completion = self._text.tokens() + reasoning + sum([tokens_of_call(call) for call in self.calls])
        return Usage(prompt_tokens, completion, reasoning, cached_tokens)


def tokens_of_call(call: ToolCall) -> int:
    """The tokens of a call as the caller is given it: its name and its arguments."""
    return estimate(call.name) + estimate(call.arguments)
