"""The shutdown of the daemon: the drain, a second signal, and probes and connections during the drain."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import aiohttp
import pytest
from caller import calling
from process import Home
from streams import Play, begin, post

from bridge.state.conversations import conversations_document
from upstream.arena import Line, Step, Turn, Until

STREAMS = 50

#: How long a shutdown may take beyond the drain, in seconds, on a busy machine.
SLACK = 5.0


async def test_sigterm_lets_streams_finish_and_cuts_the_others_after_the_drain(
    home: Home, http: aiohttp.ClientSession
) -> None:
    play = home.arena.script = Play()
    home.configure({"server": {"drain_seconds": 2}})
    prompts = [f"{'stuck' if number % 2 else 'ends'}-{number}-" for number in range(STREAMS)]
    async with home.serve() as daemon:
        async with asyncio.TaskGroup() as tasks:
            callers = await begin(tasks, http, daemon, home, *prompts)
            began = time.monotonic()
            daemon.signal(signal.SIGTERM)
            await daemon.logs(f"running answers ({STREAMS}) have 2 s to finish")
            play.go.set()
        assert await daemon.ends() == 0
        assert 2 <= time.monotonic() - began <= 2 + SLACK
    for caller in callers:
        if caller.prompt.startswith("ends"):
            assert caller.error is None
            assert caller.texts == play.said[caller.prompt]
        else:
            assert caller.error is not None
            assert caller.error["code"] == "overloaded"
            assert caller.texts == play.said[caller.prompt][: len(caller.texts)]
    assert (await conversations_document(home.folder).load()).clean


async def test_a_drain_ends_when_the_last_stream_has_ended(home: Home, http: aiohttp.ClientSession) -> None:
    play = home.arena.script = Play()
    async with home.serve() as daemon:
        async with asyncio.TaskGroup() as tasks:
            await begin(tasks, http, daemon, home, "ends")
            daemon.signal(signal.SIGTERM)
            await daemon.logs("stopping")
            play.go.set()
        assert await daemon.ends(SLACK) == 0


async def test_a_draining_daemon_closes_idle_connections_and_refuses_new_ones(
    home: Home, http: aiohttp.ClientSession
) -> None:
    home.arena.script = Play()
    async with home.serve() as daemon, asyncio.TaskGroup() as tasks:
        await begin(tasks, http, daemon, home, "stuck")
        async with http.get(f"{daemon.origin}/v1/models", headers=home.headers) as response:
            assert response.status == 200
            await response.read()  # the connection stays open
        daemon.signal(signal.SIGTERM)
        await daemon.logs("stopping")
        with pytest.raises(aiohttp.ClientConnectorError):  # the connection was closed, and new ones are refused
            await http.get(f"{daemon.origin}/v1/models", headers=home.headers)
        daemon.signal(signal.SIGTERM)


async def test_a_draining_daemon_stops_being_ready_early_in_the_drain(home: Home, http: aiohttp.ClientSession) -> None:
    home.arena.script = Play()

    async def ready() -> bool:
        try:
            async with http.get(f"{daemon.origin}/readyz") as response:
                return response.status == 200
        except aiohttp.ClientConnectionError:
            return False

    async with home.serve() as daemon, asyncio.TaskGroup() as tasks:
        await begin(tasks, http, daemon, home, "stuck")
        assert await ready()
        last_ready = told = time.monotonic()
        daemon.signal(signal.SIGTERM)
        while asked := time.monotonic():
            if not await ready():
                break
            last_ready = asked
        assert last_ready - told < 5  # the drain would take four times as long
        daemon.signal(signal.SIGTERM)


async def test_a_readiness_probe_during_a_drain_never_succeeds_over_any_connection(
    home: Home, http: aiohttp.ClientSession
) -> None:
    """New connections are refused, idle ones are closed, and an open one without a request yet gets a 503."""
    home.arena.script = Play()
    request = b"GET /readyz HTTP/1.1\r\nHost: here\r\n\r\n"
    async with home.serve() as daemon, asyncio.TaskGroup() as tasks:
        await begin(tasks, http, daemon, home, "stuck")
        async with calling(daemon.origin, home.secret) as silent, calling(daemon.origin, home.secret) as idle:
            idle.writer.write(request)
            assert b" 200 " in await idle.sees(b"ok\n")
            daemon.signal(signal.SIGTERM)
            await daemon.logs("stopping")
            assert await idle.reader.read() == b""
            silent.writer.write(request)
            assert (await silent.reader.read()).startswith(b"HTTP/1.1 503 ")
            with pytest.raises(ConnectionRefusedError):
                async with calling(daemon.origin, home.secret):
                    pass
        daemon.signal(signal.SIGTERM)


@pytest.mark.parametrize("late", [False, True], ids=["at once", "late"])
async def test_a_connection_opened_before_sigterm_gets_an_answer_only_to_an_early_request(
    home: Home, http: aiohttp.ClientSession, *, late: bool
) -> None:
    home.arena.script = Play()
    request = f"GET /v1/models HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {home.secret}\r\n\r\n"
    async with home.serve() as daemon, asyncio.TaskGroup() as tasks:
        await begin(tasks, http, daemon, home, "stuck")
        async with calling(daemon.origin, home.secret) as caller:
            async with http.get(f"{daemon.origin}/health") as response:
                assert response.status == 200  # so the caller's earlier connection has been accepted
            daemon.signal(signal.SIGTERM)
            if late:
                await daemon.logs("stopping")
            caller.writer.write(request.encode())
            head, _, body = (await caller.reader.read()).partition(b"\r\n\r\n")
            daemon.signal(signal.SIGTERM)
    if late:
        assert head.startswith(b"HTTP/1.1 503 ")
        assert {b"Connection: close", b"Retry-After: 1"} <= set(head.split(b"\r\n"))
        assert b"x-should-retry" not in head
        assert json.loads(body)["error"]["code"] == "overloaded"
    else:
        assert head.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_the_drain(home: Home, http: aiohttp.ClientSession, second: signal.Signals) -> None:
    home.arena.script = Play()
    async with home.serve() as daemon:
        async with asyncio.TaskGroup() as tasks:
            (caller,) = await begin(tasks, http, daemon, home, "stuck")
            daemon.signal(signal.SIGINT)
            await daemon.logs("stopping")
            daemon.signal(second)
        assert await daemon.ends(SLACK) == 0
    assert caller.error is not None
    assert caller.error["code"] == "overloaded"


async def test_answers_that_are_not_streamed_get_a_503_when_the_drain_ends(
    home: Home, http: aiohttp.ClientSession
) -> None:
    asked = asyncio.Event()

    async def script(_: Turn) -> AsyncIterator[Step]:
        yield Line("a0", "half an answer")
        asked.set()
        yield Until(asyncio.Event())

    home.arena.script = script
    home.configure({"server": {"drain_seconds": 0.3}})
    async with home.serve() as daemon:
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(post(http, daemon, home, "whole"))
            await asked.wait()
            daemon.signal(signal.SIGTERM)
        async with call.result() as response:
            assert response.status == 503
            assert response.headers["Retry-After"] == "1"
            assert (await response.json())["error"]["code"] == "overloaded"
        assert await daemon.ends(SLACK) == 0


async def test_an_idle_daemon_ends_within_a_second(home: Home) -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: here\r\n"
    key = f"Authorization: Bearer {home.secret}\r\n".encode()
    idle = {
        "never sent a byte": b"",
        "half a head": head,
        "half a body": head + key + b"Content-Length: 100\r\n\r\n{",
        "kept alive": b"GET /health HTTP/1.1\r\nHost: here\r\n\r\n",
    }
    async with home.serve() as daemon, AsyncExitStack() as stack:
        host, _, port = daemon.origin.removeprefix("http://").partition(":")
        readers = {}
        for name, sent in idle.items():
            readers[name], writer = await asyncio.open_connection(host, int(port))
            stack.push_async_callback(writer.wait_closed)
            stack.callback(writer.close)
            writer.write(sent)
        assert b"\r\n\r\n" in await readers["kept alive"].readuntil(b"\r\n\r\n")  # the others were accepted earlier
        status, seconds = await daemon.stop()
        assert status == 0
        assert seconds < 10, "neither the drain nor any other timeout was waited for: it takes half a second"
        answers = {name: await reader.read() for name, reader in readers.items()}
    assert answers["never sent a byte"] == answers["half a head"] == b""
    assert answers["half a body"].startswith(b"HTTP/1.1 503 ")
