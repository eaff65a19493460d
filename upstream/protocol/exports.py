"""JSON in a pasted text → what it holds, one a line: `name: value`, and each session as its cookie's value.

A browser's local storage holds the session as a JSON object; extensions export cookies as a list of objects; developer
tools copy a request as `fetch(url, {"headers": …})` or as a HAR file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import orjson

from upstream.protocol.cookies import encode

_OPENING: Final = re.compile(r'\{\s*"')
_PART: Final = re.compile(r'"(?:[^"\\]|\\.)*+"?|[{}]', re.DOTALL)
#: What a request or an answer carries beside the request's headers: prompts, and cookies of another moment.
_LEFT_OUT: Final = frozenset({"body", "postData", "response"})
#: How many strings of JSON are read within one another. Local storage exported as JSON has one.
_MAX_NESTED_STRINGS: Final = 2


def opened(text: str) -> str:
    """`text` with each JSON object in it replaced by lines. Raises CookieError for a session that is no cookie's."""
    if text.startswith('"') and isinstance(string := _loaded(text), str):
        text = string
    parts: list[str] = []
    read_to = 0
    for start, end in _objects(text):
        if isinstance(value := _loaded(text[start:end]), dict):
            parts += text[read_to:start], "\n", "\n".join(_lines(value)), "\n"
            read_to = end
    return "".join([*parts, text[read_to:]])


def _objects(text: str) -> Iterator[tuple[int, int]]:
    """Where the outermost objects begin and end; one that does not end hides what follows it."""
    opening = _OPENING.search(text)
    while opening:
        end = _end(text, opening.start())
        if end is None:
            return
        yield opening.start(), end
        opening = _OPENING.search(text, end)


def _end(text: str, start: int) -> int | None:
    depth = 0
    for part in _PART.finditer(text, start):
        match part[0]:
            case "{":
                depth += 1
            case "}":
                depth -= 1
                if depth == 0:
                    return part.end()
    return None


def _lines(value: object) -> Iterator[str]:
    waiting: list[tuple[str, object, int]] = [("", value, 0)]  # not recursion: JSON may be nested a thousand levels
    while waiting:
        name, each, nested = waiting.pop()
        match each:
            case dict() if isinstance(each.get("access_token"), str) and isinstance(each.get("refresh_token"), str):
                yield encode(each)
            case (
                {"name": str(called), "value": str(held)}
                | {"key": str(called), "value": str(held)}
                | {"Name raw": str(called), "Content raw": str(held)}
            ):
                waiting.append((called, held, nested))
            case dict():
                inner = [(key, within, nested) for key, within in each.items() if key not in _LEFT_OUT]
                waiting += reversed(inner)
            case list():
                waiting += [("", within, nested) for within in reversed(each)]
            case str():
                loaded = _loaded(each) if each.startswith(("{", "[", '"')) and nested < _MAX_NESTED_STRINGS else None
                if loaded is not None:
                    waiting.append((name, loaded, nested + 1))
                else:
                    yield f"{name}: {each}" if name else each


def _loaded(text: str) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
