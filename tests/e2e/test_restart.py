"""A restart under load with socket activation: the listening socket stays open from one daemon to the next."""

from __future__ import annotations

import asyncio
import signal
import socket
from pathlib import Path

import aiohttp
import pytest
from process import Home
from streams import NewCallers, Play, begin

from handlers.daemon.accepting import BACKLOG
from upstream.arena import Arena

STREAMS = 200
#: Requests per second, each on a new connection.
REQUESTS = 50
DRAIN_SECONDS = 4.0
#: How long requests are sent before and after the restart, in seconds.
BESIDE_SECONDS = 1.0


@pytest.fixture
async def home(arena: Arena, tmp_path: Path) -> Home:
    home = Home(arena, tmp_path)
    await home.prepare()
    home.configure({"server": {"drain_seconds": DRAIN_SECONDS}, "limits": {"concurrency": 10_000}})
    return home


async def test_a_restart_under_load_refuses_no_request_and_cuts_only_streams_longer_than_the_drain(
    home: Home, http: aiohttp.ClientSession
) -> None:
    play = home.arena.script = Play(pace=0.25)
    prompts = [f"{'stuck' if number % 4 == 0 else 'ends'}-{number}-" for number in range(STREAMS)]
    with socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as held:
        async with asyncio.TaskGroup() as calls:
            async with home.serve(held) as old:
                streams = await begin(calls, http, old, home, *prompts)
                new_callers = NewCallers(home, old, REQUESTS)
                coming = calls.create_task(new_callers.come())
                await asyncio.sleep(BESIDE_SECONDS)
                old.signal(signal.SIGTERM)
                await asyncio.sleep(DRAIN_SECONDS / 2)
                play.go.set()
                assert await old.ends() == 0
            async with home.serve(held):
                await asyncio.sleep(BESIDE_SECONDS)
                new_callers.over.set()
                await asyncio.wait_for(coming, 20)
    assert set(new_callers.outcomes) == {200}
    assert new_callers.outcomes[200] > REQUESTS * DRAIN_SECONDS
    for stream in streams:
        if stream.prompt.startswith("ends"):
            assert stream.error is None
            assert stream.texts == play.said[stream.prompt]
        else:
            assert stream.error is not None
            assert stream.error["code"] == "overloaded"
            assert stream.texts == play.said[stream.prompt][: len(stream.texts)]
