"""Reading the tool calls in a whole answer, or in the end of one. Pure functions over the table of forms."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from bridge.answering.messages import ToolCall
from bridge.answering.tools.budget import ReadingBudget
from bridge.answering.tools.fences import (
    LineStart,
    LineStarts,
    closing,
    end_of_closing,
    read_info_string,
    read_json_start,
)
from bridge.answering.tools.forms import NAMESPACE, WRAPPERS, at_line_start
from bridge.answering.tools.json_values import MAX_MENDED_CHARS, Extent, read_nearly, skip_spaces
from bridge.answering.tools.offered import InvalidCall, OfferedTools
from bridge.answering.tools.openings import FoundOpening, Openings, opening_at
from bridge.answering.tools.parts import Block, calls_in

#: Surplus closing tags between blocks, and markers of the end of a turn.
_LEFT_OVER: Final = re.compile(
    rf"(?:\s|</{NAMESPACE}{WRAPPERS}>"
    r"|<[|｜]tool[_▁]calls?[_▁](?:section[_▁])?end[|｜]>|<[|｜](?:eom_id|eot_id|im_end|end▁of▁sentence)[|｜]>)*"
)

#: The maximum number of places where bare JSON is read.
_MAX_BARE: Final = 3


class Reading(NamedTuple):
    """What was read: the calls, and the index where the first block begins, or None if there is none.

    `wrong` says what is wrong with blocks, in sentences for the model. `dropped` is the number of characters after the
    first block that do not belong to any block. `whole` says that all blocks are complete, and none was mended.
    """

    calls: tuple[ToolCall, ...] = ()
    start: int | None = None
    wrong: tuple[str, ...] = ()
    dropped: int = 0
    whole: bool = True


def read(text: str, at: int, offered: OfferedTools) -> Reading:
    """Read the calls in a text from an index on; the text before it is only context."""
    return _Reader(text, at, offered).read()


class _Reader:
    """Reads one text."""

    def __init__(self, text: str, at: int, offered: OfferedTools) -> None:
        self._text = text
        self._openings = Openings(text)
        self._lines = LineStarts(text)
        self._at = at
        self._offered = offered
        self._calls: list[ToolCall] = []
        self._wrong: list[str] = []
        self._start: int | None = None
        self._dropped = 0
        self._whole = True
        self._bare_left = _MAX_BARE
        self._budget = ReadingBudget()
        self._wrapper: int | None = None  # where a wrapper begins in which no call has been found yet

    def read(self) -> Reading:
        """Read the whole text."""
        while not self._budget.exhausted and (found := self._next()) is not None:
            if isinstance(found, FoundOpening):
                if found.form is None:
                    if self._start is None:
                        self._at = found.end  # without a call it is only a mention
                        continue
                    break
                self._take(found)
            elif found.marks:
                self._take_fence(found)
            elif self._take_bare(found.at):
                break
        if self._budget.exhausted:
            self._give_up()
        if self._wrapper is not None and at_line_start(self._text, self._wrapper):
            self._wrong.append("A block of calls was opened, but contains no call.")
            self._start = self._wrapper if self._start is None else self._start
        if self._start is not None:
            self._drop(len(self._text))
        return Reading(tuple(self._calls), self._start, tuple(self._wrong), self._dropped, self._whole)

    def _give_up(self) -> None:
        """Drop all calls, because there are too many blocks, or too many malformed ones."""
        self._wrong.insert(0, "There are too many calls, or too many that cannot be read. Write fewer.")
        self._calls.clear()
        self._start = self._at if self._start is None else self._start

    def _next(self) -> FoundOpening | LineStart | None:
        """Find the next opening, fence, or line that may begin bare JSON."""
        opening, line = self._openings.next(self._at), self._lines.next(self._at)
        if line is not None and (opening is None or line.at < opening.start):
            return line
        return opening

    def _take(self, found: FoundOpening) -> None:
        """Read the block with this opening."""
        block = found.form.read(self._text, found.start, found.end) if found.form is not None else None
        rest = len(self._text) - found.end
        if block is None:
            self._budget.spend(searched=rest)
            self._at = found.end
            return
        self._budget.spend(
            searched=rest if block.problem or not (block.closed or block.wrapper) else 0,
            mended=min(block.end - found.start, MAX_MENDED_CHARS) if block.problem or block.mended else 0,
        )
        if block.wrapper:
            self._wrapper = found.start if self._wrapper is None else self._wrapper
            self._at = max(block.end, found.end)
            return
        self._add(block, found.start)

    def _add(self, block: Block, start: int) -> None:
        if self._start is None:
            self._start = start if self._wrapper is None else self._wrapper
        else:
            self._drop(start)
        self._wrapper = None
        if block.problem:
            self._wrong.append(block.problem)
        for raw in block.calls:
            if self._budget.exhausted:
                break
            self._budget.spend()
            call = self._offered.call(raw)
            if isinstance(call, InvalidCall):
                self._wrong.append(call.reason)
            else:
                self._calls.append(call)
        self._whole &= block.closed and not block.mended
        left_over = _LEFT_OVER.match(self._text, block.end)
        self._at = left_over.end() if left_over else block.end

    def _drop(self, upto: int) -> None:
        """Count the text between blocks."""
        self._dropped += len(self._text[self._at : upto].strip())

    def _take_fence(self, line: LineStart) -> None:
        """Read the blocks in a fence if there is nothing else in it or after it; otherwise skip the fence."""
        info = read_info_string(self._text, line.end)
        if not info.is_fence:
            self._at = line.end
            return
        inside = line.end if info.inside is None else info.inside
        before = (self._calls.copy(), self._wrong.copy(), self._start, self._dropped, self._whole, self._wrapper)
        self._at = skip_spaces(self._text, inside)
        if info.inside is not None and self._take_all(line.marks):
            self._start = line.start if before[2] is None else before[2]
            return
        self._calls, self._wrong, self._start, self._dropped, self._whole, self._wrapper = before
        end = closing(line.marks).search(self._text, self._end_of_json(skip_spaces(self._text, inside)))
        self._at = end.end() if end else len(self._text)
        if self._start is not None:
            self._dropped += len(self._text[line.start : self._at].strip())

    def _take_all(self, marks: str) -> bool:
        """Read blocks one after another up to the end of a fence and of the text; False if there is anything else."""
        if self._text[self._at : self._at + 1] in ("{", "["):
            return self._start is None and self._take_bare(self._at, marks)
        some = False
        while True:
            self._at = skip_spaces(self._text, self._at)
            if self._at == len(self._text):
                return some
            end = end_of_closing(self._text, self._at, marks)
            if end is not None:
                self._at = skip_spaces(self._text, end)
                return some and self._at == len(self._text)
            found = opening_at(self._text, self._at)
            if found is None or found.form is None:
                return False
            self._take(found)
            if self._start is None and self._wrapper is None:
                return False
            some = True

    def _take_bare(self, at: int, marks: str = "") -> bool:
        """Read bare JSON as calls if it is the end of the answer and all of it is valid; otherwise skip it.

        `marks` are those of the fence around it, if there is one.
        """
        end = self._end_of_json(at) if self._start is None else at
        self._at = max(end, at + 1)
        if end == at:
            return False
        self._bare_left -= 1
        value = read_nearly(self._text, at)
        raws = None if value is None else calls_in(value.value)
        if value is None or raws is None or any(raw.arguments is None for raw in raws):
            return False
        after = skip_spaces(self._text, value.end)
        if marks:
            after = end_of_closing(self._text, after, marks) or after
        left_over = _LEFT_OVER.match(self._text, after)
        if left_over is None or left_over.end() < len(self._text):
            return False
        calls = [self._offered.call(raw) for raw in raws]
        made = [call for call in calls if isinstance(call, ToolCall)]
        if len(made) < len(calls):
            return False
        self._calls += made
        self._start, self._at = at, len(self._text)
        self._whole &= not value.mended
        return True

    def _end_of_json(self, at: int) -> int:
        """Return where the JSON at an index ends; the index itself unless its beginning may be that of a call."""
        if self._bare_left <= 0 or self._text[at : at + 1] not in ("{", "["):
            return at
        if not read_json_start(self._text, at).may_call(self._offered):
            return at
        extent = Extent()
        extent.add(self._text[at:])
        return at + (extent.end or 1)
