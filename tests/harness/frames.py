"""Server-sent events as two kinds of client read them; both must see the same."""

from __future__ import annotations

DONE = b"[DONE]"


def frames(body: bytes) -> list[bytes]:
    """The data of each event, split at blank lines; comments are left out.

    Raises ValueError for what no stream of ours may hold: a field but `data`, an event of several lines, a CR, a
    last event without its end.
    """
    *events, rest = body.split(b"\n\n")
    if rest:
        raise ValueError(f"an event without its end: {rest[:100]!r}")
    found: list[bytes] = []
    for event in events:
        field, colon, data = event.partition(b": ")
        if not colon or field not in (b"data", b"") or b"\n" in event or b"\r" in event:
            raise ValueError(f"no event of one `data:` line: {event[:100]!r}")
        if field:
            found.append(data)
    return found


def frames_by_lines(body: bytes) -> list[bytes]:
    """The data of each event, as a client finds it that decodes first and asks `str.splitlines` for the lines."""
    return [line.removeprefix("data: ").encode() for line in body.decode().splitlines() if line.startswith("data: ")]
