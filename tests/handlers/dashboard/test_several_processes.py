"""The dashboard of two bridges that share a Redis: one login, the same keys, and no changes while Redis is down."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from dashboard import PASSWORD, Dashboard
from polling import until
from several_bridges import SeveralBridges, several_bridges

from handlers.dashboard.login import setup_code
from handlers.request.appkeys import CLIENT, SHARING, STATE
from upstream.arena import Arena, Line, Step, Turn, Until


@pytest.fixture
async def several(arena: Arena, tmp_path: Path) -> AsyncIterator[SeveralBridges]:
    async with several_bridges(arena, tmp_path) as several:
        yield several


class Walker(Dashboard):
    """A browser that can send its requests to any of the bridges."""

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
    await until(lambda: several[1].app[STATE].admin.password_hash is not None, within=2)
    while (await several.redis.call("PUBSUB", "NUMSUB", "lmab:asks"))[1] < 2:  # noqa: ASYNC110 — Redis sets no event
        await asyncio.sleep(0.01)
    return walker


async def test_a_login_is_valid_at_every_process_until_it_ends(several: SeveralBridges) -> None:
    walker = await begun(several)
    for number in (1, 0, 1):
        assert await walker.at(several, number).is_in()
    page = await walker.at(several, 1).post("/dashboard/keys", {"name": "made at two"})
    assert page.status == 303
    await until(lambda: any(key.name == "made at two" for key in several[0].state.keys), within=2)
    cookie = walker.cookie
    assert (await walker.at(several, 0).post("/dashboard/logout")).location == "/dashboard/login"
    walker.cookie = cookie
    for number in (1, 0):
        assert not await walker.at(several, number).is_in()


async def test_a_changed_password_ends_the_logins_at_every_process(several: SeveralBridges) -> None:
    walker = await begun(several)
    assert await walker.at(several, 1).is_in()
    await several[1].state.update_admin(
        lambda admin: replace(admin, password_hash=(admin.password_hash or "")[:-1] + "x")
    )
    await until(lambda: several[0].state.admin == several[1].state.admin, within=2)
    for number in (0, 1):
        assert not await walker.at(several, number).is_in()


async def test_any_process_shows_the_secret_of_a_new_key_to_the_login_that_created_it(
    several: SeveralBridges,
) -> None:
    walker = await begun(several)
    assert await walker.at(several, 1).is_in()
    page = await walker.post("/dashboard/keys", {"name": "made at two"})
    (key,) = [key for key in several[1].state.keys if key.name == "made at two"]
    await until(lambda: any(known.id == key.id for known in several[0].state.keys))
    shown = [await walker.at(several, number).get(page.location or "") for number in (0, 1, 0)]
    (secret,) = {found for each in shown for found in re.findall(r"sk-lmab-[\w-]{20,}", each.text)}
    assert all(secret in each.text for each in shown)
    assert several[0].state.keys.find(secret) is not None
    held = [await several.redis.call("DUMP", name) for name in await several.redis.call("KEYS", "*")]
    assert not any(secret[-20:].encode() in each for each in held)  # a Redis that is saved to disk does not reveal it
    assert secret not in (await walker.at(several, 0).get("/dashboard/keys")).text

    rotated = await walker.post("/dashboard/keys/rotate", {"id": key.id})
    again = await walker.at(several, 1).get(rotated.location or "")
    assert re.findall(r"sk-lmab-[\w-]{20,}", again.text)
    await walker.post("/dashboard/logout")
    assert not await several.redis.call("KEYS", "lmab:made:*")


async def test_wrong_passwords_are_counted_across_all_processes(several: SeveralBridges) -> None:
    walker = await begun(several)
    walker.cookie = ""
    statuses = [(await walker.at(several, number % 2).log_in("wrong")).status for number in range(4)]
    assert statuses == [403] * 4
    (name,) = await several.redis.call("KEYS", "lmab:attempts:of:*")
    assert await several.redis.call("HGET", name, "count") == b"4"
    await several.redis.call("HSET", name, "count", 14)  # 14 attempts would take minutes
    assert [(await walker.at(several, number).log_in(PASSWORD)).status for number in (0, 1)] == [429, 429]


async def test_changes_are_refused_with_a_reason_while_redis_is_down(several: SeveralBridges) -> None:
    walker = await begun(several)
    assert await walker.at(several, 1).is_in()
    sharing = several[1].app[SHARING]
    assert sharing is not None
    await several.redis.kill()
    await until(lambda: not sharing.link.usable)
    page = await walker.post("/dashboard/keys", {"name": "lost"})
    assert page.status == 503
    assert page.markup.says("Nothing was changed")
    assert all(key.name != "lost" for key in several[1].state.keys)
    overview = await walker.get("/dashboard")
    assert overview.status == 200
    assert overview.markup.says("Redis")
    await several.redis.start()
    await until(lambda: sharing.link.usable and not sharing.trouble)
    assert await walker.is_in()
    assert (await walker.post("/dashboard/keys", {"name": "kept"})).status == 303


# --- requests at other processes ---


def begins(_: Turn) -> Iterator[Step]:
    """An answer that begins and then stalls, until its caller leaves."""
    yield Line("a0", "once")
    yield Until(asyncio.Event())


async def test_activity_shows_and_ends_the_requests_of_every_process(several: SeveralBridges) -> None:
    several[0].arena.script = begins
    walker = await begun(several)
    streams = [await bridge.post(bridge.chat("hi", stream=True)) for bridge in several.bridges]
    for stream in streams:
        await stream.content.readuntil(b"once")
    for number, other in ((0, 1), (1, 0)):
        page = await walker.at(several, number).get("/dashboard/activity")
        assert page.markup.says("2 running")
        for stream in streams:
            assert page.markup.says(f"/dashboard/activity/{stream.headers['x-request-id']}")
        assert page.markup.says("at " + socket.gethostname())
        elsewhere = await walker.get(f"/dashboard/activity/{streams[other].headers['x-request-id']}")
        assert elsewhere.markup.says("so far")
    assert (await walker.get("/dashboard")).markup.says("2Activity")  # running answers, linked to Activity

    first = streams[0].headers["x-request-id"]
    page = await walker.at(several, 1).get(f"/dashboard/activity/{first}")
    (address,) = [each["value"] for _, each in page.markup.elements if each.get("name") == "number"]
    assert (await walker.post("/dashboard/activity", {"number": address})).status == 303
    assert b"ended_by_owner" in await streams[0].read()
    streams[1].close()
    # A request that ended at another process is kept there: each bridge here has its own state folder, like a machine.
    assert (await walker.at(several, 0).live(f"/dashboard/activity/{first}")).markup.says("ended from the bridge")
    assert (await walker.at(several, 1).get(f"/dashboard/activity/{first}")).status == 404


async def test_ending_an_unknown_request_changes_nothing(several: SeveralBridges) -> None:
    walker = await begun(several)
    assert await walker.is_in()
    for address in ("1 nobody", "1 ", "x y", " ", "1 " + "x" * 500, "²", "1 \n*"):
        assert (await walker.post("/dashboard/activity", {"number": address})).status == 303


async def test_a_trouble_of_another_process_is_shown_with_its_host(several: SeveralBridges) -> None:
    walker = await begun(several)
    several[1].app[CLIENT].clock.skew = 3600.0
    page = await walker.at(several, 0).get("/dashboard")
    assert page.markup.says("clock (" + socket.gethostname())
    assert page.markup.says("Working, with problems")
    assert not (await walker.at(several, 1).get("/dashboard")).markup.says("clock (")  # not listed as another's


async def test_a_page_names_a_process_that_does_not_answer(
    several: SeveralBridges, monkeypatch: pytest.MonkeyPatch
) -> None:
    walker = await begun(several)
    sharing = several[0].app[SHARING]
    assert sharing is not None
    await until(lambda: len(sharing.link.alive) == 2)

    async def silent(*_: object) -> None: ...

    monkeypatch.setattr("bridge.shared.instances.RedisInstances._answer", silent)
    page = await walker.at(several, 0).get("/dashboard")
    assert page.markup.says("does not report its state")
    assert page.markup.says(f"process {os.getpid()} of {socket.gethostname()}")


async def test_activity_without_redis_shows_only_this_process_and_says_so(several: SeveralBridges) -> None:
    walker = await begun(several)
    sharing = several[0].app[SHARING]
    assert sharing is not None
    await several.redis.kill()
    await until(lambda: not sharing.link.usable)
    page = await walker.at(several, 0).get("/dashboard/activity")
    assert page.status == 200
    assert page.markup.says("nothing is known about the other processes")
    several[0].arena.script = begins
    async with await several[0].post(several[0].chat("hi", stream=True)) as stream:
        await stream.content.readuntil(b"once")
        assert (await walker.live("/dashboard/activity")).markup.says("1 running")
    assert (await walker.post("/dashboard/activity", {"number": "1 another"})).status == 503
