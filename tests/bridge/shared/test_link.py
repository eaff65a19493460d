"""The link to a real Redis: batches, news, and a server that freezes, dies or refuses commands."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

import pytest
from places import linked
from polling import until
from redis_server import RedisServer, redis_server

from bridge.shared.availability import Phase
from bridge.shared.errors import CommandRefused, SharedStateDown
from bridge.shared.link import Link, LinkSettings
from bridge.shared.script import Script

TIMEOUT = 1.0
#: `redis.timeout` in seconds where nothing is frozen: a busy machine may stall for a few.
PATIENCE = 10.0


@pytest.fixture
async def server() -> AsyncIterator[RedisServer]:
    async with redis_server() as server:
        yield server


def link_to(
    server: RedisServer, name: str = "one", *, connect_timeout: float = 20.0, timeout: float = PATIENCE
) -> AbstractAsyncContextManager[Link]:
    settings = LinkSettings(name, "test:", timeout, connect_timeout)
    return linked(server.address, settings)


async def test_replies_arrive_in_the_order_of_the_commands(server: RedisServer) -> None:
    async with link_to(server) as link:
        await link.started()
        assert link.availability.phase is Phase.UP
        replies = await asyncio.gather(*[link.call(("ECHO", f"{number}")) for number in range(1200)])
        assert replies == [f"{number}".encode() for number in range(1200)]
        assert await link.run(("SET", "a", 1), ("INCR", "a")) == [b"OK", 2]
        link.post(("SET", "b", "posted"))
        assert await link.call(("GET", "b")) == b"posted"
        assert await link.run() == []


async def test_a_refused_command_does_not_fail_other_commands(server: RedisServer) -> None:
    async with link_to(server) as link:
        await link.started()
        await server.call("SET", "text", "x")
        wrong, right = await asyncio.gather(
            link.call(("LPUSH", "text", 1)), link.call(("GET", "text")), return_exceptions=True
        )
        assert isinstance(wrong, CommandRefused)
        assert right == b"x"
        assert link.usable


async def test_a_lone_surrogate_in_a_command_does_not_fail_other_commands(server: RedisServer) -> None:
    async with link_to(server) as link:
        await link.started()
        await link.call(("SET", "text", "x"))
        assert await asyncio.gather(*[link.call(("GET", key)) for key in ("\ud800", "text")]) == [None, b"x"]
        assert link.usable


async def test_a_script_missing_on_the_server_is_sent_again(server: RedisServer) -> None:
    beat = Script("beat")
    async with link_to(server) as link:
        await link.started()
        assert await link.call(beat.call((link.key("others"),), "me", 5000, 60000)) == [b"me"]
        await server.call("SCRIPT", "FLUSH")
        assert await link.call(beat.call((link.key("others"),), "me", 5000, 60000)) == [b"me"]


async def test_news_reach_all_processes(server: RedisServer) -> None:
    async with link_to(server, "one") as one, link_to(server, "two") as two:
        heard: list[str] = []
        for link in (one, two):
            link.on_news("keys", heard.append)
        await asyncio.gather(one.started(), two.started())
        await until(lambda: heard == ["", ""])
        await one.call(one.publish_command("keys", "7 é"))
        await until(lambda: heard == ["", "", "7 é", "7 é"])


async def test_processes_see_each_other_as_alive_until_they_end(server: RedisServer) -> None:
    async with link_to(server, "one") as one:
        await one.started()
        async with link_to(server, "two") as two:
            await two.started()
            await until(lambda: one.alive == two.alive == {"one", "two"})
        await until(lambda: one.alive == {"one"})


async def test_a_shared_folder_is_assumed_only_after_other_processes_had_time_to_report(server: RedisServer) -> None:
    """A server that has just started, or that was just reached again, may know only the first of the processes."""
    async with linked(server.address, LinkSettings("one@folder", "test:", PATIENCE, settle_seconds=0.5)) as link:

        def is_known() -> bool:
            return link.all_use_one_folder

        await link.started()
        assert not is_known()
        await until(is_known)
        await server.kill()
        await until(lambda: not link.usable)
        assert is_known()
        await server.start()
        await until(lambda: link.usable)
        assert link.alive == {"one@folder"}
        assert not is_known()
        await until(is_known)


async def test_a_shared_folder_is_not_assumed_after_a_process_of_another_folder_was_seen(server: RedisServer) -> None:
    async with linked(server.address, LinkSettings("one@folder", "test:", PATIENCE, settle_seconds=0.5)) as link:
        await link.started()
        await until(lambda: link.all_use_one_folder)
        await server.call("HSET", link.key("instances"), "two@other", round(time.time() * 1000))
        await until(lambda: "two@other" in link.alive)
        await server.call("DEL", link.key("instances"))
        await until(lambda: link.alive == {"one@folder"})
        assert not link.all_use_one_folder


async def test_foreign_data_in_the_place_of_the_process_list_is_replaced(server: RedisServer) -> None:
    async with link_to(server) as link:
        await link.started()
        await server.call("SET", link.key("instances"), "no hash")
        async with asyncio.timeout(60):
            while await server.call("TYPE", link.key("instances")) != b"hash":  # noqa: ASYNC110 — Redis sets no event
                await asyncio.sleep(0.05)
        assert link.availability.phase is Phase.UP


async def test_a_frozen_server_is_dropped_after_the_timeout_and_reconnected_once_it_answers(
    server: RedisServer,
) -> None:
    async with link_to(server, timeout=TIMEOUT) as link:
        await link.started()
        caught_up: list[Phase] = []

        async def catch_up() -> None:
            caught_up.append(link.availability.phase)

        link.on_reconnect(catch_up)
        server.freeze()
        began = time.monotonic()
        waiting = await asyncio.gather(*[link.call(("PING",)) for _ in range(10)], return_exceptions=True)
        assert all(isinstance(each, SharedStateDown) for each in waiting)
        assert time.monotonic() - began < TIMEOUT + PATIENCE
        assert link.availability.phase is Phase.DEGRADED
        at_once = link.send(("PING",)).exception()  # fails without another wait
        assert "cannot be used: it has not answered within" in f"{at_once}"
        server.thaw()
        await until(lambda: link.availability.phase is Phase.UP, within=20)
        assert caught_up == [Phase.CATCHING_UP]
        assert await link.call(("PING",)) == b"PONG"


async def test_commands_on_a_closed_link_fail_at_once(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    async with link_to(server) as link:
        await link.started()
        running = [link.send(("ECHO", f"{number}")) for number in range(1200)]
    assert [await each for each in running] == [[f"{number}".encode()] for number in range(1200)]
    async with asyncio.timeout(60):
        with pytest.raises(SharedStateDown, match="the daemon stops"):
            await link.call(("PING",))
    assert not caplog.records


async def test_a_server_that_starts_again_has_another_run_id(server: RedisServer) -> None:
    async with link_to(server) as link:
        await link.started()
        before = link.run_id
        await server.kill()
        await until(lambda: not link.usable, within=20)
        await server.start()
        await until(lambda: link.availability.phase is Phase.UP, within=20)
        assert link.run_id
        assert link.run_id != before


async def test_a_restarted_server_counts_as_settling(server: RedisServer) -> None:
    """This holds for a process that starts then, and for one that knew the server's previous run."""
    settings = LinkSettings("one", "test:", PATIENCE, 20.0, settle_seconds=600.0)
    async with linked(server.address, settings) as link:
        await link.started()
        assert 500.0 < link.seconds_until_settled <= 600.0
        await server.kill()
        await until(lambda: not link.usable, within=20)
        await server.start()
        await until(lambda: link.availability.phase is Phase.UP, within=20)
        before = link.seconds_until_settled
        assert 500.0 < before <= 600.0
        await asyncio.sleep(0.01)
        assert link.seconds_until_settled < before
    async with linked(server.address, settings._replace(settle_seconds=0.0)) as link:
        await link.started()
        assert link.seconds_until_settled == 0.0


