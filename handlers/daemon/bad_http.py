"""Limits on a request's head, and the errors for HTTP that is broken or too large. No I/O."""

from __future__ import annotations

import re
from typing import Final

from aiohttp.http_exceptions import BadHttpMessage, BadHttpMethod, InvalidURLError, LineTooLong

from bridge.errors import ApiError

#: The longest request target, and the longest header field with its name: the cookies of many sites behind one proxy
#: can exceed the 8 KiB that most servers accept.
MAX_TARGET_BYTES: Final = 8190
MAX_FIELD_BYTES: Final = 64 * 1024
#: The largest head, and the most header fields in it.
MAX_HEAD_BYTES: Final = 128 * 1024
MAX_FIELDS: Final = 128
#: The messages of aiohttp's errors that have no class of their own.
_TOO_MANY: Final = "Too many headers received"
_NO_HOST: Final = "Missing 'Host' header in request."
_TWICE: Final = "Duplicate "

_NAME: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,100}):")
_ORIGIN: Final = re.compile(rb"\nOrigin:[ \t]*([!-~]{1,255})[ \t]*\r?\n", re.IGNORECASE)
#: How many bytes are kept of a line, for the field's name, and of the last read, for an Origin that two reads split.
_KEPT_LINE_BYTES: Final = 101
_KEPT_READ_BYTES: Final = 300


class UnfinishedHead:
    """Keeps, in about 400 bytes, what an error needs to say if a head that arrives in several reads is too large."""

    __slots__ = ("_last", "_line", "field", "origin")

    def __init__(self) -> None:
        #: The name of the header field in which the last read began; None if unknown.
        self.field: str | None = None
        #: The Origin header, once it has arrived.
        self.origin: str | None = None
        self._line = b""
        self._last = b""

    def feed(self, data: bytes) -> None:
        """Process the next read."""
        first, _, _ = data[:_KEPT_LINE_BYTES].partition(b"\n")
        line = (self._line + first)[:_KEPT_LINE_BYTES]
        name = _NAME.match(line)
        self.field = name[1].decode() if name is not None else None
        end = data.rfind(b"\n")
        self._line = line if end < 0 else data[end + 1 : end + 1 + _KEPT_LINE_BYTES]
        seen = self._last + data
        for origin in _ORIGIN.finditer(seen):
            self.origin = origin[1].decode()
        self._last = seen[-_KEPT_READ_BYTES:]


def refusal(error: BadHttpMessage, field: str | None) -> ApiError:
    """The error for a head that cannot be parsed; `field` is the header field at which the parser failed.

    Of the caller's bytes only the field's name is quoted, since the others may contain a key.
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
    return ApiError(400, "invalid_http", f"The request is not valid HTTP{_explanation(error)}.")


def _explanation(error: BadHttpMessage) -> str:
    match error:
        case BadHttpMethod():
            return ": its method is unknown, or it is not HTTP at all (https to an http port?)"
        case InvalidURLError():
            return ": its target has characters that must be percent-encoded, or is not a URL"
        case BadHttpMessage(message=message) if message == _NO_HOST:
            return ": it has no Host header"
        case BadHttpMessage(message=message) if message.startswith(_TWICE):
            return ": it repeats a header field that may occur only once"
    return ""


def headers_too_large(message: str) -> ApiError:
    """431: `message` says which limit was exceeded."""
    return ApiError(431, "request_too_large", message)
