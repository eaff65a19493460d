"""Generated pictures: a PNG that depends only on a digest."""

from __future__ import annotations

import struct
import zlib

_SIDE = 64  # pixels


def png(digest: bytes) -> bytes:
    """A gradient between two colours, which are the first six bytes of `digest`."""
    first, last = digest[:3], digest[3:6]
    steps = 2 * (_SIDE - 1)
    colours = [
        bytes((a * (steps - i) + b * i) // steps for a, b in zip(first, last, strict=True)) for i in range(steps + 1)
    ]
    rows = b"".join(b"\0" + b"".join(colours[y : y + _SIDE]) for y in range(_SIDE))  # each row: filter 0, then RGB
    header = struct.pack(">IIBBBBB", _SIDE, _SIDE, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data)) for tag, data in parts
    )
