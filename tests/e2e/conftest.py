"""Fixtures: an isolated environment for commands, and a daemon's home and an HTTP client."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from commands import CHECKOUT
from process import Home

from upstream.arena import Arena


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test with a working folder and a HOME outside the checkout, and without settings in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("LMARENA_BRIDGE_")]:
        monkeypatch.delenv(name)
    for name, value in {"HOME": str(tmp_path), "PYTHONPATH": str(CHECKOUT), "COLUMNS": "100"}.items():
        monkeypatch.setenv(name, value)
    for name in ("XDG_CONFIG_HOME", "STATE_DIRECTORY", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def home(arena: Arena, tmp_path: Path) -> Home:
    home = Home(arena, tmp_path)
    await home.prepare()
    return home


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        yield http
