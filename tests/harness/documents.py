"""Generates small distinct PDFs of any size, message parts that contain them, and parts that are refused."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pictures import data_url, png

PDF: Final = "application/pdf"
MAX_BYTES: Final = 10 * 1024 * 1024


def pdf(number: int = 0, size: int | None = None) -> bytes:
    """One empty page whose width is the number; padded with a comment to exactly `size` bytes, if given."""
    objects = (
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 %d 100]>>" % (number + 1),
    )
    written, offsets = b"%PDF-1.4\n", []
    for at, content in enumerate(objects, 1):
        offsets.append(len(written))
        written += b"%d 0 obj%s endobj\n" % (at, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    start = len(written)
    end = b"startxref\n%d\n%%%%EOF\n" % start
    written += b"xref\n0 4\n0000000000 65535 f \n" + table + b"trailer<</Size 4/Root 1 0 R>>\n"
    room = 0 if size is None else size - len(written + end)
    return written + (b"%" + b"x" * (room - 2) + b"\n" if room else b"") + end


def bare(data: bytes) -> str:
    """Base64 without the prefix of a data URL."""
    return base64.b64encode(data).decode()


def file_part(data: bytes, label: str = PDF) -> dict[str, Any]:
    """A `file` part of OpenAI's chat completions."""
    return {"type": "file", "file": {"filename": "report.pdf", "file_data": data_url(data, label)}}


def input_file(data: bytes) -> dict[str, Any]:
    """An `input_file` part of OpenAI's Responses API."""
    return {"type": "input_file", "filename": "report.pdf", "file_data": data_url(data, PDF)}


def user_reading(text: str, *documents: bytes) -> dict[str, Any]:
    """A user's message: the PDFs, then a text part."""
    return {"role": "user", "content": [*map(file_part, documents), {"type": "text", "text": text}]}


@dataclass(frozen=True)
class BadFile:
    """A part that is refused; `param` is the path within the part."""

    part: Callable[[], Mapping[str, Any]]
    code: str = "invalid_file"
    param: str = "file.file_data"


def _data(text: str, **more: str) -> BadFile:
    return BadFile(lambda: {"type": "file", "file": {"file_data": text}}, **more)


def _holding(data: bytes, label: str = PDF) -> BadFile:
    return BadFile(lambda: file_part(data, label))


_UNSUPPORTED: Final = "unsupported_parameter"
_MISSING: Final = "missing_required_parameter"

BAD_FILES: Final[Mapping[str, BadFile]] = {
    "no file": BadFile(lambda: {"type": "file"}, _MISSING, "file"),
    "no data": BadFile(lambda: {"type": "file", "file": {"filename": "a.pdf"}}, _MISSING),
    "a file's id": BadFile(lambda: {"type": "file", "file": {"file_id": "file-1"}}, _UNSUPPORTED, "file.file_id"),
    "an input_file's URL": BadFile(
        lambda: {"type": "input_file", "file_url": "https://example.org/a.pdf"}, _UNSUPPORTED, "file_url"
    ),
    "an input_file that is a text": BadFile(
        lambda: {"type": "input_file", "file_data": bare(b"hello")}, param="file_data"
    ),
    "a URL": _data("https://example.org/a.pdf"),
    "a data URL without base64": _data("data:application/pdf,%25PDF-1.4"),
    "base64 with junk": _data(f"data:application/pdf;base64,{bare(pdf())[:40]}!!!!"),
    "base64 with padding inside": _data(f"{bare(pdf())[:40]}={bare(pdf())[40:]}"),
    "base64 cut off": _data(bare(pdf()).rstrip("=")[:-5]),
    "nothing in base64": _holding(b""),
    "a text": _holding(b"hello", "text/plain"),
    "HTML labelled PDF": _holding(b"<!doctype html><script>1</script>"),
    "a header too far in": _holding(bytes(1020) + pdf()),
    "a header of another case": _holding(pdf().lower()),
    "a ZIP": _holding(b"PK\x03\x04" + bytes(60), "application/zip"),
    "one byte too many": BadFile(lambda: file_part(pdf(size=MAX_BYTES + 1)), "file_too_large"),
    "much too many": BadFile(lambda: file_part(pdf(size=MAX_BYTES * 3 // 2)), "file_too_large"),
    "a picture of one byte too many": BadFile(lambda: file_part(png(size=MAX_BYTES + 1)), "file_too_large"),
}
