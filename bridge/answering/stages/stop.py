"""Stop strings: the text ends just before the first of them, wherever deltas begin and end."""

from __future__ import annotations

from collections.abc import Sequence

from bridge.answering.deltas import rewritten, text_delta
from bridge.answering.events import AnswerEvent
from upstream.protocol.events import Images, TextDeltas


class Stop:
    """Ends an answer before the first of `stops`, none of them empty: the one that is complete first.

    Of several that become complete at the same character the longest counts. Held back is only what may still become
    one. Reasoning passes. The caller is told less than the evaluation holds, so the conversation is not continued.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._firsts = frozenset(stop[0] for stop in stops)
        self._longest = max(map(len, stops))
        self._held = ""
        self.done = False
        self.finish_reason: str | None = None
        self.faithful = True

    def feed(self, batch: Sequence[AnswerEvent]) -> list[AnswerEvent]:
        """Pass on text as far as no stop string can begin in it."""
        passed: list[AnswerEvent] = []
        for event in batch:
            if self.done:
                break
            if isinstance(event, TextDeltas):
                going = rewritten(event, self._push)
                if going is not None:
                    passed.append(going)
                continue
            if isinstance(event, Images):
                passed += self.end()
            passed.append(event)
        return passed

    def end(self) -> list[AnswerEvent]:
        """Return what has not become a stop string after all."""
        held, self._held = self._held, ""
        return [text_delta(held)] if held else []

    def _push(self, text: str) -> str:
        if self.done:
            return ""
        text = self._held + text
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self._held, self.done, self.finish_reason, self.faithful = "", True, "stop", False
            return text[: min(found)[1]]
        start = self._start_of_one(text)
        self._held = text[start:]
        return text[:start]

    def _start_of_one(self, text: str) -> int:
        """Find where a stop string may begin that the text does not hold whole; its end where none may."""
        for at in range(max(0, len(text) - self._longest + 1), len(text)):
            if text[at] in self._firsts:
                rest = text[at:]
                if any(stop.startswith(rest) for stop in self._stops):
                    return at
        return len(text)
