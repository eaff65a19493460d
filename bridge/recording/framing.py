"""Parses an answer as it was written to a caller's connection: status, headers, and body with the time of each write.

It understands only what the bridge's own server writes: one HTTP/1.1 (or 1.0) response, perhaps after interim ones.
"""

from __future__ import annotations

import re
from typing import Final

from bridge.recording.document import Pieces
from bridge.recording.material import Headers

_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3})")


def parse_response(writes: list[tuple[float, bytes]]) -> tuple[int | None, Headers, Pieces]:
    """The status, the headers, and the body's pieces without chunk framing; no status if the head is incomplete."""
    head, rest = _head([(at, data) for at, data in writes if data])
    if head is None:
        return None, (), ()
    found = _STATUS.match(head)
    if found is None:
        return None, (), ()
    headers = tuple(_header(line) for line in head.split(b"\r\n")[1:] if line)
    chunked = any(name.lower() == "transfer-encoding" and "chunked" in value for name, value in headers)
    return int(found[1]), headers, tuple(_unchunked(rest) if chunked else rest)


def _head(writes: list[tuple[float, bytes]]) -> tuple[bytes | None, list[tuple[float, bytes]]]:
    """The head of the final response, and what was written after it."""
    held = b""
    for place, (at, data) in enumerate(writes):
        held += data
        while b"\r\n\r\n" in held:
            head, _, held = held.partition(b"\r\n\r\n")
            if head.startswith((b"HTTP/1.1 1", b"HTTP/1.0 1")):
                continue
            return head, [(at, held), *writes[place + 1 :]] if held else writes[place + 1 :]
    return None, []


def _header(line: bytes) -> tuple[str, str]:
    name, _, value = line.decode("utf-8", "surrogateescape").partition(":")
    return name, value.strip()


def _unchunked(writes: list[tuple[float, bytes]]) -> list[tuple[float, bytes]]:
    """The content of the chunks, with the times at which it was written."""
    pieces: list[tuple[float, bytes]] = []
    held = b""  # the beginning of a size line
    left = 0  # bytes of the chunk that are still to come, including its CRLF
    for at, data in writes:
        held += data
        content = bytearray()
        while held:
            if left:
                piece, held = held[:left], held[left:]
                content += piece[: max(0, left - 2)]
                left -= len(piece)
                continue
            size, line_end, rest = held.partition(b"\r\n")
            if not line_end:
                break
            try:
                length = int(size.partition(b";")[0], 16)
            except ValueError:
                return pieces
            if not length:
                held = b""
                break
            held, left = rest, length + 2
        if content:
            pieces.append((at, bytes(content)))
    return pieces
