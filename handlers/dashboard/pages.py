"""How a page is made: rendered from its template, under headers that let it load and do nothing but its own."""

from __future__ import annotations

import html
import time
from collections.abc import Mapping
from typing import Any, Final

import aiohttp_jinja2
from aiohttp import web
from jinja2 import FileSystemLoader, StrictUndefined

from bridge.logins import Login
from handlers.dashboard.assets import ASSETS, TEMPLATES, read_assets
from handlers.dashboard.wording import FILTERS

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
HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with no-referrer a browser would call a form's origin null
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}

#: (address, title) of each page, as the menu shows them.
PAGES: Final = (
    ("/dashboard", "Overview"),
    ("/dashboard/keys", "Keys"),
    ("/dashboard/accounts", "Accounts"),
    ("/dashboard/models", "Models"),
    ("/dashboard/activity", "Activity"),
    ("/dashboard/playground", "Playground"),
)


def prepare(app: web.Application) -> None:
    """Read the static files, and let templates be found, which escape by themselves."""
    assets = app[ASSETS] = read_assets()
    environment = aiohttp_jinja2.setup(
        app,
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        filters=FILTERS,
    )
    environment.globals["pages"] = PAGES
    environment.globals["asset"] = lambda name: f"/dashboard/static/{name}?v={assets[name].version}"


def render(
    request: web.Request,
    template: str,
    login: Login | None,
    context: Mapping[str, Any] | None = None,
    *,
    status: int = 200,
) -> web.Response:
    """A page, or a part of one that redraws itself. `login` is None where nobody is logged in."""
    shown = {"path": request.path, "csrf": login.csrf if login else "", "now": time.time(), **(context or {})}
    return aiohttp_jinja2.render_template(template, request, shown, status=status)


def problem(request: web.Request, login: Login | None, status: int, message: str) -> web.Response:
    """A page that says what went wrong; plain text for a script of ours."""
    if "X-CSRF-Token" in request.headers:
        return web.Response(text=html.escape(message), status=status)
    return render(request, "problem.html", login, {"status": status, "message": message}, status=status)
