"""Generates small distinct pictures of the four formats and any size, and message parts that are refused."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

MAX_BYTES: Final = 10 * 1024 * 1024
_PNG_START: Final = b"\x89PNG\r\n\x1a\n"
_GIF_BLOCK: Final = 256  # a length byte and the most data that it can announce


def _chunk(tag: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))


def png(number: int = 0, size: int | None = None) -> bytes:
    """One pixel whose colour is the number; padded with an unknown chunk to exactly `size` bytes, if given."""
    pixel = zlib.compress(b"\0" + number.to_bytes(3, "big"))
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    end = _chunk(b"IDAT", pixel) + _chunk(b"IEND", b"")
    room = 0 if size is None else size - len(_PNG_START + header + end)
    return _PNG_START + header + (_chunk(b"paDd", bytes(room - 12)) if room else b"") + end


def jpeg(size: int | None = None) -> bytes:
    """A grey square of 8 × 8 pixels; padded with fill bytes, any number of which may precede a marker."""
    segments = (
        (0xDB, b"\0" + b"\1" * 64),  # quantization table: all ones
        (0xC0, struct.pack(">BHHB", 8, 8, 8, 1) + b"\1\x11\0"),  # baseline, 8 × 8, one component
        (0xC4, b"\0\1" + bytes(15) + b"\0"),  # DC: one code, no difference
        (0xC4, b"\x10\1" + bytes(15) + b"\0"),  # AC: one code, end of block
        (0xDA, b"\1\1\0\0\x3f\0"),
    )
    start = b"\xff\xd8" + b"".join(struct.pack(">BBH", 0xFF, kind, len(body) + 2) + body for kind, body in segments)
    start += b"\x3f"  # the scan: both codes, padded with ones
    return start + b"\xff" * (0 if size is None else size - len(start) - 2) + b"\xff\xd9"


def gif(size: int | None = None) -> bytes:
    """One black pixel; padded with a comment."""
    start = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    end = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\2\2\x44\1\0" + b";"
    if size is None:
        return start + end
    full, rest = divmod(size - len(start + end) - 3, _GIF_BLOCK)
    blocks = [_GIF_BLOCK] * full + [rest]
    if rest == 1:  # a block has at least one byte after its length
        blocks[-2:] = [_GIF_BLOCK - 1, 2]
    comment = b"".join(bytes((block - 1,)) + bytes(block - 1) for block in blocks if block)
    return start + b"\x21\xfe" + comment + b"\0" + end


def webp(size: int | None = None) -> bytes:
    """One lossless pixel; padded with an unknown chunk, and if necessary a byte after the end."""
    image = b"VP8L" + struct.pack("<I", 13) + bytes.fromhex("2f00000010071011118888fe07") + b"\0"
    room = 0 if size is None else size - 12 - len(image)
    if room >= 8:
        image += b"PAD " + struct.pack("<I", room // 2 * 2 - 8) + bytes(room // 2 * 2 - 8)
    return b"RIFF" + struct.pack("<I", 4 + len(image)) + b"WEBP" + image + bytes(room % 2)


#: The smallest picture of each content type.
SMALL: Final[Mapping[str, bytes]] = {
    "image/png": png(),
    "image/jpeg": jpeg(),
    "image/gif": gif(),
    "image/webp": webp(),
}
#: A function that makes a picture of a given size in bytes, for each content type.
SIZED: Final[Mapping[str, Callable[[int], bytes]]] = {
    "image/png": lambda size: png(size=size),
    "image/jpeg": jpeg,
    "image/gif": gif,
    "image/webp": webp,
}


def data_url(data: bytes, label: str = "image/png") -> str:
    """The data URL of a picture."""
    return f"data:{label};base64,{base64.b64encode(data).decode()}"


def picture_part(data: bytes, label: str = "image/png") -> dict[str, Any]:
    """An `image_url` part."""
    return {"type": "image_url", "image_url": {"url": data_url(data, label)}}


def user_with(text: str, *pictures: bytes) -> dict[str, Any]:
    """A user's message: a text part, if there is a text, then the pictures."""
    parts = [{"type": "text", "text": text}] if text else []
    return {"role": "user", "content": [*parts, *map(picture_part, pictures)]}


@dataclass(frozen=True)
class BadPart:
    """An `image_url` part that is refused; `param` is the path within the part."""

    part: Callable[[], Mapping[str, Any]]
    code: str = "invalid_image"
    param: str = "image_url.url"


def _url(url: str, **more: str) -> BadPart:
    return BadPart(lambda: {"type": "image_url", "image_url": {"url": url}}, **more)


def _data(data: bytes, label: str = "image/png") -> BadPart:
    return _url(data_url(data, label))


_MISSING: Final = "missing_required_parameter"
_BASE64: Final = base64.b64encode(png()).decode()

BAD_PARTS: Final[Mapping[str, BadPart]] = {
    "no image_url": BadPart(lambda: {"type": "image_url"}, _MISSING, "image_url"),
    "image_url null": BadPart(lambda: {"type": "image_url", "image_url": None}, _MISSING, "image_url"),
    "image_url a string": BadPart(lambda: {"type": "image_url", "image_url": "data:"}, "invalid_type", "image_url"),
    "no url": BadPart(lambda: {"type": "image_url", "image_url": {"detail": "low"}}, _MISSING),
    "url empty": _url("", code=_MISSING),
    "url a number": BadPart(lambda: {"type": "image_url", "image_url": {"url": 1}}, "invalid_type"),
    "no URL": _url("cat.png"),
    "bare base64": _url(_BASE64),
    "a file URL": _url("file:///etc/passwd"),
    "an http URL": _url("http://example.org/cat.png"),
    "an https URL": _url("HTTPS://example.org/cat.png"),
    "no comma": _url("data:image/png;base64"),
    "no base64 label": _url(f"data:image/png,{_BASE64}"),
    "per cent encoding": _url("data:image/png;charset=utf-8,%89PNG%0D%0A"),
    "SVG": _url("data:image/svg+xml;base64,PHN2Zy8+"),
    "BMP": _data(b"BM" + bytes(60), "image/bmp"),
    "a PDF": _data(b"%PDF-1.7", "application/pdf"),
    "base64 with junk": _url("data:image/png;base64,iVBORw0K!!!!"),
    "base64 with padding inside": _url(f"data:image/png;base64,{_BASE64[:40]}={_BASE64[40:]}"),
    "base64 cut off": _url(f"data:image/png;base64,{_BASE64.rstrip('=')[:-3]}"),
    "URL-safe base64": _url("data:image/png;base64,iVBORw0K_-__"),
    "empty": _data(b""),
    "SVG labelled PNG": _data(b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
    "HTML labelled PNG": _data(b"<!doctype html><script>1</script>"),
    "a PNG's first bytes alone": _data(png()[:12]),
    "a RIFF that is no WebP": _data(b"RIFF\0\0\0\0WAVEfmt ", "image/webp"),
    "a GIF of no version": _data(b"GIF88a" + bytes(20), "image/gif"),
    "one byte too many": BadPart(lambda: picture_part(png(size=MAX_BYTES + 1)), "image_too_large"),
    "much too many": BadPart(lambda: picture_part(png(size=MAX_BYTES * 3 // 2)), "image_too_large"),
}
