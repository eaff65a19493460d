"""A stop of the daemon during a renewal: a renewed login is saved, and a hanging call does not delay the stop."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from polling import until
from process import Home

from bridge.accounts.renewals import CALL_SECONDS
from upstream.arena import Arena


@pytest.fixture
async def home(arena: Arena, tmp_path: Path) -> Home:
    """A daemon's home with an account whose token has expired."""
    home = Home(arena, tmp_path)
    home.session = arena.sign_in(expires_in=-60.0)
    await home.prepare()
    return home


def cookie_on_disk(home: Home) -> str:
    return str(json.loads((home.folder.path / "accounts.json").read_text())["accounts"][0]["cookie"])


def asked(arena: Arena) -> bool:
    return any(call.kind == "me" for call in arena.calls)


async def test_a_renewal_that_ends_during_a_stop_is_saved(home: Home, arena: Arena) -> None:
    release = asyncio.Event()
    arena.faults.arm("no_headers", on="me", release=release)
    old = home.session.cookie_value
    async with home.serve() as daemon:
        await until(lambda: asked(arena))
        daemon.process.terminate()
        await daemon.logs("stopping: ")
        release.set()
        assert await daemon.ends() == 0
    assert home.session.refreshes == 1
    assert cookie_on_disk(home) == home.session.cookie_value != old
    async with home.serve() as daemon:
        await until(lambda: sum(call.kind == "me" for call in arena.calls) == 2)
        assert (await daemon.stop())[0] == 0
    assert (home.session.alive, home.session.spent_twice) == (True, 0)


async def test_a_hanging_renewal_does_not_delay_the_stop(home: Home, arena: Arena) -> None:
    arena.faults.arm("no_headers", on="me")
    async with home.serve() as daemon:
        await until(lambda: asked(arena))
        status, seconds = await daemon.stop()
        assert status == 0
        assert seconds < CALL_SECONDS / 10, "it does not wait for the call"
    assert (home.session.alive, home.session.spent_twice) == (True, 0)
    async with home.serve():
        await until(lambda: home.session.refreshes == 1)
        await until(lambda: cookie_on_disk(home) == home.session.cookie_value)
