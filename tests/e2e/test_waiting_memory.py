"""The memory that a request costs the daemon while it waits for a slot."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import psutil
import pytest
from process import DaemonProcess, Home

from upstream.arena import Arena, Line, Step, Turn, Until

pytestmark = pytest.mark.slow

WAITING = 1_000
KIB = 1024


def stays(_: Turn) -> Iterator[Step]:
    """An answer that begins and never ends."""
    yield Line("a0", "stay")
    yield Until(asyncio.Event())


async def test_each_of_a_thousand_waiting_requests_takes_less_than_8_kib_of_memory(
    arena: Arena, tmp_path: Path
) -> None:
    """The limit is for the memory beyond that of a request being received: its connection, its head, and its task."""
    arena.script = stays
    received = await cost(arena, tmp_path / "received", waits=False)
    waiting = await cost(arena, tmp_path / "waiting", waits=True)
    assert waiting - received < 8 * KIB, (waiting, received)
    assert waiting < 28 * KIB, waiting  # the cost of a stream


async def cost(arena: Arena, path: Path, *, waits: bool) -> float:
    """The daemon's memory per request, in bytes, for many requests that wait for a slot or for their bodies."""
    await asyncio.to_thread(path.mkdir)
    home = Home(arena, path)
    await home.prepare()
    limits = {"queue_seconds": 600, "concurrency": 1} if waits else {"concurrency": WAITING + 1}
    home.configure({"limits": {"join_repeats": False, **limits}, "server": {"body_timeout": 600, "open_metrics": True}})
    async with home.serve() as daemon, aiohttp.ClientSession(daemon.origin, headers=home.headers) as http:
        models = await (await http.get("/v1/models")).json()
        model = next(each["id"] for each in models["data"] if each["modality"] == "chat")
        chat = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": True}
        running = await http.post("/v1/chat/completions", json=chat)
        await running.content.readuntil(b"stay")
        before = resident(daemon)
        body = json.dumps(chat).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: bridge\r\nAuthorization: Bearer {home.secret}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
        )
        callers = []
        for _ in range(WAITING):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(daemon.origin.rpartition(":")[2]))
            callers.append(writer)
            writer.write(head.encode())
            assert b"100" in await reader.readuntil(b"\r\n\r\n")  # the handler waits for the body
        if waits:
            for writer in callers:
                writer.write(body)
            async with asyncio.timeout(60):
                while f"lmarena_bridge_requests_waiting {WAITING}.0" not in await (await http.get("/metrics")).text():
                    pass
        used = resident(daemon) - before
        for writer in callers:
            writer.transport.abort()
        return used / WAITING


def resident(daemon: DaemonProcess) -> int:
    return int(psutil.Process(daemon.process.pid).memory_info().rss)
