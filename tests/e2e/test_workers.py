"""A daemon with several worker processes acts as one daemon for its callers, its operator and its monitoring."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import psutil
import pytest
from polling import until
from process import START_SECONDS, DaemonProcess, Home
from streams import NewCallers, Play, begin, post
from workers import serving
from yarl import URL

from bridge.access.passwords import hash_password
from bridge.state.admin import Admin, admin_document
from upstream.arena import Arena

REQUESTS = 20
PASSWORD = "a heron between two workers"
DRAIN_SECONDS = 3.0


@pytest.fixture
async def home(arena: Arena, tmp_path: Path) -> Home:
    home = Home(arena, tmp_path)
    await home.prepare()
    home.configure({"server": {"drain_seconds": 5, "open_metrics": True}})
    return home


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client that opens a new connection for each request, so that any worker may get it."""
    connector, timeout = aiohttp.TCPConnector(limit=0, force_close=True), aiohttp.ClientTimeout(30)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
        yield http


async def test_a_daemon_with_workers_acts_as_one_through_changes_deaths_and_stop(
    home: Home, http: aiohttp.ClientSession
) -> None:
    """All stages use one daemon, since a start takes long."""
    home.arena.script = play = Play()
    await admin_document(home.folder).save(Admin(hash_password(PASSWORD)))
    async with serving(home) as daemon:
        await all_are_well(http, daemon)
        await all_serve(http, daemon, home)
        await counts_are_of_all(http, daemon, REQUESTS)
        await settings_reach_all(daemon, home)

        # A worker dies: its counts are kept, and the health reports it as missing until its successor is ready.
        victim, survivor = children(daemon)
        os.kill(victim, signal.SIGKILL)
        await daemon.logs("ended unexpectedly, by SIGKILL")
        await until(lambda: set(children(daemon)) - {survivor}, within=START_SECONDS)
        (successor,) = set(children(daemon)) - {survivor}
        os.kill(successor, signal.SIGSTOP)  # so that it is not ready before the health is requested
        async with asyncio.timeout(START_SECONDS):
            while (health := await health_of(http, daemon))["reason"] != "worker":  # noqa: ASYNC110 — a daemon sets no event here
                await asyncio.sleep(0.05)
        assert (health["status"], len(health["degraded"])) == ("degraded", 1)
        await counts_are_of_all(http, daemon, REQUESTS)
        await all_serve(http, daemon, home)
        os.kill(successor, signal.SIGCONT)
        await daemon.logs("is ready", START_SECONDS)
        await all_are_well(http, daemon)
        await counts_are_of_all(http, daemon, 2 * REQUESTS)

        # The daemon stops: the streams on both workers may finish.
        async with asyncio.TaskGroup() as tasks:
            streams = await begin(tasks, http, daemon, home, *(f"ends-{number}-" for number in range(8)))
            await counts_are_of_all(http, daemon, 2 * REQUESTS)
            assert (await health_of(http, daemon))["answering"] in range(9)  # the number may be a second old
            daemon.signal(signal.SIGTERM)
            await daemon.logs("stopping")
            await daemon.logs("stopping")
            play.go.set()
        assert all(stream.error is None for stream in streams)
        assert await daemon.ends() == 0
    assert survivor not in psutil.pids()
    assert not home.folder.is_held()


async def settings_reach_all(daemon: DaemonProcess, home: Home) -> None:
    """Reload bridge.toml and change the log settings in one worker's dashboard: both workers apply the changes."""
    page = f"{daemon.origin}/dashboard/settings"
    # One connection, hence one worker, since without Redis workers do not share logins.
    jar, connector = aiohttp.CookieJar(unsafe=True), aiohttp.TCPConnector(limit=1)
    async with aiohttp.ClientSession(cookie_jar=jar, connector=connector) as http:
        async with http.post(f"{daemon.origin}/dashboard/login", data={"password": PASSWORD}) as answer:
            assert answer.status == 200
        async with http.get(page) as answer:
            text = await answer.text()
        assert re.search(r"the values of worker [12] of 2 \(process \d+\)", text)
        token = text.partition('name="csrf" value="')[2].partition('"')[0]
        home.configure({"server": {"drain_seconds": 5, "open_metrics": True}, "limits": {"rpm": 77}})
        async with http.post(f"{page}/reread", data={"csrf": token}) as answer:
            text = await answer.text()
        assert "<code>limits.rpm</code> from <code>60</code> to <code>77</code>" in text
        assert "No reply from" not in text
        await by_both(daemon, "the configuration was reloaded")
        async with http.post(f"{page}/log", data={"csrf": token, "level": "debug"}) as answer:
            assert "Switch back now" in await answer.text()
        await by_both(daemon, "the log is switched for 15 min: level debug, without prompts")
        async with http.post(f"{page}/log", data={"csrf": token, "off": "yes"}) as answer:
            assert "Switch back now" not in await answer.text()
        await by_both(daemon, "the log is as configured again")


