"""Controls Chromium on the pages of one bridge, and detects forbidden requests and console errors."""

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
#: The longest wait for a page in seconds: saving the statistics and redrawing, on a busy machine.
WAIT_SECONDS: Final = 10.0
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

    Raises AssertionError in the end if a page made requests to other origins, or its console has errors, such as a
    failed script or a violation of the Content-Security-Policy.
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
    """A list to which all problems of pages in `context` are added."""
    complaints: list[str] = []

    def on_request(request: Request) -> None:
        url = URL(request.url)
        if url.scheme not in ("data", "blob") and url.origin() != origin.origin():
            complaints.append(f"request to another origin: {request.method} {request.url}")

    def on_console(message: ConsoleMessage) -> None:
        # Chromium logs error statuses, which are expected for API calls, but not for a page's own files.
        refused = "the server responded with a status of 4" in message.text or "of 5" in message.text
        if message.type in ("error", "warning") and not (refused and "/static/" not in message.location["url"]):
            complaints.append(f"{message.type}: {message.text}")

    context.on("request", on_request)
    context.on("console", on_console)
    context.on("weberror", lambda error: complaints.append(f"failed: {error.error}"))
    return complaints


async def set_password(folder: Path) -> None:
    """Set PASSWORD as the dashboard's password in the state folder, like `lmarena-bridge password`."""
    state = StateFolder(folder)
    state.prepare()
    await admin_document(state).save(Admin(passwords.hash_password(PASSWORD)))


async def log_in(page: Page) -> None:
    """Log the visitor in, without following the redirect."""
    answer = await page.request.post("/dashboard/login", form={"password": PASSWORD}, max_redirects=0)
    assert answer.status == 303