async def test_a_server_that_refuses_writes_is_unusable(server: RedisServer) -> None:
    async with link_to(server) as link:
        await link.started()
        await server.run(("CONFIG", "SET", "maxmemory", 1))
        await until(lambda: link.availability.phase is Phase.DEGRADED, within=20)
        assert "refuses to work" in link.availability.why
        await server.run(("CONFIG", "SET", "maxmemory", 0))
        await until(lambda: link.availability.phase is Phase.UP, within=20)


async def test_a_start_without_a_server_continues_without_it_after_the_connect_timeout(server: RedisServer) -> None:
    await server.kill()
    async with link_to(server, connect_timeout=0.2) as link:
        began = time.monotonic()
        await link.started()
        assert 0.2 <= time.monotonic() - began < PATIENCE
        assert link.availability.phase is Phase.DEGRADED
        await server.start()
        await until(lambda: link.availability.phase is Phase.UP, within=20)


async def test_a_wrong_password_is_reported_without_being_shown() -> None:
    async with redis_server(password="canary") as server:
        for password in ("", "other-canary"):
            address = replace(server.address, password=password)
            settings = LinkSettings("one", connect_timeout=0.2)
            async with linked(address, settings) as link:
                await link.started()
                assert link.availability.phase is Phase.DEGRADED
                await until(lambda: "not answered" not in link.availability.why, within=20)
                assert "canary" not in link.availability.why
