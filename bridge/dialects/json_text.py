"""A body's bytes → JSON text that the parser takes, or a 400 that says what the bytes are and what to send.

Sans-I/O. JSON that clients write and parsers refuse is mended where only one thing can be meant: a byte order mark, and
half of a surrogate pair, which is left where a client cut an emoji in two.
"""

from __future__ import annotations

import codecs
import re
from typing import Final

from bridge.errors import ApiError, invalid_request

#: What a body begins with that is no text yet: how it is called, and the `Content-Encoding` that belongs to it.
_COMPRESSED: Final = (
    (b"\x1f\x8b", "gzip", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd", "zstd"),
    (b"\x78\x01", "zlib", "deflate"),
    (b"\x78\x5e", "zlib", "deflate"),
    (b"\x78\x9c", "zlib", "deflate"),
    (b"\x78\xda", "zlib", "deflate"),
)
#: The longer marks first: UTF-32's little-endian one begins like UTF-16's.
_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
#: Without a mark, the first two characters of JSON are ASCII, so that every other byte is zero (RFC 4627, 3).
_WIDE: Final = ((re.compile(rb"\0\0\0[^\0]|[^\0]\0\0\0"), "UTF-32"), (re.compile(rb"\0[^\0]|[^\0]\0"), "UTF-16"))

_HEX_PAIR: Final = rb"[0-9a-fA-F]{2}"
_HIGH: Final = rb"\\u[dD][89abAB]" + _HEX_PAIR
_LOW: Final = rb"\\u[dD][c-fC-F]" + _HEX_PAIR
#: It begins with bytes that stand in few texts, so that a long one is searched in a moment.
_LONE_SURROGATE: Final = re.compile(
    rb"\\u[dD](?:[89abAB]%b(?!%b)|[c-fC-F]%b(?<!%b%b))" % (_HEX_PAIR, _LOW, _HEX_PAIR, _HIGH, _LOW)
)
#: More escapes than these are not mended, since that would hold the loop: no prompt has so many.
_MOST_SURROGATES: Final = 100_000
_ESCAPED_BACKSLASH: Final = rb"\\"
#: Stands for an escaped backslash meanwhile: no JSON holds this byte.
_PLACEHOLDER: Final = b"\0"


def without_mark(body: bytes) -> bytes:
    """The body without UTF-8's byte order mark, which some editors and Windows programs put before it."""
    return body.removeprefix(codecs.BOM_UTF8)


def with_whole_characters(body: bytes) -> bytes | None:
    """The body with `\\ufffd` in place of each escape that is half a character. None if there is none, or too many.

    It is as long as before, so that an error's place stays true.
    """
    if b"\\" not in body or _PLACEHOLDER in body:
        return None
    if not 0 < body.count(b"\\ud") + body.count(b"\\uD") <= _MOST_SURROGATES:
        return None
    mended, found = _LONE_SURROGATE.subn(rb"\\ufffd", body.replace(_ESCAPED_BACKSLASH, _PLACEHOLDER))
    return mended.replace(_PLACEHOLDER, _ESCAPED_BACKSLASH) if found else None


def no_text(body: bytes) -> ApiError | None:
    """The 400 for a body that is no UTF-8 text: it names the bytes, their place and what to send. None for text."""
    if (refusal := not_even_begun(body)) is not None:
        return refusal
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return _no_utf8(body, error.start)
    return None


def not_even_begun(body: bytes) -> ApiError | None:
    """The 400 for a body that begins as no UTF-8 text does; None for all others. Only its first bytes are looked at."""
    if not body:
        return invalid_request("invalid_json", "The body is empty: send a JSON object.")
    for beginning, name, coding in _COMPRESSED:
        if body.startswith(beginning):
            message = f"{_begins(beginning)}: it is {name}, so send 'Content-Encoding: {coding}' with it."
            return invalid_request("invalid_json", message)
    for mark, name in _MARKS:
        if body.startswith(mark):
            return invalid_request("invalid_json", f"{_begins(mark)}: it is {name}. Send it in UTF-8.")
    for pattern, name in _WIDE:
        if pattern.match(body):
            return invalid_request("invalid_json", f"{_begins(body[:4])}: it looks like {name}. Send it in UTF-8.")
    return None


def _begins(beginning: bytes) -> str:
    return f"The body begins with the bytes {beginning.hex(' ')}"


def _no_utf8(body: bytes, at: int) -> ApiError:
    line = body.count(b"\n", 0, at) + 1
    column = at - body.rfind(b"\n", 0, at)
    place = f"byte {at + 1} of the body (line {line}, column {column})"
    message = f"The body is not UTF-8: {place} is 0x{body[at]:02x}. Send it in UTF-8, whatever its Content-Type says."
    return invalid_request("invalid_json", message)
