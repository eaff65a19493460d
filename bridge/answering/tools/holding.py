"""What of an answer's text may go on while it comes: all but what may be calls, or the beginning of some."""

from __future__ import annotations

import re
from typing import Final

from bridge.answering.tools.fences import (
    MAX_MARKS,
    LineStarts,
    closing,
    end_of_closing,
    info,
    maybe_closing,
    maybe_marks,
    prospect,
)
from bridge.answering.tools.json_values import Extent, read_nearly, skip_spaces
from bridge.answering.tools.offered import OfferedTools
from bridge.answering.tools.openings import LINE_CHARS, Openings, is_beginning, next_beginning, opening_at
from bridge.answering.tools.parts import calls_in

#: JSON is followed to its end at the latest when so much of it has come.
_UNDECIDED_CHARS: Final = 200
#: So much of what has gone on is looked at, besides the line that it ends with.
_CONTEXT_CHARS: Final = 10
#: Longer JSON is not read in the moment in which it ends: it waits for the end of the answer, or for more text.
_READ_AT_ONCE_CHARS: Final = 16_000
#: White space waits for what follows it, but no more of it than this.
_MAX_SPACES: Final = 1000
#: A longer piece, which no model writes at once, waits for the end of the answer: to look through it could take long.
_LONG_PIECE_CHARS: Final = 64 * 1024
#: Text that neither begins anything nor ends in white space.
_PLAIN: Final = re.compile(r"[^<\[{`~\n]*[^<\[{`~\s]\Z")


class Holding:
    """Lets text go on, and holds back from the first possible call on.

    `text` is everything that was held, with a little before it: what is held begins at `held_from`.
    """

    def __init__(self, offered: OfferedTools) -> None:
        self._offered = offered
        self._seen = ""  # the last of what has gone on
        self._parts: list[str] = []  # what is held back
        self._marks = ""  # of the fence in which the text is
        self._blank = True  # what is held is white space, or nothing
        self._until_end = False  # a block has begun
        self._json: _BareJson | None = None
        #: Characters that are held back.
        self.size = 0

    @property
    def text(self) -> str:
        """What is held back, behind a little of what has gone on."""
        return self._seen + "".join(self._parts)

    @property
    def held_from(self) -> int:
        """Where in `text` that begins."""
        return len(self._seen)

    @property
    def in_fence(self) -> bool:
        """The text has ended in a fence that has nothing to do with calls."""
        return bool(self._marks)

    def drop(self, chars: int) -> None:
        """Count the first characters of what is held as gone on."""
        text, start = self.text, self.held_from + chars
        self._seen, self._parts = _end_of(text[:start]), [text[start:]]
        self.size = len(text) - start

    def push(self, text: str) -> str:
        """Take the next piece; return what goes on now."""
        if not self._parts and not self._marks and _PLAIN.match(text):
            self._seen = _end_of(self._seen + text)
            return text
        self._parts.append(text)
        self.size += len(text)
        if self._blank and self.size <= _MAX_SPACES and text.isspace():
            return ""
        self._until_end |= len(text) > _LONG_PIECE_CHARS
        if self._until_end or (self._json is not None and not self._json.is_over(text, self._parts)):
            return ""
        return self._let_go()

    def _let_go(self) -> str:
        """Look through what is held; return what of it is text."""
        text, start = self.text, self.held_from
        at = start
        if self._json is not None:
            bare, self._json = self._json, None
            at = bare.step_over(start)
            self._marks = bare.marks
        upto = self._hold_from(text, at)
        going = text[start:upto]
        bare_text = going.rstrip()
        if len(going) - len(bare_text) <= _MAX_SPACES:
            going = bare_text
        upto = start + len(going)
        rest = text[upto:]
        self._parts = [rest] if rest else []
        self._blank = not rest.strip()
        self.size = len(rest)
        if going:
            self._seen = _end_of(text[:upto])
        self._move(upto)
        return going

    def _move(self, by: int) -> None:
        """What is held begins so much later than the text that was looked through."""
        if self._json is not None:
            self._json.moved(by)

    def _hold_from(self, text: str, at: int) -> int:
        """Find from where on the text is to be held back."""
        openings, lines = Openings(text), LineStarts(text)
        while True:
            if self._marks:
                end = closing(self._marks, at_end=False).search(text, at)
                if end is None:
                    line = maybe_closing(self._marks).search(text, max(at, text.rfind("\n") + 1))
                    return line.start() if line else len(text)
                self._marks, at = "", end.end()
            opening, line_start = openings.next(at), lines.next(at)
            if opening is not None and (line_start is None or opening.start <= line_start.at):
                if opening.form is None:
                    at = opening.end
                    continue
                self._until_end = True
                return opening.start
            if line_start is None:
                return min(next_beginning(text, at), maybe_marks(text, at))
            if not line_start.marks:
                over = self._over_bare(text, line_start.at, line_start.at, "")
                if over is None:
                    return line_start.at
                at = over
                continue
            words = info(text, line_start.end)
            if words.undecided:
                return line_start.start
            if not words.is_fence:
                at = line_start.end
                continue
            if words.inside is None:
                self._marks, at = line_start.marks, line_start.end
                continue
            over = self._over_fence(text, line_start.start, words.inside, line_start.marks)
            if over is None:
                return line_start.start
            self._marks, at = line_start.marks, over

    def _over_fence(self, text: str, start: int, inside: int, marks: str) -> int | None:
        """Return where the text goes on in a fence; None where there may be calls in it, as far as it has come."""
        inner = skip_spaces(text, inside)
        if inner - inside > _MAX_SPACES:
            return inside
        if inner == len(text) or is_beginning(text, inner):
            return None
        opening = opening_at(text, inner)
        if opening is not None:
            self._until_end = opening.form is not None
            return None if self._until_end else inside
        return self._over_bare(text, start, inner, marks) if text[inner] in "{[" else inside

    def _over_bare(self, text: str, start: int, at: int, marks: str) -> int | None:
        """Return where the text goes on at or behind JSON; None where it may be a call, as far as it has come.

        Once its name is known, or cannot be for a while, it is followed to its end.
        """
        if is_beginning(text, at):  # `[TOOL_CALLS]`
            return None
        hope = prospect(text, at)
        if not hope.possible or (hope.name is not None and self._offered.find(hope.name) is None):
            return at + 1
        bare = _BareJson(self._offered, start, at, marks)
        if bare.is_over(text[at:], [text]):
            return bare.step_over(0)
        self._json = bare if hope.name is not None or len(text) - at > _UNDECIDED_CHARS else None
        return None


