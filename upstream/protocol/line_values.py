"""Parses the values of stream lines that are one JSON document: pictures, citations, the finish, failures.

Source: docs/protocol.md, "The answer: a line stream". `wire` finds the lines.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple

import orjson

from upstream.protocol.drift import MAX_KIND_CHARS
from upstream.protocol.errors import ModelFailed
from upstream.protocol.events import Citations, Event, Failure, Finish, Images, Source
from upstream.protocol.refusals import quotable
from upstream.protocol.surrogates import well_formed

#: How deep a failure's message is searched for: nested objects, and JSON within strings.
_MAX_FAILURE_DEPTH: Final = 8
#: The longest text that is parsed by the standard library if orjson refuses it: that is much slower.
MAX_LENIENT_CHARS: Final = 256 * 1024
#: The most commas and opening brackets in a document: the largest seen have some 5,000. Each may take 64 bytes.
MAX_PARTS: Final = 100_000
#: The most entries of one `a2:` list; further ones are skipped.
MAX_ITEMS: Final = 100
#: The most sources of an answer, offsets of a source, and characters of its URL and title. Sources with longer URLs
#: are skipped, titles are truncated. The largest lists seen have some 40 sources.
MAX_SOURCES: Final = 200
MAX_OFFSETS: Final = 100
MAX_URL_CHARS: Final = 2048
MAX_TITLE_CHARS: Final = 300
#: The longest finish reason, which should be one word.
MAX_REASON_CHARS: Final = 100

#: Accepts what orjson refuses: lone surrogates, and raw control characters in a string.
_LENIENT: Final = json.JSONDecoder(strict=False)


class LineValue(NamedTuple):
    """The event of a document, if any, and the kinds of its unknown entries."""

    event: Event | None
    unknown: tuple[str, ...] = ()


def loads(value: bytes | str) -> object:
    """Parse JSON, with the standard library if orjson is too strict (lone surrogates, raw CR in a string).

    Raises ValueError for invalid JSON, and for more than `MAX_PARTS` parts.
    """
    if len(value) > MAX_PARTS and value.lstrip()[:1] not in (b'"', '"') and has_many_parts(value):
        raise ValueError("too many parts")
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        if len(value) > MAX_LENIENT_CHARS:
            raise
    try:
        # As text: given bytes, the library would guess the encoding, and NULs would suggest UTF-16.
        return _LENIENT.decode(value if isinstance(value, str) else value.decode())
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def has_many_parts(document: bytes | str) -> bool:
    """Whether a JSON document may have more than `MAX_PARTS` values, counting commas and opening brackets."""
    marks: tuple[Any, ...] = (",", "[", "{") if isinstance(document, str) else (b",", b"[", b"{")
    found = 0
    for start in range(0, len(document), MAX_PARTS):  # stops early: counting all of them could block the loop
        found += sum([document.count(mark, start, start + MAX_PARTS) for mark in marks])
        if found > MAX_PARTS:
            return True
    return False


def model_failed(detail: str = "") -> ModelFailed:
    """Make the error for a failed model, with its own message if there is one."""
    return ModelFailed(f"The model failed: {detail}" if detail else "The model failed.", detail=detail)


def read_explanation(value: bytes) -> str:
    """Return the message of a bookkeeping line (`ae:`), which explains an answer without content; '' if none."""
    if b'"message"' not in value:  # the usual case
        return ""
    with suppress(ValueError):  # bookkeeping that cannot be parsed is ignored
        document = loads(value)
        message = document.get("message") if isinstance(document, dict) else None
        return quotable(message) if isinstance(message, str) else ""
    return ""


def _text(value: object) -> str | None:
    """The value as a well-formed text; None if it is not a text, or empty."""
    return well_formed(value) if isinstance(value, str) and value else None


def _entries(value: object, most: int) -> list[object]:
    """The first `most` items of a list, or a single value as a list."""
    return value[:most] if isinstance(value, list) else [value]


def _objects(value: object) -> Iterator[dict[str, object]]:
    """Yield a single object, or the first objects of a list."""
    for item in _entries(value, MAX_SOURCES):
        if isinstance(item, dict):
            yield item


def _read_items(value: object) -> LineValue:
    """Parse the entries of `a2:` by their type. A list without pictures makes no event."""
    urls: list[str] = []
    unknown: list[str] = []
    for item in _entries(value, MAX_ITEMS):
        fields = item if isinstance(item, dict) else {}
        kind, url = _text(fields.get("type")), _text(fields.get("image"))
        if url and kind in ("image", None):
            urls.append(url)
        elif kind != "heartbeat":
            unknown.append(f"item {kind[:MAX_KIND_CHARS]}" if kind else "no item type")
    if isinstance(value, list) and len(value) > MAX_ITEMS:
        unknown.append("surplus items")
    return LineValue(Images(tuple(urls)) if urls else None, tuple(unknown))


def _read_citations(value: object) -> LineValue:
    """Parse `argsTextDelta`, which is JSON in a string; its `source` is one object or a list."""
    sources: list[Source] = []
    for item in _objects(value):
        arguments = item.get("argsTextDelta")
        if isinstance(arguments, str):
            with suppress(ValueError):  # as the name says, it may be incomplete; the last line has the full list
                for inner in _objects(loads(arguments)):
                    sources += _read_sources(inner.get("source"))
                    if len(sources) >= MAX_SOURCES:
                        return LineValue(Citations(tuple(sources[:MAX_SOURCES])))
    return LineValue(Citations(tuple(sources)))


def _read_sources(value: object) -> Iterator[Source]:
    for source in _objects(value):
        url = _text(source.get("url"))
        if url and len(url) <= MAX_URL_CHARS:
            title = _text(source.get("title"))
            places = source.get("charLocation")
            few = places[:MAX_OFFSETS] if isinstance(places, list) else ()
            offsets = tuple(place for place in few if _is_offset(place))
            yield Source(url, title[:MAX_TITLE_CHARS] if title else None, offsets)


def _is_offset(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**53  # JSON's safe integers; excludes True


def _read_finish(value: object) -> LineValue:
    reason = _text(value.get("finishReason")) if isinstance(value, dict) else None
    return LineValue(Failure(model_failed()) if reason == "error" else Finish(reason and reason[:MAX_REASON_CHARS]))


def _read_failure(value: object) -> LineValue:
    return LineValue(Failure(model_failed(_find_message(value, _MAX_FAILURE_DEPTH))))


def _find_message(value: object, depth: int) -> str:
    """Find a failure's message: `message` or `error` of an object or of JSON in a text, else the text itself."""
    if isinstance(value, str):
        if depth and value.lstrip().startswith("{"):
            with suppress(ValueError):  # the text only starts like JSON
                if message := _find_message(loads(value), depth - 1):
                    return message
        return quotable(value)
    if isinstance(value, dict) and depth:
        return _find_message(value.get("message"), depth - 1) or _find_message(value.get("error"), depth - 1)
    return ""


#: Tags whose value is one JSON document, and the readers of the parsed document. A new kind of line is one row here.
READERS: Final[Mapping[bytes, Callable[[object], LineValue]]] = {
    b"a2": _read_items,
    b"ac": _read_citations,
    b"a3": _read_failure,
    b"ad": _read_finish,
}
