"""Chromium as a person uses it: pages of one bridge, watched for whatever they must not do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Request, async_playwright
from yarl import URL

from bridge.access import passwords
from bridge.state.admin import Admin, admin_document
from bridge.state.documents import StateFolder

PASSWORD: Final = "a heron on the weir, at dusk"
#: What no page waits longer for, in seconds: a writing of the statistics and a redrawing, on a busy machine.
WAIT_SECONDS: Final = 10.0
#: (address, title) of every page behind the login.
PAGES: Final = {
    "overview": "/dashboard",
    "keys": "/dashboard/keys",
    "accounts": "/dashboard/accounts",
    "models": "/dashboard/models",
    "activity": "/dashboard/activity",
    "playground": "/dashboard/playground",
}


@asynccontextmanager
async def chromium(path: str) -> AsyncIterator[Browser]:
    """The browser, without a window. `path` is its program's."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def visiting(browser: Browser, origin: str, **options: Any) -> AsyncIterator[Page]:
    """A visitor of `origin` with a profile of their own; `options` are the browser context's.

    Raises AssertionError in the end if a page wanted anything from elsewhere, or complained in its console: of a script
    that failed, of what the Content-Security-Policy refused.
    """
    context = await browser.new_context(base_url=origin, **options)
    context.set_default_timeout(WAIT_SECONDS * 1000)
    complaints = watch(context, URL(origin))
    try:
        yield await context.new_page()
    finally:
        await context.close()
    assert not complaints


def watch(context: BrowserContext, origin: URL) -> list[str]:
    """Everything that pages of `context` will do wrong."""
    complaints: list[str] = []

    def on_request(request: Request) -> None:
        url = URL(request.url)
        if url.scheme not in ("data", "blob") and url.origin() != origin.origin():
            complaints.append(f"asked elsewhere: {request.method} {request.url}")

    def on_console(message: ConsoleMessage) -> None:
        # A refusal of ours is news to Chromium; that of a page's own file would be a fault.
        refused = "the server responded with a status of 4" in message.text or "of 5" in message.text
        if message.type in ("error", "warning") and not (refused and "/static/" not in message.location["url"]):
            complaints.append(f"{message.type}: {message.text}")

    context.on("request", on_request)
    context.on("console", on_console)
    context.on("weberror", lambda error: complaints.append(f"failed: {error.error}"))
    return complaints


async def set_password(folder: Path) -> None:
    """Let PASSWORD open the dashboard of the state folder, as `lmarena-bridge password` does."""
    state = StateFolder(folder)
    state.prepare()
    await admin_document(state).save(Admin(passwords.hash_password(PASSWORD)))


async def log_in(page: Page) -> None:
    """Let the visitor in; where the page goes next is not said."""
    answer = await page.request.post("/dashboard/login", form={"password": PASSWORD}, max_redirects=0)
    assert answer.status == 303
