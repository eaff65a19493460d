"""A minimal browser for a bridge's dashboard, with cookies, CSRF tokens and forms, and a parser for its pages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from html.parser import HTMLParser

from aiohttp import web
from multidict import CIMultiDictProxy
from running import RunningBridge

from bridge.access.passwords import hash_password
from handlers.dashboard.guard import LOGINS, PLAIN_COOKIE
from handlers.dashboard.login import setup_code
from handlers.request.appkeys import STATE

PASSWORD = "seven blue herons over the weir"

_TOKEN = re.compile(r'name="csrf" value="([^"]+)"')


@cache
def _password_hash() -> str:
    return hash_password(PASSWORD)


@dataclass(frozen=True, slots=True)
class Page:
    """A complete answer."""

    status: int
    headers: CIMultiDictProxy[str]
    text: str

    @property
    def location(self) -> str | None:
        """The target of its redirect."""
        return self.headers.get("Location")

    @property
    def csrf(self) -> str:
        """The CSRF token in its forms; '' if it has none."""
        found = _TOKEN.search(self.text)
        return found[1] if found else ""

    @property
    def markup(self) -> Markup:
        """The parsed page."""
        markup = Markup()
        markup.feed(self.text)
        markup.close()
        return markup


class Markup(HTMLParser):
    """The elements of a page, in order, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Add an element."""
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        """Add a text, including scripts."""
        self.text += data

    def says(self, text: str) -> bool:
        """Whether the page contains this text, in an element or an attribute."""
        return text in self.text or any(
            text in value for _, attributes in self.elements for value in attributes.values()
        )


@dataclass
class Dashboard:
    """One browser. It follows no redirects, so that tests can check them; `headers` are sent with every request."""

    bridge: RunningBridge
    headers: Mapping[str, str] = field(default_factory=dict)
    cookie: str = ""
    csrf: str = ""

    async def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, str] | str | bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Page:
        """Send a request unchanged, with the cookie; a mapping is sent as a form."""
        sent = {**({"Cookie": self.cookie} if self.cookie else {}), **self.headers, **(headers or {})}
        url = self.bridge.origin + path
        async with self.bridge.http.request(method, url, data=body, headers=sent, allow_redirects=False) as response:
            page = Page(response.status, response.headers, await response.text())
        for morsel in response.cookies.values():
            self.cookie = f"{morsel.key}={morsel.value}" if morsel.value else ""
        self.csrf = page.csrf or self.csrf
        return page

    async def get(self, path: str, /, **headers: str) -> Page:
        """Get a page."""
        return await self.ask("GET", path, headers=headers)

    async def live(self, path: str) -> Page:
        """Get the part of a page that is updated live."""
        return await self.get(path, **{"X-Live": "1"})

    async def post(self, path: str, fields: Mapping[str, str] | None = None, /, **headers: str) -> Page:
        """Send a form of a page, with its CSRF token."""
        return await self.ask("POST", path, {"csrf": self.csrf, **(fields or {})}, headers)

    async def set_up(self, password: str = PASSWORD) -> Page:
        """Set the first password with the code that the daemon printed, which also logs in."""
        code = setup_code(self.bridge.app) or ""
        page = await self.ask("POST", "/dashboard/setup", {"code": code, "password": password, "again": password})
        return await self._see(page)

    async def enter(self) -> None:
        """Log in with PASSWORD quickly: its hash is computed once for all tests, and no page is rendered."""
        app = self.bridge.app
        await app[STATE].update_admin(lambda admin: replace(admin, password_hash=_password_hash()))
        session_id, login = app[LOGINS].begin()
        self.cookie, self.csrf = f"{PLAIN_COOKIE}={session_id}", login.csrf

    async def log_in(self, password: str = PASSWORD) -> Page:
        """Log in with a password."""
        return await self._see(await self.ask("POST", "/dashboard/login", {"password": password}))

    async def _see(self, page: Page) -> Page:
        """After a login, get a page with a form, for its CSRF token."""
        if page.location == "/dashboard":
            await self.get("/dashboard/keys")
        return page

    async def is_in(self) -> bool:
        """Whether the cookie is logged in."""
        return (await self.get("/dashboard/keys")).status == 200


class Kept:
    """Checks that nothing has changed: neither the files, nor that the browser is logged in."""

    def __init__(self, dashboard: Dashboard) -> None:
        self._dashboard = dashboard
        self._before = self._files()

    def _files(self) -> dict[str, bytes]:
        folder = self._dashboard.bridge.folder.path
        return {name: (folder / f"{name}.json").read_bytes() for name in ("keys", "accounts", "admin")}

    async def unchanged(self) -> bool:
        """Whether nothing has changed."""
        return self._files() == self._before and await self._dashboard.is_in()


#: Paths that need neither a key nor a login.
OPEN = frozenset(
    {
        "/",
        "/livez",
        "/readyz",
        "/health",
        "/v1/health",
        "/api/v1/health",
        "/openapi.json",
        "/docs",
        "/dashboard/login",
        "/dashboard/setup",
        "/dashboard/static/{name}",
        "/dashboard/{rest}",
    }
)


def routes(app: web.Application) -> list[tuple[str, str]]:
    """The method and path of every route of the app except open ones, with an example in place of a name."""
    known = ((route.method, route.resource.canonical) for route in app.router.routes() if route.resource is not None)
    return [
        (method, path.replace("{name}", "some-name").replace("{id}", "resp_1"))
        for method, path in known
        if path not in OPEN
    ]


def private(app: web.Application) -> list[tuple[str, str]]:
    """The routes of the dashboard."""
    return [(method, path) for method, path in routes(app) if path.startswith("/dashboard")]


def changes(app: web.Application) -> list[str]:
    """All paths of the dashboard that may change something for a logged-in user."""
    return [path for method, path in private(app) if method == "POST"]
