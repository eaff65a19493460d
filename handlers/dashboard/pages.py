"""How a page is made: rendered from its template, under headers that let it load and do nothing but its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

import aiohttp_jinja2
from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from bridge.access.logins import Login
from bridge.errors import ApiError, error_headers
from handlers import dashboard
from handlers.dashboard.assets import ASSETS, WEB, read_assets
from handlers.dashboard.wording import FILTERS
from upstream.protocol.printable import readable

#: Nothing inline, nothing from elsewhere, no frame around it; pictures of the playground are data and blobs.
_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with no-referrer a browser would call a form's origin null
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}

#: Expressions and texts of a template that are rendered in one turn of the loop.
_PIECE: Final = 500

#: (address, title) of each page, as the menu shows them.
PAGES: Final = (
    ("/dashboard", "Overview"),
    ("/dashboard/keys", "Keys"),
    ("/dashboard/accounts", "Accounts"),
    ("/dashboard/models", "Models"),
    ("/dashboard/activity", "Activity"),
    ("/dashboard/playground", "Playground"),
)


class Templates:
    """The templates, compiled in a thread as soon as a page is wanted: compiling would hold the loop."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._lock = asyncio.Lock()
        self._compiled = False

    async def compile(self) -> None:
        """Return when they are."""
        async with self._lock:
            if not self._compiled:
                await asyncio.to_thread(self._compile)
                self._compiled = True

    def _compile(self) -> None:
        for name in self._environment.list_templates():
            self._environment.get_template(name)


TEMPLATES: Final = web.AppKey("templates", Templates)


def prepare(app: web.Application) -> None:
    """Read the static files, and let templates be found, which escape by themselves."""
    assets = app[ASSETS] = read_assets()
    environment = aiohttp_jinja2.setup(
        app,
        loader=FileSystemLoader(WEB / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        filters=FILTERS,
        finalize=_shown,
    )
    app[TEMPLATES] = Templates(environment)
    environment.globals["pages"] = PAGES
    environment.globals["asset"] = lambda name: f"/dashboard/static/{name}?v={assets[name].version}"


def _shown(value: object) -> object:
    """What a template's expression becomes, before it is escaped: nothing in it steers the page around it."""
    if isinstance(value, Markup):  # ours, and made of what has been here before
        return value
    return readable(value) if isinstance(value, str) else value


def template(request: web.Request, page: str) -> str:
    """The template of a page that redraws a part of itself: of the whole, or of that part where it is asked for."""
    return f"{page}_live.html" if "X-Live" in request.headers else f"{page}.html"


async def render(
    request: web.Request,
    name: str,
    login: Login | None,
    context: Mapping[str, Any] | None = None,
    *,
    status: int = 200,
) -> web.Response:
    """A page, or a part of one that redraws itself, from the template of this name; without `login` for nobody.

    The loop runs in between: hundreds of models in one piece would hold every stream.
    """
    shown = {"path": request.path, "csrf": login.csrf if login else "", "now": time.time(), **(context or {})}
    pieces = aiohttp_jinja2.get_env(request.app).get_template(name).stream(shown)
    pieces.enable_buffering(_PIECE)
    text = ""
    for piece in pieces:
        text += piece
        await asyncio.sleep(0)
    return web.Response(text=text, content_type="text/html", status=status)


async def problem(request: web.Request, login: Login | None, error: ApiError) -> web.Response:
    """A page that says what went wrong; plain text for a script of ours."""
    if "X-CSRF-Token" in request.headers:
        response = web.Response(text=readable(error.message), status=error.status)
    else:
        shown = {"status": error.status, "message": error.message}
        response = await render(request, "problem.html", login, shown, status=error.status)
    response.headers.update(error_headers(error))
    if response.headers.get("Connection") == "close":
        response.force_close()
    return response


async def set_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Put on every answer below our path what its pages must carry (a signal of the app: streams and files too)."""
    if dashboard.holds(request.path):
        response.headers.update(_HEADERS)
