"""Parses server-sent events in the ways of two kinds of client; both must get the same result."""

from __future__ import annotations

DONE = b"[DONE]"


def frames(body: bytes) -> list[bytes]:
    """The data of each event, split at blank lines; comments are ignored.

    Raises ValueError for anything that our streams must not contain: other fields than `data`, an event of several
    lines, a CR, an unterminated last event.
    """
    *events, rest = body.split(b"\n\n")
    if rest:
        raise ValueError(f"unterminated event: {rest[:100]!r}")
    found: list[bytes] = []
    for event in events:
        field, colon, data = event.partition(b": ")
        if not colon or field not in (b"data", b"") or b"\n" in event or b"\r" in event:
            raise ValueError(f"not an event with a single `data:` line: {event[:100]!r}")
        if field:
            found.append(data)
    return found


def frames_by_lines(body: bytes) -> list[bytes]:
    """The data of each event, for a client that decodes first and then uses `str.splitlines`."""
    return [line.removeprefix("data: ").encode() for line in body.decode().splitlines() if line.startswith("data: ")]
