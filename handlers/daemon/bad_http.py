"""Requests that are no request yet: how large a head may be, and what is answered to HTTP that is broken or too large.

Pure: errors and bytes in, values out.
"""

from __future__ import annotations

import re
from typing import Final

from aiohttp.http_exceptions import BadHttpMessage, BadHttpMethod, InvalidURLError, LineTooLong

from bridge.errors import ApiError

#: The longest request target, and the longest header field, its name included: cookies of many sites behind one proxy
#: are longer than the 8 KiB that most servers take.
MAX_TARGET_BYTES: Final = 8190
MAX_FIELD_BYTES: Final = 64 * 1024
#: All of a head together.
MAX_HEAD_BYTES: Final = 128 * 1024
MAX_FIELDS: Final = 128
#: What aiohttp has no classes of its own for.
_TOO_MANY: Final = "Too many headers received"
_NO_HOST: Final = "Missing 'Host' header in request."
_TWICE: Final = "Duplicate "

_NAME: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,100}):")
_ORIGIN: Final = re.compile(rb"\nOrigin:[ \t]*([!-~]{1,255})[ \t]*\r?\n", re.IGNORECASE)
#: What is kept of a line, for its name; and of what came last, for an Origin that comes in two reads.
_KEPT_OF_LINE: Final = 101
_KEPT: Final = 300


class UnfinishedHead:
    """What is remembered of a head that comes in several reads, should it turn out too large: some 400 bytes."""

    __slots__ = ("_last", "_line", "field", "origin")

    def __init__(self) -> None:
        #: The name of the header field that was being read when the last read came; None where it is not known.
        self.field: str | None = None
        #: The page that asks, as far as that has come.
        self.origin: str | None = None
        self._line = b""
        self._last = b""

    def feed(self, data: bytes) -> None:
        """Take what was read."""
        first, _, _ = data[:_KEPT_OF_LINE].partition(b"\n")
        line = (self._line + first)[:_KEPT_OF_LINE]
        name = _NAME.match(line)
        self.field = name[1].decode() if name is not None else None
        end = data.rfind(b"\n")
        self._line = line if end < 0 else data[end + 1 : end + 1 + _KEPT_OF_LINE]
        seen = self._last + data
        for origin in _ORIGIN.finditer(seen):
            self.origin = origin[1].decode()
        self._last = seen[-_KEPT:]


def refusal(error: BadHttpMessage, field: str | None) -> ApiError:
    """What is answered to a head that the parser gave up; `field` is the header field that it was reading.

    No byte of the caller's is quoted but the field's name: a key may be among them.
    """
    match error:
        case LineTooLong(args=(_, limit, _)) if limit == MAX_TARGET_BYTES:
            message = f"The request's target is longer than {MAX_TARGET_BYTES} bytes: send parameters in the body."
            return ApiError(414, "request_too_large", message)
        case LineTooLong():
            what = f"The header field '{field}'" if field is not None else "A header field"
            return headers_too_large(f"{what} is larger than {MAX_FIELD_BYTES} bytes.")
        case BadHttpMessage(message=message) if message == _TOO_MANY:
            return headers_too_large(f"The request has more than {MAX_FIELDS} header fields.")
    message = f"The request is not valid HTTP{_what_is_wrong(error)}."
    return ApiError(400, "invalid_http", message)


def _what_is_wrong(error: BadHttpMessage) -> str:
    match error:
        case BadHttpMethod():
            return ": its method is unknown, or it is no HTTP at all (https to a port that speaks http?)"
        case InvalidURLError():
            return ": its target holds characters that must be percent-encoded, or is no URL"
        case BadHttpMessage(message=message) if message == _NO_HOST:
            return ": it has no Host header"
        case BadHttpMessage(message=message) if message.startswith(_TWICE):
            return ": a header field is there twice that may be there once"
    return ""


def headers_too_large(message: str) -> ApiError:
    """431: `message` says which limit was passed."""
    return ApiError(431, "request_too_large", message)
