"""JSON as models write it: read strictly, or mended if it is malformed. The only module that uses json-repair.

Each value is mended by itself, because of several in a row the library keeps only the last.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Final, NamedTuple, NoReturn

from upstream.protocol.surrogates import well_formed

#: What ends an unclosed value: a closing tag, or the next marker.
_CLOSERS: Final = re.compile(
    r"</(?:[\w.-]{1,32}:)?(?:tool_calls?|function|function_calls|invoke|parameter)>"
    r"|<tool_call>|<tool_response\b|\[TOOL_CALLS\]"
    r"|<[|｜][\w▁]+[|｜]>"
)
_TOKENS: Final = re.compile(rf"\\.|[\"'\[\]{{}}]|//[^\n]*|/\*.{{0,200}}?\*/|(?P<closer>{_CLOSERS.pattern})", re.DOTALL)
_SPACES: Final = re.compile(r"\s*")
#: What must come before and after a string in malformed JSON.
_BEFORE_STRING: Final = re.compile(r"[\[{,:(]\s*\Z")
_AFTER_STRING: Final = re.compile(r"\s*(?:[,:}\]]|\Z)")
_UNFINISHED: Final = ("{", "[", ",", ":")

#: A longer text is not mended, since that may take a second; well-formed strings in it do not count.
MAX_MENDED_CHARS: Final = 200_000
#: The end of a malformed value is looked for within this many characters.
_MAX_EXTENT: Final = 4_000_000
#: A longer text is mended only with its strings set aside, because the library's time grows with their square.
_LONG_TEXT: Final = 10_000
_STRINGS: Final = {quote: re.compile(rf"{quote}(?:[^{quote}\\]++|\\.)*+{quote}", re.DOTALL) for quote in ('"', "'")}
_ESCAPED: Final = re.compile(r'\\(.)|"', re.DOTALL)
#: Encloses the number that replaces a string that is set aside; in texts with this character none is.
_ASIDE: Final = "\ue000"


class Value(NamedTuple):
    """A JSON value, the index in the text where it ends, and whether it was malformed and had to be mended."""

    value: object
    end: int
    mended: bool = False


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _finite(number: str) -> float:
    value = float(number)
    return value if math.isfinite(value) else _refuse(number)


# Raw line breaks in strings are accepted, since their meaning is clear.
_DECODER: Final = json.JSONDecoder(strict=False, parse_constant=_refuse, parse_float=_finite)


def read_value(text: str, at: int = 0) -> Value | None:
    """Read the JSON value at an index, strictly; None if there is none."""
    at = skip_spaces(text, at)
    try:
        value, end = _DECODER.raw_decode(text, at)
    except (ValueError, RecursionError):
        return None
    return Value(value, end)


def read_nearly(text: str, at: int = 0) -> Value | None:
    """Read the object or array at an index, mended if necessary; None if that is impossible."""
    at = skip_spaces(text, at)
    if text[at : at + 1] not in ("{", "["):
        return None
    strict = read_value(text, at)
    if strict is not None:
        return strict
    end = _end_of_nearly(text, at)
    value = _mend(text[at:end])
    return None if value is None else Value(value, end, mended=True)


def is_too_long(text: str, at: int) -> bool:
    """Whether the malformed value at an index is too long to be repaired, which the model and the caller are told."""
    start = skip_spaces(text, at)
    return len(text) - start > MAX_MENDED_CHARS and _end_of_nearly(text, start) - start > MAX_MENDED_CHARS


def skip_spaces(text: str, at: int) -> int:
    """Return the index of the first character that is not white space."""
    found = _SPACES.match(text, at)
    return found.end() if found else at


def compact(value: object) -> str:
    """Write a value as compact JSON; lone surrogates become U+FFFD. Raises ValueError for an infinite number."""
    return well_formed(json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False))


class Extent:
    """Finds the end of an object or array that arrives in pieces, by counting its brackets."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._chars = 0
        #: Its length in characters; None until it is closed.
        self.end: int | None = None

    def add(self, text: str) -> None:
        """Take the next piece; anything after the end is ignored."""
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


