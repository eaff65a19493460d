"""Controls Chromium on the pages of one bridge, and detects forbidden requests and console errors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import pytest
from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    Response,
    WebError,
    async_playwright,
)
from playwright.async_api import Error as PlaywrightError
from yarl import URL

from bridge.access import passwords
from bridge.state.admin import Admin, admin_document
from bridge.state.documents import StateFolder

#: The marks of tests in a browser, which run beside those of other clients and share one event loop.
IN_BROWSER: Final = [pytest.mark.clients, pytest.mark.asyncio(loop_scope="session")]  # pytest wants a list
PASSWORD: Final = "a heron on the weir, at dusk"
#: The longest wait for a page, in seconds; reached only on a very busy machine or in a failure.
WAIT_SECONDS: Final = 30.0
#: The address of every page behind the login, by title.
PAGES: Final = {
    "overview": "/dashboard",
    "keys": "/dashboard/keys",
    "accounts": "/dashboard/accounts",
    "models": "/dashboard/models",
    "activity": "/dashboard/activity",
    "playground": "/dashboard/playground",
    "settings": "/dashboard/settings",
}


@asynccontextmanager
async def chromium(path: str) -> AsyncIterator[Browser]:
    """A headless browser; `path` is its executable."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def visiting(browser: Browser, origin: str, **options: Any) -> AsyncIterator[Page]:
    """A visitor of `origin` with a separate profile; `options` are the browser context's.

    Raises AssertionError on exit if a page made requests to other origins or logged console errors, such as a failed
    script or a violation of the Content-Security-Policy.
    """
    context = await browser.new_context(base_url=origin, **options)
    context.set_default_timeout(WAIT_SECONDS * 1000)
    with watched(context, URL(origin)) as complaints:
        try:
            yield await context.new_page()
        finally:
            await context.close()
    assert not complaints, complaints


class Tab:
    """One browser page that successive tests share, each with its own bridge.

    A new profile for each test would cost a second of CPU time. All state that a test could leave behind is removed.
    """

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._page: Page | None = None

    @asynccontextmanager
    async def visiting(self, origin: str) -> AsyncIterator[Page]:
        """Like the function `visiting`, but only `goto` resolves relative addresses against the origin."""
        page = await self._blank(origin)
        go = page.goto

        async def goto(address: str, **options: Any) -> Response | None:
            return await go(str(URL(origin).join(URL(address))), **options)

        with watched(page.context, URL(origin)) as complaints, patch.object(page, "goto", goto):
            try:
                yield page
            finally:
                await self._leave(page)
        assert not complaints, complaints

    async def _blank(self, origin: str) -> Page:
        """The page, without data stored under this origin, since another bridge may have used the same port before."""
        if self._page is None:
            context = await self._browser.new_context()
            context.set_default_timeout(WAIT_SECONDS * 1000)
            self._page = await context.new_page()
        devtools = await self._page.context.new_cdp_session(self._page)
        await devtools.send("Storage.clearDataForOrigin", {"origin": origin, "storageTypes": "all"})
        await devtools.send("Network.clearBrowserCache")
        await devtools.detach()
        return self._page

    async def _leave(self, page: Page) -> None:
        try:
            await page.goto("about:blank")
            for other in page.context.pages:
                if other is not page:
                    await other.close()
            await page.context.clear_cookies()
            await page.context.clear_permissions()
            await page.set_viewport_size({"width": 1280, "height": 720})
            await page.emulate_media(color_scheme="null", reduced_motion="null")
        except PlaywrightError:  # such as a crashed page: the next test gets a new one
            self._page = None
            await page.context.close()
            raise


@contextmanager
def watched(context: BrowserContext, origin: URL) -> Iterator[list[str]]:
    """Yield a list that collects the problems of all pages in `context`."""
    complaints: list[str] = []

    def on_request(request: Request) -> None:
        url = URL(request.url)
        if url.scheme not in ("data", "blob", "about") and url.origin() != origin.origin():
            complaints.append(f"request to another origin: {request.method} {request.url}")

    def on_console(message: ConsoleMessage) -> None:
        # Chromium logs error statuses, which are expected for API calls, but not for a page's own files.
        refused = "the server responded with a status of 4" in message.text or "of 5" in message.text
        if message.type in ("error", "warning") and not (refused and "/static/" not in message.location["url"]):
            complaints.append(f"{message.type}: {message.text}")

    def on_error(error: WebError) -> None:
        complaints.append(f"failed: {error.error}")

    context.on("request", on_request)
    context.on("console", on_console)
    context.on("weberror", on_error)
    try:
        yield complaints
    finally:
        context.remove_listener("request", on_request)
        context.remove_listener("console", on_console)
        context.remove_listener("weberror", on_error)


@cache
def _password_hash() -> str:
    return passwords.hash_password(PASSWORD)


async def set_password(folder: Path) -> None:
    """Set PASSWORD as the dashboard's password in the state folder, like `lmarena-bridge password`."""
    state = StateFolder(folder)
    state.prepare()
    await admin_document(state).save(Admin(_password_hash()))


async def log_in(page: Page, origin: str = "") -> None:
    """Log in without following the redirect. A page of a `Tab` needs the origin, since its context has no base URL."""
    answer = await page.request.post(f"{origin}/dashboard/login", form={"password": PASSWORD}, max_redirects=0)
    assert answer.status == 303
