"""Passes on an answer's text as it arrives, and holds back what may be tool calls or the beginning of some."""

from __future__ import annotations

import re
from typing import Final

from bridge.answering.tools.fences import (
    MAX_MARKS,
    LineStarts,
    closing,
    end_of_closing,
    maybe_closing,
    maybe_marks,
    read_info_string,
    read_json_start,
)
from bridge.answering.tools.json_values import Extent, read_nearly, skip_spaces
from bridge.answering.tools.offered import OfferedTools
from bridge.answering.tools.openings import LINE_CHARS, Openings, is_beginning, next_beginning, opening_at
from bridge.answering.tools.parts import calls_in

#: JSON whose beginning is this long and still undecided is held back to its end.
_UNDECIDED_CHARS: Final = 200
#: This much of the text that was passed on is kept as context, in addition to its last line.
_CONTEXT_CHARS: Final = 10
#: Longer JSON is not read as soon as it is complete, but held back until the answer ends or more text follows.
_READ_AT_ONCE_CHARS: Final = 16_000
#: At most this much white space is held back until it is known what follows.
_MAX_SPACES: Final = 1000
#: A longer piece, which no model writes at once, is held back until the end, because scanning it could take long.
_LONG_PIECE_CHARS: Final = 64 * 1024
#: Text that cannot be the beginning of a call and does not end in white space.
_PLAIN: Final = re.compile(r"[^<\[{`~\n]*[^<\[{`~\s]\Z")


class CallBuffer:
    """Passes text on until a call may begin, and holds back everything from there.

    `text` is what is held back, after some context that has been passed on; the held text begins at `held_from`.
    """

    def __init__(self, offered: OfferedTools) -> None:
        self._offered = offered
        self._seen = ""  # the end of what has been passed on
        self._parts: list[str] = []  # what is held back
        self._marks = ""  # those of the fence that the text is in
        self._blank = True  # only white space is held back, or nothing
        self._until_end = False  # everything is held back, since a block has begun
        self._json: _BareJson | None = None
        #: The number of characters that are held back.
        self.size = 0

    @property
    def text(self) -> str:
        """What is held back, after the end of what has been passed on."""
        return self._seen + self.held

    @property
    def held(self) -> str:
        """What is held back."""
        return "".join(self._parts)

    @property
    def held_from(self) -> int:
        """The index in `text` of what is held back."""
        return len(self._seen)

    @property
    def in_fence(self) -> bool:
        """Whether the end of the text is in a fence that is not about calls."""
        return bool(self._marks)

    def drop(self, chars: int) -> None:
        """Treat the first characters of what is held back as passed on."""
        text, start = self.text, self.held_from + chars
        self._seen, self._parts = _end_of(text[:start]), [text[start:]]
        self.size = len(text) - start

    def push(self, text: str) -> str:
        """Take the next piece; return what can be passed on now."""
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
        return self._release()

    def _release(self) -> str:
        """Scan what is held back; release the text before the first possible call."""
        text, start = self.text, self.held_from
        at = start
        if self._json is not None:
            bare, self._json = self._json, None
            at = bare.end(start)
            self._marks = bare.marks
        upto = self._hold_from(text, at)
        released = text[start:upto]
        stripped = released.rstrip()
        if len(released) - len(stripped) <= _MAX_SPACES:
            released = stripped
        upto = start + len(released)
        rest = text[upto:]
        self._parts = [rest] if rest else []
        self._blank = not rest.strip()
        self.size = len(rest)
        if released:
            self._seen = _end_of(text[:upto])
        self._shift_json(upto)
        return released

    def _shift_json(self, by: int) -> None:
        # A method of its own, because in `_release` mypy takes `_json` for None.
        if self._json is not None:
            self._json.shift(by)

    def _hold_from(self, text: str, at: int) -> int:
        """Return the index from which the text must be held back."""
        openings, lines = Openings(text), LineStarts(text)
        while True:
            if self._marks:
                end = closing(self._marks, at_end=False).search(text, at)
                if end is None:
                    line = maybe_closing(self._marks[0]).search(text, max(at, text.rfind("\n") + 1))
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
                after = self._skip_json(text, line_start.at, "")
                if after is None:
                    return line_start.at
                at = after
                continue
            info = read_info_string(text, line_start.end)
            if info.undecided:
                return line_start.start
            if not info.is_fence:
                at = line_start.end
                continue
            if info.inside is None:
                self._marks, at = line_start.marks, line_start.end
                continue
            after = self._skip_fence_start(text, info.inside, line_start.marks)
            if after is None:
                return line_start.start
            self._marks, at = line_start.marks, after

    def _skip_fence_start(self, text: str, inside: int, marks: str) -> int | None:
        """Return the index in a fence from which its text can be scanned; None if it may still contain calls."""
        inner = skip_spaces(text, inside)
        if inner - inside > _MAX_SPACES:
            return inside
        if inner == len(text) or is_beginning(text, inner):
            return None
        opening = opening_at(text, inner)
        if opening is not None:
            self._until_end = opening.form is not None
            return None if self._until_end else inside
        return self._skip_json(text, inner, marks) if text[inner] in "{[" else inside

    def _skip_json(self, text: str, at: int, marks: str) -> int | None:
        """Return the index in or after the JSON at `at` from which to scan on; None if the JSON may still be a call.

        Once the name in it is known, or cannot be expected soon, it is held back to its end.
        """
        if is_beginning(text, at):  # `[TOOL_CALLS]`
            return None
        json_start = read_json_start(text, at)
        if not json_start.may_call(self._offered):
            return at + 1
        bare = _BareJson(self._offered, at, marks)
        if bare.is_over(text[at:], [text]):
            return bare.end(0)
        self._json = bare if json_start.name is not None or len(text) - at > _UNDECIDED_CHARS else None
        return None