async def by_both(daemon: DaemonProcess, text: str) -> None:
    """Wait until both workers have logged a text."""
    while len({line.rpartition("worker=")[2] for line in daemon.log if text in line}) < 2:
        await daemon.logs("")


async def test_workers_whose_parent_is_killed_finish_their_streams(home: Home, http: aiohttp.ClientSession) -> None:
    home.arena.script = play = Play()
    async with serving(home) as daemon:
        orphans = [psutil.Process(pid) for pid in children(daemon)]
        async with asyncio.TaskGroup() as tasks:
            (stream,) = await begin(tasks, http, daemon, home, "ends")
            daemon.signal(signal.SIGKILL)
            await daemon.logs("stopping")
            await daemon.logs("stopping")
            assert home.folder.is_held()  # so that no other daemon can start with this state folder
            play.go.set()
        assert stream.error is None
    for orphan in orphans:
        await asyncio.to_thread(orphan.wait, 10)
    assert not home.folder.is_held()


@pytest.mark.parametrize(
    ("streams", "pace"), [(20, 20), pytest.param(200, 50, marks=[pytest.mark.slow, pytest.mark.timeout(240)])]
)
async def test_a_rolling_restart_of_the_workers_refuses_no_request(
    home: Home, http: aiohttp.ClientSession, streams: int, pace: float
) -> None:
    """All new requests are answered, and only answers that last longer than the drain are cut off."""
    play = home.arena.script = Play(pace=0.25)
    prompts = [f"{'stuck' if number % 4 == 0 else 'ends'}-{number}-" for number in range(streams)]
    home.configure({"server": {"drain_seconds": DRAIN_SECONDS}, "limits": {"concurrency": 10_000}})
    async with serving(home) as daemon, asyncio.TaskGroup() as calls:
        before = children(daemon)
        callers = await begin(calls, http, daemon, home, *prompts)
        assert min(connections(daemon)) >= streams / 20  # about half of them on an idle machine
        new_callers = NewCallers(home, daemon, pace)
        coming = calls.create_task(new_callers.come())
        daemon.signal(signal.SIGUSR1)
        await daemon.logs("stopping", START_SECONDS)
        await asyncio.sleep(DRAIN_SECONDS / 2)
        play.go.set()
        await daemon.logs("all workers have been restarted", 2 * START_SECONDS)
        new_callers.over.set()
        await asyncio.wait_for(coming, 20)
        assert len(children(daemon)) == len(before)
        assert not {*children(daemon)} & {*before}
    assert set(new_callers.outcomes) == {200}
    for caller in callers:
        if caller.prompt.startswith("ends"):
            assert caller.error is None
            assert caller.texts == play.said[caller.prompt]
        else:
            assert caller.error is not None
            assert caller.error["code"] == "overloaded"


def children(daemon: DaemonProcess) -> list[int]:
    return [child.pid for child in psutil.Process(daemon.process.pid).children()]


def connections(daemon: DaemonProcess) -> list[int]:
    """The number of connections of each worker."""
    port = URL(daemon.origin).port
    return [
        sum(each.status == psutil.CONN_ESTABLISHED and each.laddr.port == port for each in child.net_connections("tcp"))
        for child in psutil.Process(daemon.process.pid).children()
    ]


async def all_serve(http: aiohttp.ClientSession, daemon: DaemonProcess, home: Home) -> None:
    for _ in range(REQUESTS):
        async with await post(http, daemon, home, f"brief-{uuid4()}") as response:
            assert response.status == 200
            await response.read()


async def health_of(http: aiohttp.ClientSession, daemon: DaemonProcess) -> dict[str, Any]:
    """The health as one worker reports it; a worker that has just started may not have the list of models yet."""
    async with http.get(f"{daemon.origin}/health") as response:
        health: dict[str, Any] = await response.json()
        return health


async def all_are_well(http: aiohttp.ClientSession, daemon: DaemonProcess) -> None:
    """Wait until five reports of the health in a row say that both workers are well."""
    in_a_row = 0
    async with asyncio.timeout(START_SECONDS):
        while in_a_row < 5:
            health = await health_of(http, daemon)
            rows = sorted(row["worker"] for row in health["workers"])
            in_a_row = in_a_row + 1 if (health["status"], rows) == ("ok", [1, 2]) else 0
            await asyncio.sleep(0.02)


async def counts_are_of_all(http: aiohttp.ClientSession, daemon: DaemonProcess, requests: int) -> None:
    """Check that the metrics show the sum of all workers, whichever of them answers."""
    for _ in range(3):
        async with http.get(f"{daemon.origin}/metrics") as response:
            assert response.status == 200
            lines = (await response.text()).splitlines()
        assert f'lmarena_bridge_requests_total{{status="200"}} {requests}.0' in lines
