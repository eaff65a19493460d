"""Pictures as bytes: what they are by content, what they are called, how long a signed URL of one is good. Sans-I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final, Self
from urllib.parse import parse_qs, urlsplit

_EXTENSIONS: Final = {"image/png": "png", "image/jpeg": "jpg", "image/gif": "gif", "image/webp": "webp"}
#: No signature of an object storage is good for longer than a week; more digits are no number of seconds.
_EXPIRES = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class File:
    """One picture to upload: `digest` is the SHA-256 of `data` in hex, `name` a file name of our own making."""

    data: bytes = field(repr=False)
    content_type: str
    digest: str
    name: str

    @classmethod
    def of(cls, data: bytes) -> Self:
        """Recognise a picture by its content; hashing 10 MiB takes some 20 ms. Raises ValueError for anything else."""
        content_type = sniff(data)
        if content_type is None:
            raise ValueError("this is no PNG, JPEG, GIF or WebP picture")
        digest = sha256(data).hexdigest()
        return cls(data, content_type, digest, f"image-{digest[:8]}.{_EXTENSIONS[content_type]}")


def sniff(data: bytes) -> str | None:
    """Tell a picture's content type by its first bytes, as the WHATWG's MIME Sniffing does; None for other content."""
    match data[:4]:
        case b"\x89PNG" if data[4:16] == b"\r\n\x1a\n\0\0\0\rIHDR":
            return "image/png"
        case b"GIF8" if data[4:6] in (b"7a", b"9a"):
            return "image/gif"
        case b"RIFF" if data[8:12] == b"WEBP" and data[12:16] in (b"VP8 ", b"VP8L", b"VP8X"):
            return "image/webp"
        case start if start[:3] == b"\xff\xd8\xff":
            return "image/jpeg"
    return None


def signed_until(url: str) -> float | None:
    """Read from a signed URL until when it is good, in unix seconds; None where it does not say so.

    `X-Amz-Date=20260131T235959Z` and `X-Amz-Expires=3600` (seconds) stand in its query: AWS Signature Version 4.
    """
    try:
        query = parse_qs(urlsplit(url).query, max_num_fields=100)
        (date,), (expires,) = query["X-Amz-Date"], query["X-Amz-Expires"]
        signed_at = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except (KeyError, ValueError):
        return None
    return signed_at + int(expires) if _EXPIRES.fullmatch(expires) else None
