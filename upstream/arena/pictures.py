"""Generated pictures: a PNG made of nothing but a digest, behind a link that is signed and expires."""

from __future__ import annotations

import hmac
import struct
import time
import zlib
from collections.abc import Mapping
from hashlib import sha256

from upstream.arena.replies import Reply

_SIDE = 64  # pixels
_LIFE_SECONDS = 3600  # as the site's links say
_DATE = "%Y%m%dT%H%M%SZ"


class PictureStorage:
    """The storage of one arena. It keeps nothing: a picture follows from its id, and the signature vouches for that."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def link(self, prompt: str, now: float) -> str:
        """Path and query of the picture for a prompt, valid for an hour from `now` (unix seconds)."""
        path = f"/storage/generated/{sha256(prompt.encode(errors='surrogatepass')).hexdigest()[:32]}.png"
        date = time.strftime(_DATE, time.gmtime(now))
        signature = self._signature(path, date)
        return f"{path}?X-Amz-Date={date}&X-Amz-Expires={_LIFE_SECONDS}&X-Amz-Signature={signature}"

    def fetch(self, path: str, query: Mapping[str, str], now: float) -> Reply:
        """The picture, or 403 as object storages say it."""
        date, signature = query.get("X-Amz-Date", ""), query.get("X-Amz-Signature", "")
        if not hmac.compare_digest(signature, self._signature(path, date)):
            return _denied("SignatureDoesNotMatch")
        if date < time.strftime(_DATE, time.gmtime(now - _LIFE_SECONDS)):
            return _denied("AccessDenied: Request has expired")
        return Reply(200, "image/png", png(bytes.fromhex(path.rpartition("/")[2].removesuffix(".png"))))

    def _signature(self, path: str, date: str) -> str:
        return hmac.new(self._key, f"{path} {date}".encode(), sha256).hexdigest()


def png(digest: bytes) -> bytes:
    """A gradient between two colours, the first six bytes of `digest`."""
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


def _denied(why: str) -> Reply:
    body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{why}</Code></Error>'
    return Reply(403, "application/xml", body.encode(), why=why)
