"""Rendering of pages from templates, with security headers that restrict them to our own resources."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

import aiohttp_jinja2
from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from bridge.access.logins import Login
from bridge.errors import ApiError, error_headers
from handlers import dashboard
from handlers.dashboard.assets import ASSETS, WEB, read_assets
from handlers.dashboard.headline import alert_of, ending_soon
from handlers.dashboard.wording import FILTERS, zone_name
from upstream.protocol.printable import readable

#: No inline code, nothing from other origins, no framing; the playground's pictures are data: and blob: URLs.
_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "manifest-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with no-referrer, browsers would send forms with Origin: null
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}

#: The header by which a page requests its live part. The response has the title's alert in it, percent-encoded.
LIVE_HEADER: Final = "X-Live"
ALERT_HEADER: Final = "X-Alert"

#: How many pieces of a template are rendered in one iteration of the event loop.
_PIECE: Final = 500

#: (path, title, key) of each page, in the order of the menu. The key opens it after `g`.
PAGES: Final = (
    ("/dashboard", "Overview", "o"),
    ("/dashboard/keys", "Keys", "k"),
    ("/dashboard/accounts", "Accounts", "a"),
    ("/dashboard/models", "Models", "m"),
    ("/dashboard/activity", "Activity", "y"),
    ("/dashboard/playground", "Playground", "p"),
    ("/dashboard/settings", "Settings", "s"),
)


class Templates:
    """The templates, compiled in a thread at the first request, since compiling would block the event loop."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._lock = asyncio.Lock()
        self._compiled = False

    async def compile(self) -> None:
        """Compile the templates unless they are compiled already."""
        async with self._lock:
            if not self._compiled:
                await asyncio.to_thread(self._compile)
                self._compiled = True

    def _compile(self) -> None:
        for name in self._environment.list_templates():
            self._environment.get_template(name)


TEMPLATES: Final = web.AppKey("templates", Templates)


def prepare(app: web.Application) -> None:
    """Read the static files, and set up the templates, with autoescaping."""
    assets = app[ASSETS] = read_assets()
    environment = aiohttp_jinja2.setup(
        app,
        loader=FileSystemLoader(WEB / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        filters=FILTERS,
        finalize=_finalized,
    )
    app[TEMPLATES] = Templates(environment)
    environment.globals["pages"] = PAGES
    environment.globals["asset"] = lambda name: f"/dashboard/static/{name}?v={assets[name].version}"


def add_page(app: web.Application, path: str, title: str, key: str) -> None:
    """Add a page to the menu of this daemon only."""
    shown: dict[str, Any] = aiohttp_jinja2.get_env(app).globals
    shown["pages"] = (*shown["pages"], (path, title, key))


def _finalized(value: object) -> object:
    """An expression's value before it is escaped, without control and bidi characters that could alter the page."""
    if isinstance(value, Markup):  # our own markup, whose values are already cleaned
        return value
    return readable(value) if isinstance(value, str) else value


def template(request: web.Request, page: str) -> str:
    """The template of the page's live part if the request asks for it, otherwise of the whole page."""
    return f"{page}_live.html" if LIVE_HEADER in request.headers else f"{page}.html"


async def render(
    request: web.Request,
    name: str,
    login: Login | None,
    context: Mapping[str, Any],
    *,
    status: int = 200,
) -> web.Response:
    """Render a page, or its live part; `login` is None on pages without a login.

    It yields to the event loop in between: rendering hundreds of models at once would delay all streams.
    """
    shown: dict[str, Any] = {"path": request.path, "csrf": "", "now": time.time(), "alert": "", "ending": ()}
    shown |= {"current": _current(request), "sent": request.method == "POST"}
    if login is not None:
        shown |= {"csrf": login.csrf, "alert": await alert_of(request.app), "zone": zone_name(shown["now"])}
        shown["ending"] = ending_soon(request.app, shown["now"])
    shown |= context
    pieces = aiohttp_jinja2.get_env(request.app).get_template(name).stream(shown)
    pieces.enable_buffering(_PIECE)
    text = ""
    for piece in pieces:
        text += piece
        await asyncio.sleep(0)
    headers = {ALERT_HEADER: quote(shown["alert"])} if LIVE_HEADER in request.headers else {}
    return web.Response(text=text, content_type="text/html", status=status, headers=headers)


def _current(request: web.Request) -> tuple[str, str, str]:
    """The page of the menu to which the request's path belongs; the Overview for a path of no page."""
    path = request.path.replace("/dashboard/key/", "/dashboard/keys/", 1)
    known: Mapping[str, Any] = aiohttp_jinja2.get_env(request.app).globals
    menu: Sequence[tuple[str, str, str]] = known.get("pages", PAGES)
    return next((page for page in menu[1:] if f"{path}/".startswith(f"{page[0]}/")), menu[0])


async def problem(request: web.Request, login: Login | None, error: ApiError) -> web.Response:
    """An error page, or plain text for our scripts."""
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
    """Set the security headers on all dashboard responses (as a signal of the app: on streams and files too)."""
    if dashboard.holds(request.path):
        response.headers.update(HEADERS)
