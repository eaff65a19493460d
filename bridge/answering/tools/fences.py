"""Code fences and bare JSON, both of which may begin only at the start of a line."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

from bridge.answering.tools.json_values import skip_spaces
from bridge.answering.tools.offered import MAX_NAME_CHARS, OfferedTools

#: The longest info string (the text after the marks) of a fence that may contain calls.
MAX_INFO_CHARS: Final = 40
#: The maximum number of marks of a fence, and of blanks around those of a closing one. They limit the text that is held
#: back, and searched again for each delta, while it may still become a fence.
MAX_MARKS: Final = 100
_MAX_BLANKS: Final = 100

_LINE: Final = re.compile(
    rf"^[ \t]*(?:(?P<marks>`{{3,{MAX_MARKS}}}(?!`)|~{{3,{MAX_MARKS}}}(?!~))|(?P<bracket>[\[{{]))", re.MULTILINE
)
_BLANKS: Final = f"[ \\t]{{0,{_MAX_BLANKS}}}"
_LAST: Final = r"(?:\n|\Z)"
_INFO: Final = re.compile(r"[^`\n]*")
_MAYBE_MARKS: Final = re.compile(r"^[ \t]*(?:`{1,2}|~{1,2})\Z", re.MULTILINE)

_KEYS: Final = ("name", "function", "tool", "tool_calls", "arguments", "parameters", "args", "input", "type", "id")
_KINDS: Final = ("function", "function_call", "tool_call", "tool_use")
#: The beginning of a call in JSON, however much of it has arrived.
_CALL: Final = re.compile(
    r"\s*(?:\[\s*)?(?:\{\s*(?:(?P<quote>[\"'])(?P<key>\w{0,20})(?:(?P<closed>(?P=quote))"
    rf"\s*(?::\s*(?P<value>[\"'](?P<name>[^\"'\n]{{0,{MAX_NAME_CHARS}}}))?)?)?)?)?"
)


class LineStart(NamedTuple):
    """The start of a line with the marks of a fence or with a bracket, either from `at` to `end`."""

    start: int
    at: int
    end: int
    marks: str


class LineStarts:
    """The line starts of one text. Each part of the text is searched once, so `next` must get increasing indexes."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._found: LineStart | None = None
        self._searched = False

    def next(self, at: int) -> LineStart | None:
        """Find the first line start at or after an index."""
        if not self._searched or (self._found is not None and self._found.start < at):
            self._found, self._searched = _next_line_start(self._text, at), True
        return self._found


def _next_line_start(text: str, at: int) -> LineStart | None:
    found = _LINE.search(text, at)
    if found is None:
        return None
    marks = found["marks"] or ""
    return LineStart(found.start(), found.end() - len(marks or "{"), found.end(), marks)


def maybe_marks(text: str, at: int) -> int:
    """Find where the end of a text may become the marks of a fence; the end itself if it cannot."""
    found = _MAYBE_MARKS.search(text, max(at, len(text) - 200))
    return found.start() if found else len(text)


class InfoString(NamedTuple):
    """What follows the marks at the start of a line, which begin a fence or do not, or may still do.

    `inside` is where the fence's content begins; None if that has not arrived, or if the info string is so long that
    the content is no call.
    """

    is_fence: bool
    inside: int | None = None
    undecided: bool = False


def read_info_string(text: str, at: int) -> InfoString:
    """Read the info string at an index, as far as it has arrived."""
    found = _INFO.match(text, at, at + MAX_INFO_CHARS + 1)
    end = found.end() if found else at
    if end - at > MAX_INFO_CHARS:
        return InfoString(is_fence=True)
    if end == len(text):
        return InfoString(is_fence=False, undecided=True)
    return InfoString(is_fence=True, inside=end + 1) if text[end] == "\n" else InfoString(is_fence=False)


@lru_cache(maxsize=4 * MAX_MARKS)
def closing(marks: str, *, at_end: bool = True) -> re.Pattern[str]:
    """Make a pattern for the line that closes a fence; with `at_end`, the end of the text counts as a line break."""
    end = _LAST if at_end else r"\n"
    return re.compile(f"^{_BLANKS}{_as_many(marks)}{_BLANKS}{end}", re.MULTILINE)


def end_of_closing(text: str, at: int, marks: str) -> int | None:
    """Find the end of a fence's closing marks at an index; None if there are none."""
    found = _marks_alone(marks).match(text, at)
    return found.end() if found else None


@lru_cache(maxsize=2 * MAX_MARKS)
def _marks_alone(marks: str) -> re.Pattern[str]:
    return re.compile(f"{_as_many(marks)}{_BLANKS}{_LAST}")


@lru_cache(maxsize=2)
def maybe_closing(mark: str) -> re.Pattern[str]:
    """Make a pattern for an unfinished last line that may still close a fence with this mark."""
    return re.compile(rf"^{_BLANKS}{re.escape(mark)}{{0,{MAX_MARKS}}}{_BLANKS}\Z", re.MULTILINE)


def _as_many(marks: str) -> str:
    """Make a pattern for at least as many marks."""
    return f"{re.escape(marks[0])}{{{len(marks)},{MAX_MARKS}}}"


class JsonStart(NamedTuple):
    """Whether the beginning of some JSON may be that of a call, and the tool that it names, if that is known."""

    looks_like_call: bool
    name: str | None = None

    def may_call(self, offered: OfferedTools) -> bool:
        """Whether the JSON may still be a call of one of the offered tools."""
        return self.looks_like_call and (self.name is None or offered.find(self.name) is not None)


def read_json_start(text: str, at: int) -> JsonStart:
    """Judge by the beginning of the JSON at an index whether it may be a call, however much of it has arrived."""
    found = _CALL.match(text, at)
    if found is None:  # for the type checker: the pattern matches anything
        return JsonStart(False)
    at_end = skip_spaces(text, found.end()) == len(text)
    key = found["key"]
    if key is None:
        return JsonStart(at_end)
    if not found["closed"]:
        return JsonStart(at_end and any(each.startswith(key) for each in _KEYS))
    if key not in _KEYS:
        return JsonStart(False)
    if found["value"] and not at_end:
        if key in ("name", "function", "tool"):
            return JsonStart(True, found["name"])
        return JsonStart(key != "type" or found["name"] in _KINDS)
    return JsonStart(True)
