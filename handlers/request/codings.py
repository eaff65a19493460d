"""Decoding of a body's `Content-Encoding`, with bounded output.

aiohttp's own decoding would run before the key is checked, and Brotli's window alone takes 16 MiB per connection.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from types import MappingProxyType
from typing import Final, TypeAlias

import brotli

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

#: The largest zstd window that is accepted: 8 MiB, as RFC 8878 recommends to decoders (3.1.1.1.2).
_MAX_WINDOW_LOG: Final = 23
#: How much is decoded at a time.
_STEP_BYTES: Final = 64 * 1024
#: The most members of gzip, or frames of zstd, in one body; real clients send one.
_MAX_MEMBERS: Final = 64
_GZIP_BITS: Final = 16 + zlib.MAX_WBITS

#: Decodes a whole body, piece by piece.
_Decode: TypeAlias = Callable[[bytes], Iterator[bytes]]


class BrokenCoding(ValueError):
    """The body is not in the coding that it names, or is incomplete."""


class DecodedTooLong(ValueError):
    """The decoded body is larger than allowed."""


def decode(body: bytes, coding: str, limit: int) -> bytes:
    """Decode one of `CODINGS`. Raises BrokenCoding, or DecodedTooLong above `limit` bytes."""
    decoded = BytesIO()
    try:
        for piece in CODINGS[coding](body):
            if decoded.tell() + len(piece) > limit:
                raise DecodedTooLong
            decoded.write(piece)
    except (zlib.error, zstd.ZstdError, brotli.error) as error:
        raise BrokenCoding(str(error)) from None
    return decoded.getvalue()


def _gzip(body: bytes) -> Iterator[bytes]:
    yield from _zlib_members(body, _GZIP_BITS)


def _deflate(body: bytes) -> Iterator[bytes]:
    """Deflate in zlib's format, as RFC 9110 requires it, or raw, as some clients send it."""
    framed = body[:1] and body[0] & 0x0F == zlib.DEFLATED
    yield from _zlib_members(body, zlib.MAX_WBITS if framed else -zlib.MAX_WBITS)


def _zlib_members(body: bytes, bits: int) -> Iterator[bytes]:
    at = 0
    for _ in range(_MAX_MEMBERS):
        member = zlib.decompressobj(bits)
        while not member.eof:
            data = member.unconsumed_tail
            if not data:
                data = body[at : at + _STEP_BYTES]
                at += len(data)
            yield _checked(member.decompress(data, _STEP_BYTES), more=bool(data) or member.eof)
        at -= len(member.unused_data)
        if at == len(body):
            return
    raise BrokenCoding("it has too many members")


def _zstd(body: bytes) -> Iterator[bytes]:
    options = {int(zstd.DecompressionParameter.window_log_max): _MAX_WINDOW_LOG}
    at = 0
    for _ in range(_MAX_MEMBERS):
        frame = zstd.ZstdDecompressor(options=options)
        piece = b""
        while not frame.eof:
            data = b"" if piece and not frame.needs_input else body[at : at + _STEP_BYTES]
            at += len(data)
            piece = _checked(frame.decompress(data, _STEP_BYTES), more=bool(data) or frame.eof or at < len(body))
            yield piece
        at -= len(frame.unused_data)
        if at == len(body):
            return
    raise BrokenCoding("it has too many frames")


def _brotli(body: bytes) -> Iterator[bytes]:
    decoder = brotli.Decompressor()
    at = 0
    while not decoder.is_finished():
        data = body[at : at + _STEP_BYTES] if decoder.can_accept_more_data() else b""
        at += len(data)
        piece = decoder.process(data, output_buffer_limit=_STEP_BYTES)
        yield _checked(piece, more=bool(data) or decoder.is_finished())
    if at < len(body):
        raise BrokenCoding("there is data after its end")


def _checked(piece: bytes, *, more: bool) -> bytes:
    """Return the output of one step. Raises BrokenCoding if it is empty though no `more` input or output can follow."""
    if not (piece or more):
        raise BrokenCoding("it is cut off")
    return piece


CODINGS: Final[Mapping[str, _Decode]] = MappingProxyType(
    {"gzip": _gzip, "deflate": _deflate, "br": _brotli, "zstd": _zstd}
)
