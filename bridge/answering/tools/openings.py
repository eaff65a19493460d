"""Where a block of tool calls may begin in a text, and where the end of what has come may become such a beginning."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable
from typing import Final, NamedTuple

from bridge.answering.tools.forms import FORMS, RESPONSE, Form, Opening, Run


class Found(NamedTuple):
    """An opening in a text; `form` is None for a result that the model made up."""

    start: int
    end: int
    form: Form | None


_ALL: Final[tuple[tuple[Opening, Form | None], ...]] = (
    *((opening, form) for form in FORMS for opening in form.openings),
    ((RESPONSE,), None),
)

#: The most characters that an opening has: no text is held back for longer than that without one.
LONGEST: Final = max(sum(part.most if isinstance(part, Run) else len(part) for part in opening) for opening, _ in _ALL)


def _whole(opening: Opening) -> str:
    return "".join([f"{part.chars}{{1,{part.most}}}" if isinstance(part, Run) else re.escape(part) for part in opening])


def _beginning(opening: Opening) -> str:
    """A pattern of everything that an opening may begin with, up to the end of the text."""
    parts: list[str] = []
    for part in opening:
        parts += [f"{part.chars}{{1,{part.most}}}"] if isinstance(part, Run) else map(re.escape, part)
    first, *others = parts
    return first + "".join([f"(?:{part}" for part in others]) + ")?" * len(others) + r"\Z"


_OPENING: Final = re.compile("|".join([f"({_whole(opening)})" for opening, _ in _ALL]))
_BEGINNING: Final = re.compile("|".join([_beginning(opening) for opening, _ in _ALL]))
#: The characters that openings begin with.
_FIRSTS: Final = re.compile("[" + re.escape("".join({str(opening[0])[0] for opening, _ in _ALL})) + "]")

#: What stands directly before a marker that is only spoken of.
_QUOTES: Final = tuple("\"'`“‘„‚«‹「『")
_QUOTED: Final = re.compile(f"[{''.join(_QUOTES)}](?={_FIRSTS.pattern})(?:{_OPENING.pattern})")
#: Each place of one, also of those within another.
_EACH_QUOTED: Final = re.compile(f"(?={_QUOTED.pattern})")
#: So much of the line before a marker is looked at.
LINE_CHARS: Final = 2000


def opening_at(text: str, at: int) -> Found | None:
    """Read the opening that stands at a place, if it is meant as one."""
    found = _OPENING.match(text, at)
    return None if found is None or _is_spoken_of(text, at) else _read(found)


def _read(found: re.Match[str]) -> Found:
    return Found(found.start(), found.end(), _ALL[(found.lastindex or 1) - 1][1])


class Openings:
    """The openings of one text, looked for from places that only go forward: each stretch is searched once."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._found: Found | None = None
        self._searched = -1  # from here on
        self._quoted: list[int] | None = None  # the places of all quoted ones

    def next(self, at: int) -> Found | None:
        """Find the next opening from a place on that is meant as one, and not spoken of."""
        if self._searched < 0 or (self._found is not None and self._found.start < at):
            self._found, self._searched = self._next(at), at
        return self._found

    def _next(self, at: int) -> Found | None:
        while found := _OPENING.search(self._text, at):
            if not _is_spoken_of(self._text, found.start(), self._has_quoted):
                return _read(found)
            at = found.end()
        return None

    def _has_quoted(self, start: int, end: int) -> bool:
        """Whether a quoted opening stands between two places."""
        if self._quoted is None:
            self._quoted = [found.start() for found in _EACH_QUOTED.finditer(self._text)]
        first = bisect_left(self._quoted, start)
        return first < len(self._quoted) and _has_quoted(self._text, self._quoted[first], end)


def next_beginning(text: str, at: int) -> int:
    """Find where the end of a text may become an opening; its end where it cannot."""
    at = max(at, len(text) - LONGEST)
    while first := _FIRSTS.search(text, at):
        if is_beginning(text, first.start()):
            return first.start()
        at = first.end()
    return len(text)


def is_beginning(text: str, at: int) -> bool:
    """Whether what stands from a place up to the end of a text may become an opening."""
    return 0 < len(text) - at <= LONGEST and _BEGINNING.match(text, at) is not None and not _is_spoken_of(text, at)


def _has_quoted(text: str, start: int, end: int) -> bool:
    return _QUOTED.search(text, start, end) is not None


def _is_spoken_of(text: str, at: int, has_quoted: Callable[[int, int], bool] | None = None) -> bool:
    """Whether a marker is text: behind a quotation mark, on a line with one that is, in inline code, or quoted."""
    start = max(at - LINE_CHARS, 0)
    begins = text.rfind("\n", start, at) + 1
    start_of_line = max(begins, start)
    line = text[start_of_line:at]
    quoted = line.lstrip()[:1] == ">" and (begins > 0 or start == 0)  # of a longer line the beginning is not seen
    if quoted or line[-1:] in _QUOTES or line.count("`") % 2 == 1:
        return True
    return _has_quoted(text, start_of_line, at) if has_quoted is None else has_quoted(start_of_line, at)
