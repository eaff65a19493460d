"""Mends the bytes of a body that is not quite JSON, or explains in a 400 what is wrong with them and what to send.

Two mistakes of clients are mended, because their meaning is clear: a byte order mark, and a lone surrogate, which
remains where a client cuts an emoji in two.
"""

from __future__ import annotations

import codecs
import re
from typing import Final

from bridge.errors import ApiError, invalid_request

#: The first bytes of compressed bodies, with the format's name and its `Content-Encoding`.
_COMPRESSED: Final = (
    (b"\x1f\x8b", "gzip", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd", "zstd"),
    (b"\x78\x01", "zlib", "deflate"),
    (b"\x78\x5e", "zlib", "deflate"),
    (b"\x78\x9c", "zlib", "deflate"),
    (b"\x78\xda", "zlib", "deflate"),
)
#: Byte order marks, the longer ones first, because that of UTF-32-LE begins with that of UTF-16-LE.
_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
#: The first two characters of JSON are ASCII, so that without a mark the zero bytes tell the encoding (RFC 4627, 3).
_WIDE: Final = ((re.compile(rb"\0\0\0[^\0]|[^\0]\0\0\0"), "UTF-32"), (re.compile(rb"\0[^\0]|[^\0]\0"), "UTF-16"))

_HEX_PAIR: Final = rb"[0-9a-fA-F]{2}"
_HIGH: Final = rb"\\u[dD][89abAB]" + _HEX_PAIR
_LOW: Final = rb"\\u[dD][c-fC-F]" + _HEX_PAIR
#: It begins with bytes that are rare in texts, so that searching a long one is fast.
_LONE_SURROGATE: Final = re.compile(
    rb"\\u[dD](?:[89abAB]%b(?!%b)|[c-fC-F]%b(?<!%b%b))" % (_HEX_PAIR, _LOW, _HEX_PAIR, _HIGH, _LOW)
)
#: More escapes are not mended, because that would block the event loop; no real prompt has that many.
_MOST_SURROGATES: Final = 100_000
_ESCAPED_BACKSLASH: Final = rb"\\"
#: Replaces escaped backslashes temporarily; valid JSON never contains this byte.
_PLACEHOLDER: Final = b"\0"


def without_bom(body: bytes) -> bytes:
    """Remove the byte order mark of UTF-8, which some editors and Windows programs write."""
    return body.removeprefix(codecs.BOM_UTF8)


def replace_lone_surrogates(body: bytes) -> bytes | None:
    """Replace each escape of a lone surrogate by `\\ufffd`; return None if there is none, or too many.

    The length stays the same, so that the position in an error message stays correct.
    """
    if b"\\" not in body or _PLACEHOLDER in body:
        return None
    if not 0 < body.count(b"\\ud") + body.count(b"\\uD") <= _MOST_SURROGATES:
        return None
    mended, found = _LONE_SURROGATE.subn(rb"\\ufffd", body.replace(_ESCAPED_BACKSLASH, _PLACEHOLDER))
    return mended.replace(_PLACEHOLDER, _ESCAPED_BACKSLASH) if found else None


def utf8_error(body: bytes) -> ApiError | None:
    """Return the 400 for a body that is not UTF-8, naming the bytes and what to send; None if it is UTF-8."""
    if (refusal := leading_bytes_error(body)) is not None:
        return refusal
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return _no_utf8(body, error.start)
    return None


def leading_bytes_error(body: bytes) -> ApiError | None:
    """Return the 400 for a body that is empty, compressed, or in UTF-16 or UTF-32, judging by its first bytes alone."""
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
