"""Lines of upstream's stream whose value is one JSON document: pictures, citations, the end, failures.

Source: docs/protocol.md, "The answer: a line stream". `wire` finds the lines, this file reads
their values.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple

import orjson

from upstream.protocol.drift import MAX_KIND_CHARS
from upstream.protocol.errors import ModelFailed
from upstream.protocol.events import Citations, Event, Failure, Finish, Image, Images, Source
from upstream.protocol.refusals import quotable
from upstream.protocol.surrogates import well_formed

#: How deep the words of a failure are looked for: objects in objects, and JSON in strings.
_MAX_FAILURE_DEPTH: Final = 8
#: Texts that orjson refuses are read only up to this length: the standard library is much slower.
MAX_LENIENT_CHARS: Final = 256 * 1024
#: Commas and opening brackets of one document: the largest seen have some 5,000. Each may become an object of 64 bytes.
MAX_PARTS: Final = 100_000
#: Entries of one `a2:` list; more are skipped.
MAX_ITEMS: Final = 100
#: Sources that an answer cites, places that lean on one of them, and how long what is said of it may be. Sources with
#: longer URLs are skipped, titles are cut. The largest lists seen have some 40 sources.
MAX_SOURCES: Final = 200
MAX_OFFSETS: Final = 100
MAX_URL_CHARS: Final = 2048
MAX_TITLE_CHARS: Final = 300
#: A finish reason, which is one word.
MAX_REASON_CHARS: Final = 100

#: As orjson, but for what it refuses: lone surrogates, and raw control characters in a string.
_LENIENT: Final = json.JSONDecoder(strict=False)


class Reading(NamedTuple):
    """What a document says: an event or none, and the kinds of its entries of which nothing is known."""

    event: Event | None
    unknown: tuple[str, ...] = ()


def loads(value: bytes | str) -> object:
    """Parse JSON; where orjson is stricter than the site (lone surrogates, raw CR in a string), as the library does.

    Raises ValueError, also for a document of more than `MAX_PARTS` parts.
    """
    if len(value) > MAX_PARTS and value.lstrip()[:1] not in (b'"', '"') and has_many_parts(value):
        raise ValueError("too many parts")
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        if len(value) > MAX_LENIENT_CHARS:
            raise
    try:
        # As text: given bytes, the library would guess an encoding, and take NULs for UTF-16.
        return _LENIENT.decode(value if isinstance(value, str) else value.decode())
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def has_many_parts(document: bytes | str) -> bool:
    """Whether a JSON document may hold more than `MAX_PARTS` values: by its commas and opening brackets."""
    marks: tuple[Any, ...] = (",", "[", "{") if isinstance(document, str) else (b",", b"[", b"{")
    found = 0
    for start in range(0, len(document), MAX_PARTS):  # where they are dense, counting them all would hold the loop
        found += sum([document.count(mark, start, start + MAX_PARTS) for mark in marks])
        if found > MAX_PARTS:
            return True
    return False


def model_failed(detail: str = "") -> ModelFailed:
    """Make the error of a model that failed, with its own words if it gave any."""
    return ModelFailed(f"The model failed: {detail}" if detail else "The model failed.", detail=detail)


def read_explanation(value: bytes) -> str:
    """Read the message that bookkeeping (`ae:`) may hold: it matters if the answer then ends without content."""
    if b'"message"' not in value:  # as in nearly all
        return ""
    with suppress(ValueError):  # bookkeeping is harmless, and so is what cannot be read of it
        document = loads(value)
        message = document.get("message") if isinstance(document, dict) else None
        return quotable(message) if isinstance(message, str) else ""
    return ""


def _text(value: object) -> str | None:
    """Return a text from inside a document; None if the value is no text, or an empty one."""
    return well_formed(value) if isinstance(value, str) and value else None


def _entries(value: object, most: int) -> list[object]:
    """A value by itself, or those of a list, up to so many."""
    return value[:most] if isinstance(value, list) else [value]


def _objects(value: object) -> Iterator[dict[str, object]]:
    """Yield an object, or the first objects of a list."""
    for item in _entries(value, MAX_SOURCES):
        if isinstance(item, dict):
            yield item


def _read_items(value: object) -> Reading:
    """Read the entries of `a2:` by their type. A list without a picture is no event."""
    images: list[Image] = []
    unknown: list[str] = []
    for item in _entries(value, MAX_ITEMS):
        fields = item if isinstance(item, dict) else {}
        kind, url = _text(fields.get("type")), _text(fields.get("image"))
        if url and kind in ("image", None):
            images.append(Image(url, _text(fields.get("mimeType"))))
        elif kind != "heartbeat":  # which is only a sign of life
            unknown.append(f"item {kind[:MAX_KIND_CHARS]}" if kind else "no item type")
    if isinstance(value, list) and len(value) > MAX_ITEMS:
        unknown.append("surplus items")
    return Reading(Images(tuple(images)) if images else None, tuple(unknown))


def _read_citations(value: object) -> Reading:
    """`argsTextDelta` is JSON in a string; its `source` is one object or a list of them."""
    sources: list[Source] = []
    for item in _objects(value):
        arguments = item.get("argsTextDelta")
        if isinstance(arguments, str):
            with suppress(ValueError):  # as its name says, it may be a part; the last line has the full list
                for inner in _objects(loads(arguments)):
                    sources += _read_sources(inner.get("source"))
                    if len(sources) >= MAX_SOURCES:
                        return Reading(Citations(tuple(sources[:MAX_SOURCES])))
    return Reading(Citations(tuple(sources)))


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
    return type(value) is int and 0 <= value < 2**53  # JSON's safe integers; True is no number


def _read_finish(value: object) -> Reading:
    reason = _text(value.get("finishReason")) if isinstance(value, dict) else None
    return Reading(Failure(model_failed()) if reason == "error" else Finish(reason and reason[:MAX_REASON_CHARS]))


def _read_failure(value: object) -> Reading:
    return Reading(Failure(model_failed(_find_words(value, _MAX_FAILURE_DEPTH))))


def _find_words(value: object, depth: int) -> str:
    """Find what a failure says: `message` or `error` of an object or of JSON inside a text, else the text itself."""
    if isinstance(value, str):
        if depth and value.lstrip().startswith("{"):
            with suppress(ValueError):  # a text that only begins like JSON
                if words := _find_words(loads(value), depth - 1):
                    return words
        return quotable(value)
    if isinstance(value, dict) and depth:
        return _find_words(value.get("message"), depth - 1) or _find_words(value.get("error"), depth - 1)
    return ""


#: Tags whose value is one JSON document. A new kind of line is one row here. Each reader takes the parsed document.
READERS: Final[Mapping[bytes, Callable[[object], Reading]]] = {
    b"a2": _read_items,
    b"ac": _read_citations,
    b"a3": _read_failure,
    b"ad": _read_finish,
}