class ControlEscaper:
    """Escapes raw control characters in strings, which JSON forbids and models write; the JSON arrives in pieces."""

    def __init__(self) -> None:
        self._in_string = False
        self._escaped = False

    def push(self, text: str) -> str:
        """Take the next piece; return it with escapes. White space between values is kept."""
        at = 1 if self._escaped and text else 0
        self._escaped = self._escaped and not text
        return text[:at] + _QUOTES_AND_CONTROLS.sub(self._replacement, text[at:])

    def _replacement(self, found: re.Match[str]) -> str:
        char = found[0]
        if char[0] == "\\":
            self._escaped = len(char) == 1
        elif char == '"':
            self._in_string = not self._in_string
        elif self._in_string:
            return json.dumps(char)[1:-1]
        return char


_QUOTES_AND_CONTROLS: Final = re.compile(r"\\.?|[\"\x00-\x1f]", re.DOTALL)
#: A piece may end after the backslash of an escape.
_BRACKETS: Final = re.compile(r"\\.?|[\"\[\]{}]", re.DOTALL)


def _mend(text: str) -> dict[str, object] | list[object] | None:
    """Mend a text with its strings set aside, because the library would strip line breaks from their ends."""
    text = text.rstrip()
    if text.endswith(_UNFINISHED):
        return None
    aside: list[str] = []
    short = _set_aside(text, aside) if _ASIDE not in text else text
    value = _mend_with_library(short, aside) if len(short) <= MAX_MENDED_CHARS else None
    if value is None and aside and len(text) <= _LONG_TEXT:
        return _mend_with_library(text, [])
    return value


def _mend_with_library(text: str, aside: list[str]) -> dict[str, object] | list[object] | None:
    """Mend a text with the library, then put back the strings that were set aside; None if one would be lost."""
    from json_repair import repair_json  # deferred, since most JSON is well-formed

    try:
        value = _put_back(repair_json(text, return_objects=True, skip_json_loads=True), aside)
        compact(value)  # it may have an infinite number
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) and value and not any(aside) else None


def _set_aside(text: str, aside: list[str]) -> str:
    """Replace each well-formed string by a placeholder, and append the string to `aside`."""
    parts: list[str] = []
    done = 0
    for start, end in _strings(text):
        before = text[max(0, start - 20) : start].rstrip()
        if before[-1:] in ("[", "{", ",", ":") and _AFTER_STRING.match(text, end):
            parts += (text[done:start], f'"{_ASIDE}{len(aside)}{_ASIDE}"')
            aside.append(text[start:end])
            done = end
    return "".join((*parts, text[done:]))


def _strings(text: str) -> Iterator[tuple[int, int]]:
    """Yield the spans of the quoted strings in a text.

    After an unterminated string, no further strings with that quotation mark are looked for: a new search at each mark
    would take quadratic time.
    """
    at, quotes = 0, "\"'"
    while quotes and (mark := re.compile(f"[{quotes}]").search(text, at)):
        found = _STRINGS[mark[0]].match(text, mark.start())
        if found is None:
            quotes, at = quotes.replace(mark[0], ""), mark.end()
            continue
        yield found.span()
        at = found.end()


def _put_back(value: object, aside: list[str]) -> object:
    """Replace each placeholder by its string, which is removed from `aside`. Raises ValueError for a damaged one."""
    match value:
        case dict():
            return {str(_put_back(name, aside)): _put_back(inner, aside) for name, inner in value.items()}
        case list():
            return [_put_back(inner, aside) for inner in value]
        case str() if aside and _ASIDE in value:
            index = int(value.removeprefix(_ASIDE).removesuffix(_ASIDE))
            string, aside[index] = aside[index], ""
            return _DECODER.decode(string if string[:1] == '"' else _double_quoted(string))
    return value


def _double_quoted(string: str) -> str:
    """Rewrite a string in single quotation marks as a JSON string."""

    def escaped(found: re.Match[str]) -> str:
        return "'" if found[1] == "'" else found[0] if found[1] else '\\"'

    return f'"{_ESCAPED.sub(escaped, string[1:-1])}"'


def _end_of_nearly(text: str, at: int) -> int:
    """Find the end of a malformed value: where its brackets are closed, or before what cannot belong to it."""
    depth, quote, unquoted_closer = 0, "", None
    for token in _TOKENS.finditer(text, at):
        char = token[0]
        if token.start() - at > _MAX_EXTENT:
            break
        if token["closer"]:
            if not quote:
                return token.start()
            unquoted_closer = token.start() if unquoted_closer is None else unquoted_closer
        elif quote:
            if char == quote and _AFTER_STRING.match(text, token.end()):
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
