"""Recognising pictures and PDFs by their bytes, and the expiry of signed URLs."""

from __future__ import annotations

import base64
from hashlib import sha256

import pytest

from upstream.protocol.files import File, is_pdf, signed_until, sniff

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
GIF = base64.b64decode("R0lGODlhAQABAIAAAP///wAAACH5BAEAAAAALAAAAAABAAEAAAICRAEAOw==")
JPEG = bytes.fromhex("ffd8ffe000104a46494600010100000100010000ffd9")
WEBP = base64.b64decode("UklGRiIAAABXRUJQVlA4IBYAAAAwAQCdASoBAAEADsD+JaQAA3AAAAAA")

KNOWN = {
    "png": (PNG, "image/png"),
    "gif 89a": (GIF, "image/gif"),
    "gif 87a": (b"GIF87a" + GIF[6:], "image/gif"),
    "jpeg jfif": (JPEG, "image/jpeg"),
    "jpeg exif": (b"\xff\xd8\xff\xe1" + JPEG[4:], "image/jpeg"),
    "webp lossy": (WEBP, "image/webp"),
    "webp lossless": (WEBP[:12] + b"VP8L" + WEBP[16:], "image/webp"),
    "webp extended": (WEBP[:12] + b"VP8X" + WEBP[16:], "image/webp"),
}
OTHER = {
    "nothing": b"",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "html": b"<!DOCTYPE html><title>PNG</title>",
    "bmp": b"BM" + bytes(60),
    "tiff": b"II*\0" + bytes(60),
    "avif": b"\0\0\0\x20ftypavif" + bytes(60),
    "png's signature alone": PNG[:8],
    "png with a line end converted": PNG.replace(b"\r\n", b"\n", 1),
    "png without IHDR": PNG[:12] + b"CgBI" + PNG[16:],
    "jpeg cut short": b"\xff\xd8",
    "gif of another version": b"GIF88a" + GIF[6:],
    "riff sound": b"RIFF\x24\0\0\0WAVEfmt ",
    "webp without a chunk": WEBP[:12],
    "png after a blank": b" " + PNG,
}
PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"


@pytest.mark.parametrize(("data", "content_type"), KNOWN.values(), ids=KNOWN)
def test_a_picture_is_recognised_by_its_content(data: bytes, content_type: str) -> None:
    assert sniff(data) == content_type
    assert sniff(data[:16]) == content_type  # only the header is read


@pytest.mark.parametrize("data", OTHER.values(), ids=OTHER)
def test_content_that_is_neither_a_picture_nor_a_pdf_has_no_type(data: bytes) -> None:
    assert sniff(data) is None
    with pytest.raises(ValueError, match="neither a PNG"):
        File.from_bytes(data)


@pytest.mark.parametrize(
    ("data", "kind", "name"),
    [
        (PNG, "picture", "image-{}.png"),
        (JPEG, "picture", "image-{}.jpg"),
        (GIF, "picture", "image-{}.gif"),
        (WEBP, "picture", "image-{}.webp"),
        (PDF, "document", "document-{}.pdf"),
    ],
    ids=["png", "jpeg", "gif", "webp", "pdf"],
)
def test_a_files_name_contains_its_digest_and_its_repr_no_bytes(data: bytes, kind: str, name: str) -> None:
    file = File.from_bytes(data)
    assert file.digest == sha256(data).hexdigest()
    assert (file.kind, file.name) == (kind, name.format(file.digest[:8]))
    assert "data" not in repr(file)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (PDF, True),
        (b"%PDF-", True),
        (b"\r\n" + PDF, True),
        (bytes(1024 - 5) + PDF, True),
        (bytes(1024 - 4) + PDF, False),
        (b"%PDF", False),
        (b"%pdf-1.7", False),
        (b"", False),
    ],
)
def test_a_pdf_is_recognised_by_its_header_within_the_first_1024_bytes(data: bytes, found: bool) -> None:
    assert is_pdf(data) is found
    assert sniff(data) is None
    if found:
        assert File.from_bytes(data).content_type == "application/pdf"


def test_a_picture_with_a_pdfs_header_in_it_is_a_picture() -> None:
    assert File.from_bytes(PNG + PDF).content_type == "image/png"


SIGNED = {
    "as the site signs": (
        "https://r2.example/a?X-Amz-Date=20260131T235959Z&X-Amz-Expires=3600&x-id=GetObject",
        1769907599,
    ),
    "in another order": ("https://r2.example/a?X-Amz-Expires=1&b=c&X-Amz-Date=19700101T000001Z", 2.0),
    "no date": ("https://r2.example/a?X-Amz-Expires=3600", None),
    "no seconds": ("https://r2.example/a?X-Amz-Date=20260131T235959Z", None),
    "seconds that are none": ("https://r2.example/a?X-Amz-Date=20260131T235959Z&X-Amz-Expires=-1", None),
    "endless seconds": (f"https://r2.example/a?X-Amz-Date=20260131T235959Z&X-Amz-Expires={'9' * 5000}", None),
    "an invalid day": ("https://r2.example/a?X-Amz-Date=20260231T235959Z&X-Amz-Expires=3600", None),
    "twice": ("https://r2.example/a?X-Amz-Date=20260131T235959Z&X-Amz-Expires=1&X-Amz-Expires=2", None),
    "unsigned": ("https://r2.example/a", None),
    "no URL": ("http://[::1", None),
    "a flood of fields": ("https://r2.example/a?" + "b=c&" * 1000, None),
}


@pytest.mark.parametrize(("url", "until"), SIGNED.values(), ids=SIGNED)
def test_the_expiry_of_a_signed_url_is_read(url: str, until: float | None) -> None:
    assert signed_until(url) == until
