"""Replaces JSON in a pasted text by its content, as lines `name: value`, and each session by its cookie's value.

A browser's local storage has the session as a JSON object; extensions export cookies as a list of objects; developer
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
#: Members that are ignored: they contain prompts, or cookies that are not the request's.
_IGNORED: Final = frozenset({"body", "postData", "response"})
#: How many levels of JSON within strings are parsed. Local storage exported as JSON has one.
_MAX_NESTED_STRINGS: Final = 2


def expand_json(text: str) -> str:
    """`text` with each JSON object replaced by lines. Raises CookieError for a session that cannot be a cookie."""
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
    """Yield the start and end of each outermost object; what follows an unterminated one is not searched."""
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
    pending: list[tuple[str, object, int]] = [("", value, 0)]  # no recursion: JSON may be nested a thousand levels deep
    while pending:
        name, each, nested = pending.pop()
        match each:
            case dict() if isinstance(each.get("access_token"), str) and isinstance(each.get("refresh_token"), str):
                yield encode(each)
            case (
                {"name": str(called), "value": str(held)}
                | {"key": str(called), "value": str(held)}
                | {"Name raw": str(called), "Content raw": str(held)}
            ):
                pending.append((called, held, nested))
            case dict():
                inner = [(key, within, nested) for key, within in each.items() if key not in _IGNORED]
                pending += reversed(inner)
            case list():
                pending += [("", within, nested) for within in reversed(each)]
            case str():
                loaded = _loaded(each) if each.startswith(("{", "[", '"')) and nested < _MAX_NESTED_STRINGS else None
                if loaded is not None:
                    pending.append((name, loaded, nested + 1))
                else:
                    yield f"{name}: {each}" if name else each


def _loaded(text: str) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
