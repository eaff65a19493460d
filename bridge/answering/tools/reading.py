"""A whole answer, or the end of one: its text, and the calls in it. Pure functions over the table of forms."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from bridge.answering.messages import ToolCall
from bridge.answering.tools.budget import ReadingBudget
from bridge.answering.tools.fences import LineStart, LineStarts, closing, end_of_closing, info, prospect
from bridge.answering.tools.forms import at_line_start
from bridge.answering.tools.json_values import MAX_MENDED_CHARS, Extent, read_nearly, skip_spaces
from bridge.answering.tools.offered import InvalidCall, OfferedTools
from bridge.answering.tools.openings import Found, Openings, opening_at
from bridge.answering.tools.parts import Block, calls_in

#: Closing tags that are left over between blocks, and marks at the end of a turn.
_LEFT_OVER: Final = re.compile(
    r"(?:\s|</tool_calls?>|</(?:[\w.-]{1,32}:)?(?:function_calls|tool_calls)>"
    r"|<[|｜]tool[_▁]calls?[_▁](?:section[_▁])?end[|｜]>|<[|｜](?:eom_id|eot_id|im_end|end▁of▁sentence)[|｜]>)*"
)


#: So many places are tried at which bare JSON may begin.
_MAX_BARE: Final = 3


class Reading(NamedTuple):
    """What was read: the calls, and where the first block begins, None where there is none.

    `wrong` says what is wrong with blocks, in sentences for the model. `dropped` characters are neither text nor block.
    `whole` says that nothing of the blocks is missing or was mended.
    """

    calls: tuple[ToolCall, ...] = ()
    start: int | None = None
    wrong: tuple[str, ...] = ()
    dropped: int = 0
    whole: bool = True


def read(text: str, at: int, offered: OfferedTools) -> Reading:
    """Read the calls in a text from a place on; what stands before that is only what the place is seen with."""
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
        self._wrapper: int | None = None  # where one begins in which no call has been found yet

    def read(self) -> Reading:
        """Read it all."""
        while not self._budget.exhausted and (fence_or_block := self._next()) is not None:
            if isinstance(fence_or_block, Found):
                if fence_or_block.form is None:
                    if self._start is None:
                        self._at = fence_or_block.end  # nothing was called: it is spoken of
                        continue
                    break
                self._take(fence_or_block)
            elif fence_or_block.marks:
                self._take_fence(fence_or_block)
            elif self._take_bare(fence_or_block.at):
                break
        if self._budget.exhausted:
            self._give_up()
        if self._wrapper is not None and at_line_start(self._text, self._wrapper):
            self._wrong.append("A block of calls was opened in which there is none.")
            self._start = self._wrapper if self._start is None else self._start
        if self._start is not None:
            self._drop(len(self._text))
        return Reading(tuple(self._calls), self._start, tuple(self._wrong), self._dropped, self._whole)

    def _give_up(self) -> None:
        """There are too many blocks, or too many that are not as they should be: nothing of them is called."""
        self._wrong.insert(0, "There are too many calls, or too many that cannot be read. Write fewer.")
        self._calls.clear()
        self._start = self._at if self._start is None else self._start

    def _next(self) -> Found | LineStart | None:
        """Find what comes next: an opening, a fence, or a line that may begin bare JSON."""
        opening, line = self._openings.next(self._at), self._lines.next(self._at)
        if line is not None and (opening is None or line.at < opening.start):
            return line
        return opening

    def _take(self, found: Found) -> None:
        """Read the block that begins here."""
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
        """Count what stands between blocks."""
        between = self._text[self._at : upto]
        self._dropped += len(between.strip())

    def _take_fence(self, line: LineStart) -> None:
        """Read the blocks in a fence, if there is nothing else in it and behind it; else step over it."""
        words = info(self._text, line.end)
        if not words.is_fence:
            self._at = line.end
            return
        inside = line.end if words.inside is None else words.inside
        before = (self._calls.copy(), self._wrong.copy(), self._start, self._dropped, self._whole, self._wrapper)
        self._at = skip_spaces(self._text, inside)
        if words.inside is not None and self._take_all(line.marks):
            self._start = line.start if before[2] is None else before[2]
            return
        self._calls, self._wrong, self._start, self._dropped, self._whole, self._wrapper = before
        end = closing(line.marks).search(self._text, self._over_json(skip_spaces(self._text, inside)))
        self._at = end.end() if end else len(self._text)
        if self._start is not None:
            self._dropped += len(self._text[line.start : self._at].strip())

    def _take_all(self, marks: str) -> bool:
        """Read blocks one behind another up to the end of a fence, and of the text; False where something else is."""
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
        """Read bare JSON as calls if it is the end of the answer, and all of it fits; else step over it.

        `marks` are those of the fence in which it stands.
        """
        over = self._over_json(at) if self._start is None else at
        self._at = max(over, at + 1)
        if over == at:
            return False
        self._bare_left -= 1
        value = read_nearly(self._text, at)
        raws = None if value is None else calls_in(value.value)
        if value is None or raws is None or any(raw.arguments is None for raw in raws):
            return False
        behind = skip_spaces(self._text, value.end)
        if marks:
            behind = end_of_closing(self._text, behind, marks) or behind
        left_over = _LEFT_OVER.match(self._text, behind)
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

    def _over_json(self, at: int) -> int:
        """Return where JSON ends that begins at a place, and that may be a call as far as its beginning shows.

        Where there is none, that is the place itself.
        """
        if self._bare_left <= 0 or self._text[at : at + 1] not in ("{", "["):
            return at
        hope = prospect(self._text, at)
        if not hope.possible or (hope.name is not None and self._offered.find(hope.name) is None):
            return at
        extent = Extent()
        extent.add(self._text[at:])
        return at + (extent.end or 1)
