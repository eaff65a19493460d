"""Callers that read slowly cost no memory; callers that do not read at all are cut off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil
import pytest
from aiohttp import web
from caller import Caller, calling
from process import Home
from request_log import RequestLog
from running import Overrides, running_bridge

from handlers.daemon.listening import listen
from handlers.daemon.sockets import open_sockets
from handlers.request.aiohttp_internals import CallerResponse
from handlers.request.writing import CallerWriter
from upstream.arena import Arena, Line, Step, Turn

MEGABYTE = 1_000_000
#: A delta of a character that occurs nowhere else in a stream.
DELTA = "~" * 4000
#: The caller's receive buffer: small, so that the bridge soon notices when an answer is not read.
RECEIVE_BYTES = 4096


def speaking(size: int) -> Iterator[Step]:
    """An answer of `size` characters."""
    for _ in range(size // len(DELTA)):
        yield Line("a0", DELTA)
    yield Line("ad", {"finishReason": "stop"})


def chat(*, stream: bool) -> dict[str, object]:
    """A request that the arena's script answers."""
    return {"model": "glm-5.2", "messages": [{"role": "user", "content": "speak"}], "stream": stream}


@dataclass(frozen=True)
class Daemon:
    """A daemon in a separate process, so that its memory can be measured."""

    origin: str
    key: str
    process: psutil.Process

    @property
    def memory_bytes(self) -> int:
        """Its resident memory."""
        return self.process.memory_info().rss


@asynccontextmanager
async def running_daemon(arena: Arena, path: Path, overrides: Overrides | None = None) -> AsyncIterator[Daemon]:
    """A daemon that has read its models and waits for calls."""
    home = Home(arena, path)
    await home.prepare()
    home.configure(overrides)
    async with home.serve() as daemon:
        async with (
            aiohttp.ClientSession(headers=home.headers) as http,
            http.get(f"{daemon.origin}/v1/models") as response,
        ):
            assert response.status == 200
        yield Daemon(daemon.origin, home.secret, psutil.Process(daemon.process.pid))


async def test_a_caller_that_reads_slowly_does_not_grow_the_memory(arena: Arena, tmp_path: Path) -> None:
    """An answer of 40 MB is read at 4 MB/s, and the daemon never holds much of it."""
    size, per_second = 40 * MEGABYTE, 4 * MEGABYTE
    arena.script = lambda _: speaking(size)
    async with (
        running_daemon(arena, tmp_path) as daemon,
        calling(daemon.origin, daemon.key, receive_bytes=RECEIVE_BYTES) as caller,
    ):
        idle = peak = daemon.memory_bytes
        await caller.ask(chat(stream=True))
        clock = asyncio.get_running_loop().time
        began, read, tail = clock(), 0, b""
        while not tail.endswith(b"\r\n0\r\n\r\n"):
            data = await caller.reader.read(MEGABYTE)
            assert data, "the answer has no end"
            read += data.count(b"~")
            tail = (tail + data)[-100:]
            peak = max(peak, daemon.memory_bytes)
            await asyncio.sleep(began + read / per_second - clock())
        took = clock() - began
    assert read == size
    assert b"data: [DONE]\n\n" in tail
    assert took >= size / per_second
    assert peak - idle < 60 * MEGABYTE


async def test_callers_that_never_read_do_not_grow_the_memory(arena: Arena, tmp_path: Path) -> None:
    callers = 20
    all_ask = asyncio.Event()

    def endless(_: Turn) -> Iterator[Step]:
        if len(arena.evaluations) == callers:
            all_ask.set()
        while True:
            yield Line("a0", DELTA)

    arena.script = endless
    settings: Overrides = {"server": {"write_timeout": 1.0}, "limits": {"join_repeats": False}}
    async with running_daemon(arena, tmp_path, settings) as daemon, AsyncExitStack() as stack:
        idle = peak = daemon.memory_bytes
        for _ in range(callers):
            caller = await stack.enter_async_context(calling(daemon.origin, daemon.key, receive_bytes=RECEIVE_BYTES))
            await caller.ask(chat(stream=True))
        async with asyncio.timeout(30):
            await all_ask.wait()
            cut_off = asyncio.gather(*(call.closed.wait() for call in arena.calls if call.kind == "create"))
            while not cut_off.done():
                peak = max(peak, daemon.memory_bytes)
                await asyncio.sleep(0.02)
    assert peak - idle < 25 * MEGABYTE


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_a_caller_that_never_reads_is_cut_off(
    arena: Arena, tmp_path: Path, request_log: RequestLog, stream: bool
) -> None:
    """It takes longer than `write_timeout`, which counts from the last progress: the kernel buffers the first part."""
    arena.script = lambda _: speaking(12 * MEGABYTE)
    async with (
        running_bridge(arena, tmp_path, {"server": {"write_timeout": 0.2}}) as bridge,
        calling(bridge.origin, bridge.key, receive_bytes=RECEIVE_BYTES) as caller,
    ):
        await caller.ask(chat(stream=stream))
        line = await request_log.line(within=15)
        assert (line["status"], line["reason"]) == (499, "client_gone")
        assert bridge.calls_held == 0
        assert not await reads_to_the_end(caller)


async def test_a_caller_that_does_not_read_the_end_of_a_body_is_cut_off() -> None:
    """All data has been written, so that only writing the end of the body can show that the caller does not read."""
    ended = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = CallerResponse()
        writer = CallerWriter(request, response, write_timeout=0.2)
        await writer.prepare()
        assert request.transport is not None
        request.transport.write(b"~" * 12 * MEGABYTE)
        try:
            await writer.write_eof()
        finally:
            ended.set()
        return response

    app = web.Application()
    app.router.add_post("/v1/chat/completions", handler)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        sockets = open_sockets("127.0.0.1", 0)
        [server] = await listen(runner, sockets, None)
        async with calling(
            f"http://127.0.0.1:{sockets[0].getsockname()[1]}", "", receive_bytes=RECEIVE_BYTES
        ) as caller:
            await caller.ask({})
            await asyncio.wait_for(ended.wait(), 10)
            assert not await reads_to_the_end(caller)
        server.close()
    finally:
        await runner.cleanup()


async def reads_to_the_end(caller: Caller) -> bool:
    """Whether the rest of the answer has the end of a body, rather than being cut off."""
    try:
        return (await caller.reader.read(-1)).endswith((b"0\r\n\r\n", b"}"))
    except ConnectionResetError:
        return False
