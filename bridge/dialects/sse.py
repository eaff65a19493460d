"""Server-sent events, as far as the APIs use them: events with one line of data, with or without a name."""

from __future__ import annotations

from typing import Final

KEEPALIVE: Final = b": keep-alive\n\n"
DONE: Final = b"data: [DONE]\n\n"

#: Characters that some clients treat as line breaks, although they are allowed in JSON strings.
_LINE_ENDS: Final = ((b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"), (b"\xc2\x85", b"\\u0085"))


def frame(json: bytes) -> bytes:
    """Encode an event without a name."""
    return b"data: " + line_safe(json) + b"\n\n"


def named(name: str, json: bytes) -> bytes:
    """Encode an event with a name."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), line_safe(json))


def line_safe(json: bytes) -> bytes:
    """Escape U+2028, U+2029 and U+0085 in JSON, where they can only be in strings."""
    if not json.isascii():
        for raw, escaped in _LINE_ENDS:
            json = json.replace(raw, escaped)
    return json
