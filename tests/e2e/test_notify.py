"""The daemon's notifications to the service manager, sd_notify(3), received by the tests instead of systemd."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest
from process import READY, START_SECONDS, Home
from service_manager import Manager, listening
from streams import Play, begin

from bridge.tasks import TaskOwner
from handlers.daemon.notify import Notifier, feed_watchdog

#: The environment that systemd sets for WatchdogSec=0.4.
WATCHED = {"WATCHDOG_USEC": "400000"}
HELD_SECONDS = 2.0

#: Serves like `python -m bridge`, but SIGUSR2 blocks its event loop for a while, as a bug might.
_HELD = f"""
import signal, time
from handlers.commands.main import main
signal.signal(signal.SIGUSR2, lambda *_: time.sleep({HELD_SECONDS}))
main()
"""


@pytest.fixture
async def manager(tmp_path: Path) -> AsyncIterator[Manager]:
    async with listening(str(tmp_path / "notify")) as manager:
        yield manager


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as http:
        yield http


# --- states ---


@pytest.mark.parametrize("kind", ["path", "abstract"])
async def test_the_port_answers_once_readiness_is_notified(
    home: Home, http: aiohttp.ClientSession, tmp_path: Path, kind: str
) -> None:
    address = str(tmp_path / "socket") if kind == "path" else f"@{uuid4().hex}"
    async with listening(address) as manager, home.launch(environ=manager.environ) as daemon:
        await manager.hears("READY=1", START_SECONDS)
        origin = (await daemon.logs(READY)).partition(READY)[2].removesuffix("/v1")
        async with http.get(f"{origin}/v1/models", headers=home.headers) as response:
            assert response.status == 200


async def test_a_daemon_that_cannot_start_never_notifies_readiness(home: Home, manager: Manager) -> None:
    (home.folder.path / "keys.json").write_text("{")
    async with home.launch(environ=manager.environ) as daemon:
        assert await daemon.ends(START_SECONDS) == 78
    assert "READY=1" not in manager.heard()


@pytest.mark.parametrize("file", ["good", "broken"])
async def test_the_begin_and_the_end_of_a_reload_are_notified(home: Home, manager: Manager, file: str) -> None:
    async with home.serve(environ=manager.environ) as daemon:
        await manager.hears("READY=1")
        if file == "broken":
            home.config.write_text("[server\n")
        before = time.monotonic_ns() // 1000
        daemon.signal(signal.SIGHUP)
        state, _, since = (await manager.hears("RELOADING=1")).partition("\nMONOTONIC_USEC=")
        await manager.hears("READY=1")
        assert state == "RELOADING=1"
        assert before <= int(since) <= time.monotonic_ns() // 1000


async def test_a_stop_is_notified_when_the_drain_begins(
    home: Home, manager: Manager, http: aiohttp.ClientSession
) -> None:
    home.arena.script = Play()
    async with home.serve(environ={**manager.environ, **WATCHED}) as daemon:
        async with asyncio.TaskGroup() as tasks:
            await begin(tasks, http, daemon, home, "stuck")
            await manager.hears("READY=1")
            daemon.signal(signal.SIGTERM)
            await manager.hears("STOPPING=1")
            await manager.hears("STATUS=draining; ")
            await manager.hears("WATCHDOG=1")  # the event loop keeps running until the end
            assert daemon.process.returncode is None
            daemon.signal(signal.SIGTERM)
        assert await daemon.ends() == 0


async def test_the_notified_status_follows_the_number_of_running_answers(
    home: Home, manager: Manager, http: aiohttp.ClientSession
) -> None:
    play = home.arena.script = Play()
    async with home.serve(environ=manager.environ) as daemon:
        assert await manager.hears("STATUS=") == "STATUS=accounts usable: 1 of 1; answers running: 0"
        async with asyncio.TaskGroup() as tasks:
            await begin(tasks, http, daemon, home, "ends-1", "ends-2")
            await manager.hears("STATUS=accounts usable: 1 of 1; answers running: 2")
            play.go.set()


# --- watchdog ---


async def test_a_blocked_event_loop_sends_no_watchdog_messages(home: Home, manager: Manager) -> None:
    async with home.serve(program=(sys.executable, "-c", _HELD), environ={**manager.environ, **WATCHED}) as daemon:
        await manager.hears("WATCHDOG=1")
        daemon.signal(signal.SIGUSR2)
        async with asyncio.timeout(10):
            silence = 0.0
            while silence < HELD_SECONDS / 2:
                before = time.monotonic()
                await manager.hears("WATCHDOG=1")
                silence = time.monotonic() - before
        await manager.hears("WATCHDOG=1")


async def test_a_failed_task_ends_the_watchdog_messages(manager: Manager, caplog: pytest.LogCaptureFixture) -> None:
    fail = asyncio.Event()

    async def work() -> None:
        await fail.wait()
        raise LookupError

    async with TaskOwner() as tasks:
        tasks.spawn(asyncio.Event().wait(), name="sound")
        tasks.spawn(work(), name="save state")
        feeding = tasks.spawn(feed_watchdog(Notifier(manager.address, 0.02), tuple(tasks)), name="watchdog")
        await manager.hears("WATCHDOG=1")
        await manager.hears("WATCHDOG=1")
        fail.set()
        await asyncio.wait_for(feeding, 5)
    assert "the service manager's watchdog gets no more messages: save state has failed" in caplog.text


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, Notifier()),
        ({"NOTIFY_SOCKET": "/run/notify"}, Notifier("/run/notify")),
        ({"NOTIFY_SOCKET": "@notify", "WATCHDOG_USEC": "30000000"}, Notifier("@notify", 30.0)),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, Notifier("", 30.0)),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, Notifier()),
        ({"WATCHDOG_USEC": "0"}, Notifier()),
        ({"WATCHDOG_USEC": "soon"}, Notifier()),
    ],
    ids=["nothing", "a path", "an abstract name", "our watchdog", "another's watchdog", "no time", "no number"],
)
def test_a_notifier_is_read_from_the_environment_and_its_variables_are_removed(
    environ: dict[str, str], expected: Notifier
) -> None:
    given = {**environ, "HOME": "/"}
    assert Notifier.inherited(given) == expected
    assert given == {"HOME": "/"}


# --- managers that do not listen ---


async def test_the_daemon_serves_when_the_service_manager_is_unreachable(
    home: Home, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    async with home.serve(environ={"NOTIFY_SOCKET": str(tmp_path / "nobody")}) as daemon:
        await daemon.logs("the service manager cannot be notified of READY: ")
        async with http.get(f"{daemon.origin}/v1/models", headers=home.headers) as response:
            assert response.status == 200


def test_a_service_manager_that_does_not_read_blocks_the_daemon_only_briefly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(tmp_path / "deaf"))
        notifier = Notifier(str(tmp_path / "deaf"))
        began = time.monotonic()
        while not caplog.records:  # until the socket's buffer is full
            began = time.monotonic()
            notifier.alive()
        assert time.monotonic() - began < 10
    assert "the service manager cannot be notified of WATCHDOG: timed out" in caplog.text
