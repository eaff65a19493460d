"""Stop strings: the text ends just before the first of them, even if that spans several deltas."""

from __future__ import annotations

from collections.abc import Sequence

from bridge.answering.deltas import rewrite, text_delta
from bridge.answering.events import AnswerEvent, Stopped, ToolCalls
from bridge.answering.stages.stop_strings import StopStrings
from upstream.protocol.events import Images, TextDeltas


class Stop:
    """Ends an answer before the first complete one of `stops`, none of which may be empty.

    If several are complete at the same character, the longest counts. Only text that may still become a stop string is
    held back; reasoning passes unchanged. After a stop string, the caller has less of the answer than the evaluation,
    so the conversation is not continued there.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = StopStrings(stops)
        self._held = ""
        self._found: str | None = None
        self.done = False
        self.finish_reason: str | None = None
        self.faithful = True

    def feed(self, batch: Sequence[AnswerEvent]) -> list[AnswerEvent]:
        """Pass on the text in which no stop string can begin."""
        passed: list[AnswerEvent] = []
        for event in batch:
            if self.done:
                break
            if isinstance(event, TextDeltas):
                rewritten = rewrite(event, self._push)
                if rewritten is not None:
                    passed.append(rewritten)
                if self._found is not None:
                    passed.append(Stopped(self._found))
                continue
            if isinstance(event, Images | ToolCalls):
                passed += self.end()
            passed.append(event)
        return passed

    def end(self) -> list[AnswerEvent]:
        """Return the text that was held back and has not become a stop string."""
        held, self._held = self._held, ""
        self._stops.reset()
        return [text_delta(held)] if held else []

    def _push(self, text: str) -> str:
        if self.done:
            return ""
        found = self._stops.feed(text)
        if found is not None:
            whole = self._held + text[: found.end]
            self._found = found.string
            self._held, self.done, self.finish_reason, self.faithful = "", True, "stop", False
            return whole[: -len(found.string)]
        if not self._held and not self._stops.pending:
            return text
        text = self._held + text
        start = len(text) - self._stops.pending
        self._held = text[start:]
        return text[:start]
