"""The memory of TLS connections that the daemon terminates itself: streams, and handshakes that stall."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from certificates import server_context
from polling import until
from running import running_bridge
from tls_memory import END_BYTES, tls_memory

from upstream.arena import Arena, Line, Step, Turn, Until
from upstream.http.tls_buffers import BUFFER_BYTES

CONNECTIONS = 8
#: The beginning of a handshake that never continues.
CLIENT_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"


async def test_the_tls_memory_of_open_streams_is_bounded(arena: Arena, tmp_path: Path) -> None:
    async def script(_: Turn) -> AsyncIterator[Step]:
        yield Line("a0", "one")
        yield Until(asyncio.Event())

    arena.script = script
    async with running_bridge(arena, tmp_path / "state", tls=server_context(tmp_path)) as bridge:
        with tls_memory() as allocated:
            answers = [await bridge.post(bridge.chat("hi", stream=True)) for _ in range(CONNECTIONS)]
            for answer in answers:
                await answer.content.readline()
            both = 2 * CONNECTIONS  # this process has the callers' ends too
            assert both * BUFFER_BYTES / 2 < allocated() <= both * END_BYTES
        for answer in answers:
            answer.close()


async def test_the_tls_memory_of_stalled_handshakes_is_bounded(arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(arena, tmp_path / "state", tls=server_context(tmp_path)) as bridge:
        port = int(bridge.origin.rpartition(":")[2])
        with tls_memory() as allocated:
            writers = []
            for _ in range(CONNECTIONS):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(CLIENT_HELLO)
                writers.append(writer)
            await until(lambda: allocated() >= CONNECTIONS * BUFFER_BYTES, within=10)  # the handshakes have begun
            assert allocated() <= CONNECTIONS * END_BYTES
        for writer in writers:
            writer.close()
