"""The token limit: an answer ends after a number of tokens, reasoning included, by the bridge's own estimate."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from io import StringIO
from typing import Final

from bridge.answering.deltas import rewrite
from bridge.answering.events import AnswerEvent
from bridge.answering.tokens import MAX_TOKENS_PER_CHAR, TokenCount
from upstream.protocol.events import ReasoningDeltas, TextDeltas

#: At most this many characters are passed on before they are counted.
_MAX_UNCOUNTED: Final = 128 * 1024


class Limit:
    """Ends an answer after the last character with which it has at most `tokens` tokens, counted as in its usage.

    Counting every delta by itself would dominate the cost of relaying it. So as long as deltas are too short to reach
    the limit, whatever their characters, they are collected and counted together.
    """

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens
        self._text = TokenCount()
        self._reasoning = TokenCount()
        self._uncounted_text = StringIO()
        self._uncounted_reasoning = StringIO()
        self._free = 0  # characters that may pass uncounted
        self._count()
        self.done = False
        self.finish_reason: str | None = None
        self.faithful = True

    def feed(self, batch: Sequence[AnswerEvent]) -> list[AnswerEvent]:
        """Pass on the text that is within the limit."""
        chars = 0
        for event in batch:
            if type(event) is TextDeltas or type(event) is ReasoningDeltas:
                chars += len(event.text)
        if chars > self._free and not self.done:
            self._count()
        if chars <= self._free and not self.done:
            self._free -= chars
            self._count_later(batch)
            return [*batch]
        passed = self._feed(batch)
        self._count()
        return passed

    def _count_later(self, batch: Sequence[AnswerEvent]) -> None:
        for event in batch:
            if type(event) is TextDeltas:
                self._uncounted_text.write(event.text)
            elif type(event) is ReasoningDeltas:
                self._uncounted_reasoning.write(event.text)

    def _count(self) -> None:
        """Count the collected text, and compute how many characters may pass before the next count."""
        for count, uncounted in ((self._text, self._uncounted_text), (self._reasoning, self._uncounted_reasoning)):
            count.add(uncounted.getvalue())
            uncounted.seek(0)
            uncounted.truncate()
        room = self._tokens - self._text.total - self._reasoning.total
        self._free = min(room // MAX_TOKENS_PER_CHAR, _MAX_UNCOUNTED)

    def _feed(self, batch: Sequence[AnswerEvent]) -> list[AnswerEvent]:
        """Count each delta by itself."""
        passed: list[AnswerEvent] = []
        for event in batch:
            if self.done:
                break
            match event:
                case TextDeltas():
                    rewritten = rewrite(event, self._push_text)
                    if rewritten is not None:
                        passed.append(rewritten)
                case ReasoningDeltas(text=text, json=json):
                    run = rewrite(TextDeltas(text, json), self._push_reasoning)
                    if run is not None:
                        passed.append(event if run.json is json else ReasoningDeltas(run.text, run.json))
                case _:
                    passed.append(event)
        return passed

    def end(self) -> list[AnswerEvent]:
        """Return nothing, since nothing is held back."""
        return []

    def _push_text(self, piece: str) -> str:
        kept = self._fitting_prefix(piece, self._text, self._tokens - self._reasoning.total)
        self._text.add(kept)
        return kept

    def _push_reasoning(self, piece: str) -> str:
        kept = self._fitting_prefix(piece, self._reasoning, self._tokens - self._text.total)
        self._reasoning.add(kept)
        return kept

    def _fitting_prefix(self, piece: str, count: TokenCount, room: int) -> str:
        """Return the longest prefix of a piece with which `count` is at most `room`."""
        if self.done:
            return ""
        if _total_with(count, piece) <= room:
            return piece
        self.done, self.finish_reason, self.faithful = True, "length", False
        fits, too_long = 0, len(piece)
        while too_long - fits > 1:
            middle = (fits + too_long) // 2
            if _total_with(count, piece[:middle]) <= room:
                fits = middle
            else:
                too_long = middle
        return piece[:fits]


def _total_with(count: TokenCount, piece: str) -> int:
    """Return what the total of a count would be after one more piece."""
    further = copy(count)
    further.add(piece)
    return further.total
