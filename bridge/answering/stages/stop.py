"""Stop strings: the text ends just before the first of them, wherever deltas begin and end."""

from __future__ import annotations

from collections.abc import Sequence

from bridge.answering.deltas import rewrite, text_delta
from bridge.answering.events import AnswerEvent, Stopped
from bridge.answering.stages.stop_strings import StopStrings
from upstream.protocol.events import Images, TextDeltas


class Stop:
    """Ends an answer before the first of `stops`, none of them empty: the one that is complete first.

    Of several that become complete at the same character the longest counts. Held back is only what may still become
    one. Reasoning passes. The caller is given less than the evaluation holds, so the conversation is not continued.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = StopStrings(stops)
        self._held = ""
        self._met: str | None = None
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
                going = rewrite(event, self._push)
                if going is not None:
                    passed.append(going)
                if self._met is not None:
                    passed.append(Stopped(self._met))
                continue
            if isinstance(event, Images):
                passed += self.end()
            passed.append(event)
        return passed

    def end(self) -> list[AnswerEvent]:
        """Return what has not become a stop string after all."""
        held, self._held = self._held, ""
        self._stops.forget()
        return [text_delta(held)] if held else []

    def _push(self, text: str) -> str:
        if self.done:
            return ""
        found = self._stops.feed(text)
        if found is not None:
            whole = self._held + text[: found.end]
            self._met = found.string
            self._held, self.done, self.finish_reason, self.faithful = "", True, "stop", False
            return whole[: -len(found.string)]
        if not self._held and not self._stops.begun:
            return text
        text = self._held + text
        start = len(text) - self._stops.begun
        self._held = text[start:]
        return text[:start]
