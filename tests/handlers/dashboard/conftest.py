"""A browser that is logged in, and the stored data that attacks must not change."""

from __future__ import annotations

import pytest
from dashboard import Dashboard, Kept
from running import RunningBridge

from handlers.request.appkeys import MODELS


@pytest.fixture
async def dashboard(bridge: RunningBridge) -> Dashboard:
    """A browser whose owner has set the password and is logged in, once the bridge knows the site's models."""
    await bridge.app[MODELS].available()
    browser = Dashboard(bridge)
    await browser.enter()
    return browser


@pytest.fixture
def kept(dashboard: Dashboard) -> Kept:
    """The stored data in its current state."""
    return Kept(dashboard)
