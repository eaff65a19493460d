"""Finding the openings of tool call blocks in a text, including one that is still incomplete at its end."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable
from typing import Final, NamedTuple

from bridge.answering.tools.forms import FORMS, RESPONSE, Form, Opening, Run


class FoundOpening(NamedTuple):
    """An opening that was found in a text; `form` is None for a result that the model made up."""

    start: int
    end: int
    form: Form | None


_ALL: Final[tuple[tuple[Opening, Form | None], ...]] = (
    *((opening, form) for form in FORMS for opening in form.openings),
    ((RESPONSE,), None),
)

#: The maximum length of an opening, and so of the text that is held back because it may become one.
LONGEST: Final = max(sum(part.most if isinstance(part, Run) else len(part) for part in opening) for opening, _ in _ALL)


def _whole(opening: Opening) -> str:
    return "".join([f"{part.chars}{{1,{part.most}}}" if isinstance(part, Run) else re.escape(part) for part in opening])


def _beginning(opening: Opening) -> str:
    """Make a pattern that matches every non-empty prefix of an opening at the end of a text."""
    parts: list[str] = []
    for part in opening:
        parts += [f"{part.chars}{{1,{part.most}}}"] if isinstance(part, Run) else map(re.escape, part)
    first, *others = parts
    return first + "".join([f"(?:{part}" for part in others]) + ")?" * len(others) + r"\Z"


_OPENING: Final = re.compile("|".join([f"({_whole(opening)})" for opening, _ in _ALL]))
_BEGINNING: Final = re.compile("|".join([_beginning(opening) for opening, _ in _ALL]))
#: The first characters of openings.
_FIRSTS: Final = re.compile("[" + re.escape("".join({str(opening[0])[0] for opening, _ in _ALL})) + "]")

#: What comes directly before a marker that is only mentioned in a text.
_QUOTES: Final = tuple("\"'`“‘„‚«‹「『")
_QUOTED: Final = re.compile(f"[{''.join(_QUOTES)}](?={_FIRSTS.pattern})(?:{_OPENING.pattern})")
#: Finds all of them, even if they overlap.
_EACH_QUOTED: Final = re.compile(f"(?={_QUOTED.pattern})")
#: How much of the line before a marker is examined.
LINE_CHARS: Final = 2000


def opening_at(text: str, at: int) -> FoundOpening | None:
    """Return the opening at an index, unless there is none or it is only a mention."""
    found = _OPENING.match(text, at)
    return None if found is None or _is_mention(text, at) else _found_opening(found)


def _found_opening(found: re.Match[str]) -> FoundOpening:
    return FoundOpening(found.start(), found.end(), _ALL[(found.lastindex or 1) - 1][1])


class Openings:
    """The openings of one text. Each part of the text is searched once, so `next` must get increasing indexes."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._found: FoundOpening | None = None
        self._searched = False
        self._quoted: list[int] | None = None  # the indexes of all quoted openings

    def next(self, at: int) -> FoundOpening | None:
        """Find the first opening at or after an index that is not only a mention."""
        if not self._searched or (self._found is not None and self._found.start < at):
            self._found, self._searched = self._next(at), True
        return self._found

    def _next(self, at: int) -> FoundOpening | None:
        while found := _OPENING.search(self._text, at):
            if not _is_mention(self._text, found.start(), self._has_quoted):
                return _found_opening(found)
            at = found.end()
        return None

    def _has_quoted(self, start: int, end: int) -> bool:
        """Whether there is a quoted opening between two indexes."""
        if self._quoted is None:
            self._quoted = [found.start() for found in _EACH_QUOTED.finditer(self._text)]
        first = bisect_left(self._quoted, start)
        return first < len(self._quoted) and _has_quoted(self._text, self._quoted[first], end)


def next_beginning(text: str, at: int) -> int:
    """Find where the end of a text may become an opening; the end itself if it cannot."""
    at = max(at, len(text) - LONGEST)
    while first := _FIRSTS.search(text, at):
        if is_beginning(text, first.start()):
            return first.start()
        at = first.end()
    return len(text)


def is_beginning(text: str, at: int) -> bool:
    """Whether the text from an index to its end may become an opening."""
    return 0 < len(text) - at <= LONGEST and _BEGINNING.match(text, at) is not None and not _is_mention(text, at)


def _has_quoted(text: str, start: int, end: int) -> bool:
    return _QUOTED.search(text, start, end) is not None


def _is_mention(text: str, at: int, has_quoted: Callable[[int, int], bool] | None = None) -> bool:
    """Whether a marker is only mentioned: in quotation marks, after another such one, in inline code, or in a quote."""
    start = max(at - LINE_CHARS, 0)
    begins = text.rfind("\n", start, at) + 1
    start_of_line = max(begins, start)
    line = text[start_of_line:at]
    is_quote = line.lstrip()[:1] == ">" and (begins > 0 or start == 0)  # the start of a longer line is not examined
    if is_quote or line[-1:] in _QUOTES or line.count("`") % 2 == 1:
        return True
    return _has_quoted(text, start_of_line, at) if has_quoted is None else has_quoted(start_of_line, at)
