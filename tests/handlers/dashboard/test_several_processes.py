"""The dashboard at two bridges behind one Redis: one login, the same keys, and no change while Redis is gone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from dashboard import PASSWORD, Dashboard
from redis_server import eventually
from several_bridges import SeveralBridges, several_bridges

from handlers.dashboard.login import setup_code
from handlers.request.appkeys import SHARING, STATE
from upstream.arena import Arena


@pytest.fixture
async def several(arena: Arena, tmp_path: Path) -> AsyncIterator[SeveralBridges]:
    async with several_bridges(arena, tmp_path) as several:
        yield several


class Walker(Dashboard):
    """A browser whose requests any of the bridges may get."""

    def at(self, several: SeveralBridges, number: int) -> Walker:
        self.bridge = several[number]
        return self


async def begun(several: SeveralBridges) -> Walker:
    """Set the first password at one bridge, with the code that the other one has logged."""
    codes = [setup_code(bridge.app) for bridge in several.bridges]
    assert codes[0]
    assert codes[0] == codes[1]
    walker = Walker(several[0])
    page = await walker.ask(
        "POST", "/dashboard/setup", {"code": codes[1] or "", "password": PASSWORD, "again": PASSWORD}
    )
    assert page.location == "/dashboard"
    await eventually(lambda: several[1].app[STATE].admin.password_hash is not None, within=2)
    return walker


async def test_a_login_holds_at_every_process_until_it_ends(several: SeveralBridges) -> None:
    walker = await begun(several)
    for number in (1, 0, 1):
        assert await walker.at(several, number).is_in()
    page = await walker.at(several, 1).post("/dashboard/keys", {"name": "made at two"})
    assert page.status == 303
    await eventually(lambda: any(key.name == "made at two" for key in several[0].state.keys), within=2)
    cookie = walker.cookie
    assert (await walker.at(several, 0).post("/dashboard/logout")).location == "/dashboard/login"
    walker.cookie = cookie
    for number in (1, 0):
        assert not await walker.at(several, number).is_in()


async def test_a_changed_password_ends_the_login_at_every_process(several: SeveralBridges) -> None:
    walker = await begun(several)
    assert await walker.at(several, 1).is_in()
    await several[1].state.update_admin(
        lambda admin: replace(admin, password_hash=(admin.password_hash or "")[:-1] + "x")
    )
    await eventually(lambda: several[0].state.admin == several[1].state.admin, within=2)
    for number in (0, 1):
        assert not await walker.at(several, number).is_in()


async def test_in_an_outage_changes_are_refused_and_the_pages_say_why(several: SeveralBridges) -> None:
    walker = await begun(several)
    assert await walker.at(several, 1).is_in()
    sharing = several[1].app[SHARING]
    assert sharing is not None
    await several.redis.kill()
    await eventually(lambda: not sharing.link.usable)
    page = await walker.post("/dashboard/keys", {"name": "lost"})
    assert page.status == 503
    assert page.markup.says("Nothing was changed")
    assert all(key.name != "lost" for key in several[1].state.keys)
    overview = await walker.get("/dashboard")
    assert overview.status == 200
    assert overview.markup.says("Redis")
    await several.redis.start()
    await eventually(lambda: sharing.link.usable and not sharing.trouble)
    assert await walker.is_in()
    assert (await walker.post("/dashboard/keys", {"name": "kept"})).status == 303