def _end_of(text: str) -> str:
    """The last line of a text, by which markers are known that are only spoken of, with a little before it."""
    start = max(text.rfind("\n") - _CONTEXT_CHARS, len(text) - LINE_CHARS, 0)
    return text[start:]


class _BareJson:
    """JSON without a marker that may be calls, from `start` (of the fence in which it is) on in what is held."""

    def __init__(self, offered: OfferedTools, start: int, at: int, marks: str) -> None:
        self._offered = offered
        self._start = start
        self._at = at
        self._extent = Extent()
        self._called: bool | None = None
        self.marks = marks

    def moved(self, by: int) -> None:
        """What stands before it has gone on: places are counted from where the text that is held begins."""
        self._at -= by

    def step_over(self, held_from: int) -> int:
        """Return where the text goes on behind it."""
        return held_from + self._at + (self._extent.end or 1)

    def is_over(self, text: str, parts: list[str]) -> bool:
        """Take the next piece, which the last of `parts` ends with; True once it can be no call."""
        self._extent.add(text)
        if self._extent.end is None:
            return False
        whole = "".join(parts)
        end = self._at + self._extent.end
        if self._called is None:
            self._called = self._is_call(whole)
        if not self._called:
            return True
        behind = skip_spaces(whole, end)
        if behind - end > _MAX_SPACES:
            return True
        if self.marks and behind < len(whole):
            if len(whole) - behind <= MAX_MARKS and set(whole[behind:]) == {self.marks[0]}:
                return False  # its fence is being closed
            behind = skip_spaces(whole, end_of_closing(whole, behind, self.marks) or behind)
        if behind < len(whole) and whole[behind] == "<":  # a mark of the turn's end, perhaps
            return len(whole) - behind > _UNDECIDED_CHARS
        return behind < len(whole)

    def _is_call(self, whole: str) -> bool:
        """Whether it calls a tool, as far as can be said here: what takes long is judged at the answer's end."""
        if len(whole) > _READ_AT_ONCE_CHARS:
            return True
        value = read_nearly(whole, self._at)
        calls = None if value is None else calls_in(value.value)
        return calls is not None and all(self._offered.find(call.name) for call in calls)
