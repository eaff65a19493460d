"""Code fences, and bare JSON: both may begin only on a line of their own."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

from bridge.answering.tools.json_values import skip_spaces

#: The words after the marks of a fence have at most this many characters if the fence holds a block of calls.
MAX_INFO_CHARS: Final = 40
#: The longest run of marks that can be a fence, and the most blanks around the marks of a closing one. They bound the
#: text that is held back, and searched again at each delta, while it may still become a fence.
MAX_MARKS: Final = 100
_MAX_BLANKS: Final = 100

_LINE: Final = re.compile(
    rf"^[ \t]*(?:(?P<marks>`{{3,{MAX_MARKS}}}(?!`)|~{{3,{MAX_MARKS}}}(?!~))|(?P<bracket>[\[{{]))", re.MULTILINE
)
_INFO: Final = re.compile(r"[^`\n]*")
_MAYBE_MARKS: Final = re.compile(r"^[ \t]*(?:`{1,2}|~{1,2})\Z", re.MULTILINE)

_KEYS: Final = ("name", "function", "tool", "tool_calls", "arguments", "parameters", "args", "input", "type", "id")
_KINDS: Final = ("function", "function_call", "tool_call", "tool_use")
#: How a call in JSON begins, as far as it has come.
_CALL: Final = re.compile(
    r"\s*(?:\[\s*)?(?:\{\s*(?:(?P<quote>[\"'])(?P<key>\w{0,20})(?:(?P<closed>(?P=quote))"
    r"\s*(?::\s*(?P<value>[\"'](?P<name>[^\"'\n]{0,100}))?)?)?)?)?"
)


class LineStart(NamedTuple):
    """A line that begins with the marks of a fence, or with a bracket, which is at `at`; `end` is behind either."""

    start: int
    at: int
    end: int
    marks: str


def next_line_start(text: str, at: int) -> LineStart | None:
    """Find the next line that begins so."""
    found = _LINE.search(text, at)
    if found is None:
        return None
    marks = found["marks"] or ""
    return LineStart(found.start(), found.end() - len(marks or "{"), found.end(), marks)


class LineStarts:
    """Those of one text, looked for from places that only go forward: each stretch is searched once."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._found: LineStart | None = None
        self._searched = -1  # from here on

    def next(self, at: int) -> LineStart | None:
        """Find the next one from a place on."""
        if self._searched < 0 or (self._found is not None and self._found.start < at):
            self._found, self._searched = next_line_start(self._text, at), at
        return self._found


def maybe_marks(text: str, at: int) -> int:
    """Find where the end of a text may become the marks of a fence; its end where it cannot."""
    found = _MAYBE_MARKS.search(text, max(at, len(text) - 200))
    return found.start() if found else len(text)


class Info(NamedTuple):
    """What stands behind the marks of a line: of a fence, up to `inside`, where its content begins.

    `inside` is None where that has not come, or cannot be known to be calls: the words are too many.
    """

    is_fence: bool
    inside: int | None = None
    undecided: bool = False


def info(text: str, at: int) -> Info:
    """Read the words behind the marks that end at a place, as far as they have come."""
    found = _INFO.match(text, at, at + MAX_INFO_CHARS + 1)
    end = found.end() if found else at
    if end - at > MAX_INFO_CHARS:
        return Info(is_fence=True)
    if end == len(text):
        return Info(is_fence=False, undecided=True)
    return Info(is_fence=True, inside=end + 1) if text[end] == "\n" else Info(is_fence=False)


@lru_cache(maxsize=4 * MAX_MARKS)
def closing(marks: str, *, at_end: bool = True) -> re.Pattern[str]:
    """The line that closes a fence; with `at_end` it may be the last of the text, without a line break."""
    return re.compile(f"^{_BLANKS}{_as_many(marks)}{_BLANKS}{_LAST if at_end else _BREAK}", re.MULTILINE)


def end_of_closing(text: str, at: int, marks: str) -> int | None:
    """Find the end of the marks that close a fence and begin at a place; None where there are none."""
    found = _marks_alone(marks).match(text, at)
    return found.end() if found else None


@lru_cache(maxsize=2 * MAX_MARKS)
def _marks_alone(marks: str) -> re.Pattern[str]:
    return re.compile(f"{_as_many(marks)}{_BLANKS}{_LAST}")


@lru_cache(maxsize=2)
def _maybe_closing(mark: str) -> re.Pattern[str]:
    return re.compile(rf"^{_BLANKS}{re.escape(mark)}{{0,{MAX_MARKS}}}{_BLANKS}\Z", re.MULTILINE)


def maybe_closing(marks: str) -> re.Pattern[str]:
    """A last line that may become one that closes a fence."""
    return _maybe_closing(marks[0])


_BLANKS: Final = f"[ \\t]{{0,{_MAX_BLANKS}}}"
_BREAK: Final = r"\n"
_LAST: Final = r"(?:\n|\Z)"


def _as_many(marks: str) -> str:
    return f"{re.escape(marks[0])}{{{len(marks)},{MAX_MARKS}}}"


class Prospect(NamedTuple):
    """What the JSON that begins at a place can still be; `name` is the tool that it names first, if it is known."""

    possible: bool
    name: str | None = None


def prospect(text: str, at: int) -> Prospect:
    """Say whether JSON that begins at a place may be a call, as far as it has come."""
    found = _CALL.match(text, at)
    if found is None:  # the pattern matches anything
        return Prospect(False)
    at_end = skip_spaces(text, found.end()) == len(text)
    key = found["key"]
    if key is None:
        return Prospect(at_end)
    if not found["closed"]:
        return Prospect(at_end and any(each.startswith(key) for each in _KEYS))
    if key not in _KEYS:
        return Prospect(False)
    if found["value"] and not at_end:
        if key in ("name", "function", "tool"):
            return Prospect(True, found["name"])
        return Prospect(key != "type" or found["name"] in _KINDS)
    return Prospect(True)
