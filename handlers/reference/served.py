"""GET /openapi.json: no key is needed, since nothing in it is secret. It is built once and kept as bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Final

import orjson
from aiohttp import web

from bridge import __version__
from handlers.reference.document import DescribedCall, document
from handlers.reference.operation import JSON, Tag
from handlers.request.appkeys import RECORD


class Reference:
    """What is described, and the document that it makes."""

    def __init__(self, calls: Sequence[DescribedCall], tags: Sequence[Tag]) -> None:
        self.calls = calls
        self.tags = tags

    @cached_property
    def document(self) -> bytes:
        """The OpenAPI document as JSON; the first one who asks for it makes it, in some milliseconds."""
        return orjson.dumps(document(self.calls, self.tags, __version__))

    @cached_property
    def etag(self) -> str:
        """The document's entity tag."""
        return etag_of(self.document)


REFERENCE: Final = web.AppKey("reference", Reference)


async def openapi(request: web.Request) -> web.StreamResponse:
    """GET /openapi.json."""
    reference = request.app[REFERENCE]
    return kept(request, reference.document, JSON, reference.etag)


def kept(request: web.Request, body: bytes, media: str, etag: str) -> web.Response:
    """An answer that the caller may keep, and ask again whether it has changed: 304 where it has not."""
    request[RECORD].quiet = True
    headers = {"ETag": f'"{etag}"', "Cache-Control": "no-cache"}
    known = {each.value for each in request.if_none_match or ()}
    if known & {etag, "*"}:
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, content_type=media, charset="utf-8", headers=headers)


def etag_of(body: bytes) -> str:
    """An entity tag that changes with the content."""
    return hashlib.sha256(body).hexdigest()[:16]
