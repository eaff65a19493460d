"""JSON as models write it: read strictly where it is JSON, mended where it nearly is. The one door to json-repair.

Each value is mended by itself: of several in a row the library keeps only the last.
"""

from __future__ import annotations

import json
import re
from typing import Final, NamedTuple

#: What ends a value that is not closed: a closing tag, or the next marker.
_CLOSERS: Final = re.compile(
    r"</(?:[\w.-]{1,32}:)?(?:tool_calls?|function|function_calls|invoke|parameter)>"
    r"|<tool_call>|<tool_response\b|\[TOOL_CALLS\]"
    r"|<[|｜][\w▁]+[|｜]>"
)
_TOKENS: Final = re.compile(rf"\\.|[\"'\[\]{{}}]|//[^\n]*|/\*.{{0,1000}}?\*/|(?P<closer>{_CLOSERS.pattern})", re.DOTALL)
_SPACES: Final = re.compile(r"\s*")
#: What must stand before and behind a quotation mark that begins or ends a string of nearly right JSON.
_BEFORE_STRING: Final = re.compile(r"[\[{,:(]\s*\Z")
_BEHIND_STRING: Final = re.compile(r"\s*(?:[,:}\]]|\Z)")
_UNFINISHED: Final = ("{", "[", ",", ":")

#: A longer text is not mended: that holds the event loop for a quarter of a second.
MAX_MENDED_CHARS: Final = 200_000


class Value(NamedTuple):
    """A JSON value that was read, and where it ends in the text; `mended` if it was none as it stood."""

    value: object
    end: int
    mended: bool = False


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is not JSON")


# Raw line breaks in strings are allowed: nothing else can be meant by them.
_DECODER: Final = json.JSONDecoder(strict=False, parse_constant=_refuse)


def read_value(text: str, at: int = 0) -> Value | None:
    """Read the JSON value that begins at a place, strictly; None where there is none."""
    at = skip_spaces(text, at)
    try:
        value, end = _DECODER.raw_decode(text, at)
    except (ValueError, RecursionError):
        return None
    return Value(value, end)


def read_nearly(text: str, at: int = 0) -> Value | None:
    """Read the object or array that begins at a place, mended if need be; None where nothing can be made of it."""
    at = skip_spaces(text, at)
    if text[at : at + 1] not in ("{", "["):
        return None
    strict = read_value(text, at)
    if strict is not None:
        return strict
    end = _end_of_nearly(text, at)
    if end - at > MAX_MENDED_CHARS:
        return None
    value = _mended(text[at:end])
    return None if value is None else Value(value, end, mended=True)


def skip_spaces(text: str, at: int) -> int:
    """Return the first place that is no white space."""
    found = _SPACES.match(text, at)
    return found.end() if found else at


def compact(value: object) -> str:
    """Write a value as compact JSON; characters stand for themselves, lone surrogates as escapes."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"))
    return text


class Extent:
    """Finds where an object or array ends that comes in pieces, by its brackets; its value is not looked at."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._chars = 0
        #: How many characters it has; None as long as it is open.
        self.end: int | None = None

    def add(self, text: str) -> None:
        """Take the next piece; what stands behind the end counts for nothing."""
        if self.end is None:
            at = 1 if self._escaped and text else 0
            self._escaped = self._escaped and not text
            for token in _BRACKETS.finditer(text, at):
                char = token[0]
                if char[0] == "\\":
                    self._escaped = len(char) == 1
                elif char == '"':
                    self._in_string = not self._in_string
                elif not self._in_string:
                    self._depth += 1 if char in "{[" else -1
                    if self._depth <= 0:
                        self.end = self._chars + token.end()
                        break
        self._chars += len(text)


#: An escape may be cut behind its backslash.
_BRACKETS: Final = re.compile(r"\\.?|[\"\[\]{}]", re.DOTALL)


def _mended(text: str) -> dict[str, object] | list[object] | None:
    from json_repair import repair_json  # when first needed: most answers hold JSON that is JSON

    text = text.rstrip()
    if text.endswith(_UNFINISHED):
        return None
    try:
        value = repair_json(text, return_objects=True, skip_json_loads=True)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) and value else None


def _end_of_nearly(text: str, at: int) -> int:
    """Find where a value ends that is not quite JSON: where its brackets are closed, or what cannot be part of it."""
    depth, quote, unquoted_closer = 0, "", None
    for token in _TOKENS.finditer(text, at):
        char = token[0]
        if token.start() - at > MAX_MENDED_CHARS:
            break
        if token["closer"]:
            if not quote:
                return token.start()
            unquoted_closer = token.start() if unquoted_closer is None else unquoted_closer
        elif quote:
            if char == quote and _BEHIND_STRING.match(text, token.end()):
                quote = ""
        elif char in ('"', "'"):
            if char == '"' or _BEFORE_STRING.search(text, max(at, token.start() - 20), token.start()):
                quote, unquoted_closer = char, None
        elif char in ("{", "["):
            depth += 1
        elif char in ("}", "]"):
            depth -= 1
            if depth <= 0:
                return token.end()
    return len(text) if unquoted_closer is None else unquoted_closer
