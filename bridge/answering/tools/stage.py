"""The stage that reads tool calls: it passes on text as it arrives, and all calls together at the end."""

from __future__ import annotations

from collections.abc import Sequence

from bridge.answering.chat import Tools
from bridge.answering.deltas import rewrite, text_delta
from bridge.answering.events import MAX_WHOLE_CHARS, AnswerEvent, ToolCalls
from bridge.answering.messages import ToolCall
from bridge.answering.stages import ReadingStage, ToolsOutcome
from bridge.answering.tools.call_buffer import CallBuffer
from bridge.answering.tools.offered import OfferedTools
from bridge.answering.tools.reading import Reading, read
from bridge.answering.tools.repair import calls_prompt
from bridge.errors import answer_too_long, invalid_model_output
from upstream.protocol.events import TextDeltas


class ToolsStage(ReadingStage):
    """Reads the calls of an answer."""

    offers_tools = True

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._offered = OfferedTools(tools)
        self._buffer = CallBuffer(self._offered)
        self._dropped_first = 0  # what the first answer would have dropped, while the model is asked again

    def feed(self, batch: Sequence[AnswerEvent]) -> list[AnswerEvent]:
        """Pass on text up to the first possible call. Raises ApiError (502) if too much is held back."""
        passed: list[AnswerEvent] = []
        for event in batch:
            if not isinstance(event, TextDeltas):
                passed.append(event)
                continue
            rewritten = rewrite(event, self._buffer.push)
            if rewritten is not None:
                passed.append(rewritten)
        self.size = self._buffer.size
        if self.size > MAX_WHOLE_CHARS:
            raise answer_too_long(MAX_WHOLE_CHARS)
        return passed

    def conclude(self, *, cut: bool, may_ask: bool) -> list[AnswerEvent]:
        """Read the calls."""
        reading = self._read()
        self.outcome = ToolsOutcome.NONE
        if cut:
            return self._cut(reading)
        calls, wrong = self._taken(reading), reading.wrong
        if calls and not wrong:
            return self._call(reading, calls, ToolsOutcome.CALLED)
        if reading.start is None and not self._tools.required:
            return self._all_as_text()
        if may_ask:
            self.prompt, self._dropped_first = calls_prompt(self._tools, wrong), reading.dropped
            return self._text_before(reading)
        return self._give_up(wrong)

    def repaired(self, text: str | None) -> list[AnswerEvent]:
        """Read the calls of the answer to the repair prompt; any other text in it is dropped."""
        if text is None:
            self.faithful = False  # it is unknown what the evaluation holds now
            return self._give_up(())
        self.regenerable = False
        reading = read(text, 0, self._offered)
        calls = self._taken(reading)
        if not calls or reading.wrong:
            return self._give_up(reading.wrong)
        self.dropped += self._dropped_first  # without the blocks, which have been repeated
        self._buffer = CallBuffer(self._offered)
        before = text[: reading.start].strip() if reading.start else ""
        self.dropped += len(before)
        return self._call(reading, calls, ToolsOutcome.REPAIRED)

    def _read(self) -> Reading:
        if self._buffer.in_fence:
            return Reading()
        return read(self._buffer.text, self._buffer.held_from, self._offered)

    def _taken(self, reading: Reading) -> tuple[ToolCall, ...]:
        return reading.calls if self._tools.parallel else reading.calls[:1]

    def _cut(self, reading: Reading) -> list[AnswerEvent]:
        """End an answer that is cut off: its calls count only if all of them are complete."""
        if reading.start is None:
            return self._all_as_text()
        if reading.calls and reading.whole and not reading.wrong:
            return self._call(reading, self._taken(reading), ToolsOutcome.CALLED)
        self.faithful = False
        self.dropped += len(self._buffer.held.strip())
        return self._text_before(reading)

    def _call(self, reading: Reading, calls: tuple[ToolCall, ...], outcome: ToolsOutcome) -> list[AnswerEvent]:
        before = self._text_before(reading) if outcome is ToolsOutcome.CALLED else []
        self.dropped += reading.dropped
        if reading.dropped or len(calls) < len(reading.calls):
            self.regenerable = False
        self.outcome, self.finish_reason = outcome, "tool_calls"
        return [*before, ToolCalls(calls)]

    def _text_before(self, reading: Reading) -> list[AnswerEvent]:
        """Pass on the text before the first block, without the white space at its end."""
        text, held_from = self._buffer.text, self._buffer.held_from
        start = len(text) if reading.start is None else reading.start
        before = text[held_from:start].rstrip()
        self._buffer.drop(len(before))
        self.size = self._buffer.size
        return [text_delta(before)] if before else []

    def _all_as_text(self) -> list[AnswerEvent]:
        text = self._buffer.held
        self._buffer = CallBuffer(self._offered)
        self.size = 0
        return [text_delta(text)] if text else []

    def _give_up(self, wrong: Sequence[str]) -> list[AnswerEvent]:
        """Pass on the first answer as text, or refuse it if it had to contain a call."""
        self.outcome = ToolsOutcome.UNPARSED
        if self._tools.required:
            why = wrong[0] if wrong else "It called no tool, but a call was required."
            self.error = invalid_model_output(f"The model's answer could not be read as tool calls: {why}")
            return []
        return self._all_as_text()
