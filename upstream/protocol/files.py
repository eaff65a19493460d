"""Content types and names of pictures and PDFs, and the expiry of signed URLs. Sans-I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final, Literal, Self
from urllib.parse import parse_qs, urlsplit

PDF: Final = "application/pdf"

_EXTENSIONS: Final = {"image/png": "png", "image/jpeg": "jpg", "image/gif": "gif", "image/webp": "webp", PDF: "pdf"}
#: How far PDF readers search for the header: some programs write other bytes before it.
_PDF_HEADER_BYTES: Final = 1024
#: Seconds until a signature expires, at most a week; more digits are not a valid number.
_EXPIRES = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class File:
    """One picture or PDF to upload: `digest` is the SHA-256 of `data` in hex.

    `name` is generated here: no text of a caller becomes part of a URL or a header.
    """

    data: bytes = field(repr=False)
    content_type: str
    digest: str
    name: str

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Make a File from its content, hashing all of it. Raises ValueError for an unsupported type."""
        content_type = sniff(data) or (PDF if is_pdf(data) else None)
        if content_type is None:
            raise ValueError("this is neither a PNG, JPEG, GIF or WebP picture nor a PDF")
        digest = sha256(data).hexdigest()
        stem = "document" if content_type == PDF else "image"
        return cls(data, content_type, digest, f"{stem}-{digest[:8]}.{_EXTENSIONS[content_type]}")

    @property
    def kind(self) -> Literal["picture", "document"]:
        """The word for it in prompts and errors."""
        return "document" if self.content_type == PDF else "picture"


def sniff(data: bytes) -> str | None:
    """Determine a picture's content type from its first bytes, as in the WHATWG's MIME Sniffing; None for others."""
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


def is_pdf(data: bytes) -> bool:
    """Whether there is a PDF header within the first 1024 bytes, as far as PDF readers search."""
    return data.find(b"%PDF-", 0, _PDF_HEADER_BYTES) >= 0


def signed_until(url: str) -> float | None:
    """When a signed URL expires, in unix seconds; None if it does not say.

    Its query contains `X-Amz-Date=20260131T235959Z` and `X-Amz-Expires=3600` (seconds): AWS Signature Version 4.
    """
    try:
        query = parse_qs(urlsplit(url).query, max_num_fields=100)
        (date,), (expires,) = query["X-Amz-Date"], query["X-Amz-Expires"]
        signed_at = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except (KeyError, ValueError):
        return None
    return signed_at + int(expires) if _EXPIRES.fullmatch(expires) else None
