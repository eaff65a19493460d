"""The limit of tokens: an answer ends after a number of them by the bridge's own count, its reasoning included."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from io import StringIO
from typing import Final

from bridge.answering.deltas import rewrite
from bridge.answering.events import AnswerEvent
from bridge.answering.tokens import MOST_TOKENS_OF_CHARACTER, TokenCount
from upstream.protocol.events import ReasoningDeltas, TextDeltas

#: Characters that pass at most before they are counted, while the limit is far away.
_MOST_UNCOUNTED: Final = 128 * 1024


class Limit:
    """Ends an answer at the last character with which it has at most `tokens` tokens, as usage counts them.

    Counting each delta would cost more than all else that is done with it. So what cannot reach the limit, whatever its
    characters are, is counted later, all at once.
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
        """Pass on what is within the limit."""
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
        """Count what has passed, and find how much more may pass before the next time."""
        for count, uncounted in ((self._text, self._uncounted_text), (self._reasoning, self._uncounted_reasoning)):
            count.add(uncounted.getvalue())
            uncounted.seek(0)
            uncounted.truncate()
        room = self._tokens - self._text.total - self._reasoning.total
        self._free = min(room // MOST_TOKENS_OF_CHARACTER, _MOST_UNCOUNTED)

    def _feed(self, batch: Sequence[AnswerEvent]) -> list[AnswerEvent]:
        """Count each delta by itself."""
        passed: list[AnswerEvent] = []
        for event in batch:
            if self.done:
                break
            match event:
                case TextDeltas():
                    going = rewrite(event, self._push_text)
                    if going is not None:
                        passed.append(going)
                case ReasoningDeltas(text=text, json=json):
                    run = rewrite(TextDeltas(text, json), self._push_reasoning)
                    if run is not None:
                        passed.append(event if run.json is json else ReasoningDeltas(run.text, run.json))
                case _:
                    passed.append(event)
        return passed

    def end(self) -> list[AnswerEvent]:
        """Return nothing: nothing is ever held back."""
        return []

    def _push_text(self, piece: str) -> str:
        kept = self._fitting(piece, self._text, self._tokens - self._reasoning.total)
        self._text.add(kept)
        return kept

    def _push_reasoning(self, piece: str) -> str:
        kept = self._fitting(piece, self._reasoning, self._tokens - self._text.total)
        self._reasoning.add(kept)
        return kept

    def _fitting(self, piece: str, count: TokenCount, room: int) -> str:
        """Return the longest beginning of a piece with which `count` is at most `room`."""
        if self.done:
            return ""
        if _with(count, piece) <= room:
            return piece
        self.done, self.finish_reason, self.faithful = True, "length", False
        fits, too_long = 0, len(piece)
        while too_long - fits > 1:
            middle = (fits + too_long) // 2
            if _with(count, piece[:middle]) <= room:
                fits = middle
            else:
                too_long = middle
        return piece[:fits]


def _with(count: TokenCount, piece: str) -> int:
    """What a count would be after one more piece."""
    further = copy(count)
    further.add(piece)
    return further.total
