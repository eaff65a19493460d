"""GET /docs: the API reference as a public page. It is rendered once; each response shows the address that its client
used."""

from __future__ import annotations

import asyncio
import re
from typing import Final, NamedTuple

import aiohttp_jinja2
from aiohttp import web

from bridge import __version__
from handlers.dashboard import pages
from handlers.reference.operation import HTML, ORIGIN
from handlers.reference.served import REFERENCE, etag_of, send_kept
from handlers.request.appkeys import SETTINGS
from handlers.request.callers import is_secure

#: A host with its port, as browsers send it, without anything that needs escaping in a page or in a shell.
_HOST: Final = re.compile(r"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")
_USUAL_HOST: Final = "127.0.0.1:8000"


class _Page(NamedTuple):
    """The page, split where the address belongs, and its entity tag without the address."""

    parts: tuple[bytes, ...]
    etag: str


class DocsPage:
    """The page without an address, which is rendered for the first request."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._page: _Page | None = None

    async def read(self, app: web.Application) -> _Page:
        """Return the page; the first call renders it in a thread."""
        async with self._lock:
            if self._page is None:
                await app[pages.TEMPLATES].compile()
                self._page = await asyncio.to_thread(_rendered, app)
            return self._page


DOCS_PAGE: Final = web.AppKey("docs_page", DocsPage)


def _rendered(app: web.Application) -> _Page:
    from handlers.reference.page import sections  # deferred: imports all schemas, which the daemon does not need

    reference = app[REFERENCE]
    template = aiohttp_jinja2.get_env(app).get_template("docs.html")
    shown = sections(reference.calls, reference.tags)
    body = template.render(sections=shown, origin=ORIGIN, version=__version__, alert="").encode()
    return _Page(tuple(body.split(ORIGIN.encode())), etag_of(body))


async def docs(request: web.Request) -> web.StreamResponse:
    """GET /docs."""
    page, origin = await request.app[DOCS_PAGE].read(request.app), origin_of(request).encode()
    etag = f"{page.etag}-{etag_of(origin)}"
    return await send_kept(request, page.parts, HTML, etag, between=origin, headers=pages.HEADERS)


def origin_of(request: web.Request) -> str:
    """The daemon's address as the client's browser shows it."""
    scheme = "https" if is_secure(request, request.app[SETTINGS].config) else "http"
    sent = request.headers.get("Host", "")
    return f"{scheme}://{sent if _HOST.fullmatch(sent) else _USUAL_HOST}"
