"""One browser for all tests of this folder, hence one event loop, which each file selects by its `pytestmark`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from browsing import WAIT_SECONDS, Tab, chromium, log_in, set_password
from playwright.async_api import Browser, Page, expect
from programs import need_program
from running import RunningBridge, running_bridge

from upstream.arena import Arena, Session

expect.set_options(timeout=WAIT_SECONDS * 1000)


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Chromium."""
    async with chromium(need_program("chromium")) as browser:
        yield browser


@pytest.fixture(scope="session")
def tab(browser: Browser) -> Tab:
    """The tab that the tests use one after the other."""
    return Tab(browser)


@pytest_asyncio.fixture(loop_scope="session")
async def arena() -> AsyncIterator[Arena]:
    """A simulated LMArena on its own port."""
    async with Arena() as arena:
        yield arena


@pytest.fixture
def session(arena: Arena) -> Session:
    """The browser's session of the bridge's account."""
    return arena.sign_in()


@pytest_asyncio.fixture(loop_scope="session")
async def bridge(arena: Arena, session: Session, tmp_path: Path) -> AsyncIterator[RunningBridge]:
    """A bridge with one account, one key, and PASSWORD."""
    await set_password(tmp_path / "state")
    async with running_bridge(arena, tmp_path / "state", sessions=(session,)) as bridge:
        yield bridge


@pytest_asyncio.fixture(loop_scope="session")
async def page(tab: Tab, bridge: RunningBridge) -> AsyncIterator[Page]:
    """An empty page in a browser that has logged in."""
    async with tab.visiting(bridge.origin) as page:
        await log_in(page, bridge.origin)
        yield page
