"""The limit of tokens: an answer ends after so many by the bridge's own count, its reasoning included."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

from bridge.answering.deltas import rewritten
from bridge.answering.events import AnswerEvent
from bridge.answering.tokens import TokenCount
from upstream.protocol.events import ReasoningDeltas, TextDeltas


class Limit:
    """Ends an answer at the last character with which it has at most `tokens` tokens, as usage counts them."""

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens
        self._text = TokenCount()
        self._reasoning = TokenCount()
        self.done = False
        self.finish_reason: str | None = None
        self.faithful = True

    def feed(self, batch: Sequence[AnswerEvent]) -> list[AnswerEvent]:
        """Pass on what is within the limit."""
        passed: list[AnswerEvent] = []
        for event in batch:
            if self.done:
                break
            match event:
                case TextDeltas():
                    going = rewritten(event, self._push_text)
                    if going is not None:
                        passed.append(going)
                case ReasoningDeltas(text=text, json=json):
                    run = rewritten(TextDeltas(text, json), self._push_reasoning)
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
