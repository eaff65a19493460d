"""Server-sent events, the little of them that the APIs use: frames of one line, named or not, and comments."""

from __future__ import annotations

from typing import Final

KEEPALIVE: Final = b": keep-alive\n\n"
DONE: Final = b"data: [DONE]\n\n"

#: Characters at which some clients end a line, though they may stand raw inside a JSON string.
_LINE_ENDS: Final = ((b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"), (b"\xc2\x85", b"\\u0085"))


def frame(json: bytes) -> bytes:
    """One event of one line."""
    return b"data: " + line_safe(json) + b"\n\n"


def named(name: str, json: bytes) -> bytes:
    """One event of one line, with its name."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), line_safe(json))


def line_safe(json: bytes) -> bytes:
    """Write U+2028, U+2029 and U+0085 as JSON escapes. The bytes must be JSON, where these stand in strings only."""
    if not json.isascii():
        for raw, escaped in _LINE_ENDS:
            json = json.replace(raw, escaped)
    return json
