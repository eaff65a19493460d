"""Lines of upstream's stream whose value is one JSON document: pictures, citations, the end, failures.

Source: docs/protocol.md, "The answer: a line stream". `upstream.wire` finds the lines, this file reads their values.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Final, NamedTuple

import orjson

from upstream.errors import ModelFailed
from upstream.events import Citations, Event, Failure, Finish, Image, Images, Source
from upstream.refusals import quotable

#: How deep the words of a failure are looked for: objects in objects, and JSON in strings.
_MAX_FAILURE_DEPTH: Final = 8


class Reading(NamedTuple):
    """What a document says: an event or none, and the kinds of its entries of which nothing is known."""

    event: Event | None
    unknown: tuple[str, ...] = ()


def loads(value: bytes | str) -> object:
    """Parse JSON; where orjson is stricter than the site (lone surrogates, raw CR in a string), as the library does.

    Raises ValueError.
    """
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        pass
    try:
        # As text: given bytes, the library would guess an encoding, and take NULs for UTF-16.
        return json.loads(value if isinstance(value, str) else value.decode(), strict=False)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def join_surrogates(text: str) -> str:
    """Make each pair of surrogates one character, and each lone one U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def model_failed(detail: str = "") -> ModelFailed:
    """Make the error of a model that failed, with its own words if it gave any."""
    return ModelFailed(f"The model failed: {detail}" if detail else "The model failed.", detail=detail)


def read_explanation(value: bytes) -> str:
    """Read the message that bookkeeping (`ae:`) may hold: it matters if the answer then ends without content."""
    with suppress(ValueError):  # bookkeeping is harmless, and so is what cannot be read of it
        document = loads(value)
        message = document.get("message") if isinstance(document, dict) else None
        return quotable(message) if isinstance(message, str) else ""
    return ""


def _text(value: object) -> str | None:
    """Return a text from inside a document; None if the value is no text, or an empty one."""
    return join_surrogates(value) if isinstance(value, str) and value else None


def _objects(value: object) -> Iterator[dict[str, object]]:
    """Yield an object, or each object of a list."""
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, dict):
            yield item


def _read_items(value: object) -> Reading:
    """Read the entries of `a2:` by their type. A list without a picture is no event."""
    images: list[Image] = []
    unknown: list[str] = []
    for item in value if isinstance(value, list) else [value]:
        fields = item if isinstance(item, dict) else {}
        kind, url = _text(fields.get("type")), _text(fields.get("image"))
        if url and kind in ("image", None):
            images.append(Image(url, _text(fields.get("mimeType"))))
        elif kind != "heartbeat":  # which is only a sign of life
            unknown.append(f"item {kind}" if kind else "no item type")
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
    return Reading(Citations(tuple(sources)))


def _read_sources(value: object) -> Iterator[Source]:
    for source in _objects(value):
        if url := _text(source.get("url")):
            places = source.get("charLocation")
            offsets = tuple(place for place in places if _is_offset(place)) if isinstance(places, list) else ()
            yield Source(url, _text(source.get("title")), offsets)


def _is_offset(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**53  # JSON's safe integers; True is no number


def _read_finish(value: object) -> Reading:
    reason = _text(value.get("finishReason")) if isinstance(value, dict) else None
    return Reading(Failure(model_failed()) if reason == "error" else Finish(reason))


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