def _end_of(text: str) -> str:
    """Return the last line of a text with a little before it: what is needed to recognise markers that are mentions."""
    start = max(text.rfind("\n") - _CONTEXT_CHARS, len(text) - LINE_CHARS, 0)
    return text[start:]


class _BareJson:
    """JSON without a marker that may be calls. `at` is its index in the held text, `marks` those of its fence or ''."""

    def __init__(self, offered: OfferedTools, at: int, marks: str) -> None:
        self._offered = offered
        self._at = at
        self._extent = Extent()
        self._called: bool | None = None
        self.marks = marks

    def shift(self, by: int) -> None:
        """Adjust its index after text before it has been passed on."""
        self._at -= by

    def end(self, held_from: int) -> int:
        """Return the index after it, or after its first bracket if it is not complete."""
        return held_from + self._at + (self._extent.end or 1)

    def is_over(self, text: str, parts: list[str]) -> bool:
        """Take the next piece, with which the last of `parts` ends; True once it cannot be a call."""
        self._extent.add(text)
        if self._extent.end is None:
            return False
        whole = "".join(parts)
        end = self._at + self._extent.end
        if self._called is None:
            self._called = self._is_call(whole)
        if not self._called:
            return True
        after = skip_spaces(whole, end)
        if after - end > _MAX_SPACES:
            return True
        if self.marks and after < len(whole):
            if len(whole) - after <= MAX_MARKS and set(whole[after:]) == {self.marks[0]}:
                return False  # its fence is being closed
            after = skip_spaces(whole, end_of_closing(whole, after, self.marks) or after)
        if after < len(whole) and whole[after] == "<":  # perhaps a marker of the turn's end
            return len(whole) - after > _UNDECIDED_CHARS
        return after < len(whole)

    def _is_call(self, whole: str) -> bool:
        """Whether it calls a tool; True if it is too long to decide before the answer has ended."""
        if len(whole) > _READ_AT_ONCE_CHARS:
            return True
        value = read_nearly(whole, self._at)
        calls = None if value is None else calls_in(value.value)
        return calls is not None and all(self._offered.find(call.name) for call in calls)
