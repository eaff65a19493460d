"""What is recorded of an answer: its text (unless it is very long), its tool calls and its token count."""

from __future__ import annotations

from collections.abc import Iterable
from io import StringIO
from typing import Final

from bridge.answering.chat import Usage
from bridge.answering.events import AnswerEvent, ToolCalls
from bridge.answering.messages import ToolCall, image_markdown
from bridge.answering.tokens import TokenCount, estimate
from upstream.protocol.events import Images, ReasoningDeltas, TextDeltas


class AnswerText:
    """An answer's text and its token count; the text is dropped once it is too long to identify a conversation by."""

    __slots__ = ("_chars", "_text", "_tokens")

    #: No client sends a longer answer back in its history: the site already refuses prompts of little more than half.
    MAX_CHARS: Final = 200_000

    def __init__(self) -> None:
        self._text: StringIO | None = StringIO()
        self._chars = 0
        self._tokens = TokenCount()  # used once the text is no longer kept

    def add(self, text: str) -> None:
        """Append the next piece."""
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
        """The number of characters so far."""
        return self._chars

    def tokens(self) -> int:
        """Estimate the number of tokens so far."""
        return self._tokens.total if self._text is None else estimate(self._text.getvalue())

    def whole(self) -> str | None:
        """The whole text, or None where it was too long to keep."""
        return self._text.getvalue() if self._text is not None else None


class AnswerRecord:
    """The text and tokens of one answer, either as upstream sent it or as the caller received it."""

    __slots__ = ("_reasoning", "_text", "calls", "chunks")

    def __init__(self) -> None:
        self._text = AnswerText()
        #: The answer's tool calls.
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
                case Images(urls=urls):
                    self.chunks += 1
                    self._text.add(image_markdown(urls))
                case ToolCalls(calls=calls):
                    self.calls = calls

    def whole(self) -> str | None:
        """The whole text, or None where it was too long to keep."""
        return self._text.whole()

    @property
    def chars(self) -> int:
        """The number of characters of text so far."""
        return self._text.chars

    def usage(self, prompt_tokens: int, cached_tokens: int) -> Usage:
        """Estimate the usage so far, for a prompt of `prompt_tokens` of which `cached_tokens` were not sent again."""
        reasoning = self._reasoning.total
        completion = self._text.tokens() + reasoning + sum(map(tokens_of_call, self.calls))
        return Usage(prompt_tokens, completion, reasoning, cached_tokens)


def tokens_of_call(call: ToolCall) -> int:
    """Estimate the tokens of a call, which are those of its name and its arguments."""
    return estimate(call.name) + estimate(call.arguments)
