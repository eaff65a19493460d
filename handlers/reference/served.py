"""GET /openapi.json. It needs no key, since nothing in it is secret. It is built once and kept as bytes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import orjson
from aiohttp import web

from bridge import __version__
from handlers.reference.operation import JSON, DescribedCall, Tag
from handlers.request.aiohttp_internals import CallerResponse
from handlers.request.appkeys import RECORD, SETTINGS
from handlers.request.writing import CallerWriter


class ServedDocument(NamedTuple):
    """The document as JSON, and its entity tag."""

    body: bytes
    etag: str


class Reference:
    """The described calls, and the OpenAPI document made from them."""

    def __init__(self, calls: Sequence[DescribedCall], tags: Sequence[Tag]) -> None:
        self.calls = calls
        self.tags = tags
        self._lock = asyncio.Lock()
        self._made: ServedDocument | None = None

    async def document(self) -> ServedDocument:
        """Return the OpenAPI document; the first call makes it, in a thread."""
        async with self._lock:
            if self._made is None:
                self._made = await asyncio.to_thread(self.make)
            return self._made

    def make(self) -> ServedDocument:
        """Make the OpenAPI document."""
        from handlers.reference.document import document  # deferred: imports all schemas, which few requests need

        made = document(self.calls, self.tags, __version__)
        body = orjson.dumps(made, option=orjson.OPT_NON_STR_KEYS)  # names of headers are `istr`
        return ServedDocument(body, etag_of(body))


#: The size of one write: as much as a transport accepts without pausing.
PIECE_BYTES: Final = 16 * 1024

REFERENCE: Final = web.AppKey("reference", Reference)


async def openapi(request: web.Request) -> web.StreamResponse:
    """GET /openapi.json."""
    made = await request.app[REFERENCE].document()
    return await send_kept(request, (made.body,), JSON, made.etag)


async def send_kept(
    request: web.Request,
    parts: Sequence[bytes],
    media: str,
    etag: str,
    *,
    between: bytes = b"",
    headers: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """Send a body that clients may cache, or 304 if the client's copy has this `etag`.

    The body is `parts`, which all responses share, joined by `between`. It is written piece by piece, so that a client
    that does not read costs no copy of it.
    """
    request[RECORD].quiet = True
    sent = {**(headers or {}), "ETag": f'"{etag}"', "Cache-Control": "no-cache"}
    if {each.value for each in request.if_none_match or ()} & {etag, "*"}:
        return web.Response(status=304, headers=sent)
    response = CallerResponse(headers={**sent, "Content-Type": f"{media}; charset=utf-8"})
    response.content_length = sum(map(len, parts)) + (len(parts) - 1) * len(between)
    writer = CallerWriter(request, response, request.app[SETTINGS].config.server.write_timeout)
    await writer.prepare()
    if request.method != "HEAD":
        for piece in pieces(parts, between):
            await writer.write(piece)
            await writer.drain()
    await writer.write_eof()
    return response


def pieces(parts: Sequence[bytes], between: bytes) -> Iterator[bytes]:
    """Yield the parts, joined by `between`, in pieces that are not much longer than `PIECE_BYTES`."""
    for number, part in enumerate(parts):
        before = between if number else b""
        for start in range(0, max(len(part), 1), PIECE_BYTES):
            yield before + part[start : start + PIECE_BYTES]
            before = b""


def etag_of(body: bytes) -> str:
    """An entity tag that changes with the content."""
    return hashlib.sha256(body).hexdigest()[:16]
