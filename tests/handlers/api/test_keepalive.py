"""Waiting for upstream: nothing is sent at first, then keep-alives, and after them the true outcome."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import pytest
from frames import DONE, frames
from running import RunningBridge, running_bridge

from upstream.arena import Arena, Line, Step, Until

#: How long a stream is silent here before it sends a keep-alive, in seconds.
SECONDS = 0.1

COMMENT = b": keep-alive\n\n"
STOP = Line("ad", {"finishReason": "stop"})
FAILED = Line("a3", "The model is tired")


class Running(Protocol):
    """A function that runs a bridge with keep-alives of the given kind."""

    def __call__(self, kind: str = "comment") -> AbstractAsyncContextManager[RunningBridge]: ...


@pytest.fixture
def running(arena: Arena, tmp_path: Path) -> Running:
    """A function that runs a bridge with frequent keep-alives."""
    return lambda kind="comment": running_bridge(
        arena, tmp_path, {"stream": {"keepalive": kind, "keepalive_seconds": SECONDS}}
    )


def playing(arena: Arena, *attempts: tuple[Step, ...]) -> None:
    """Let the arena answer each call with the next of these attempts."""
    left: Iterator[tuple[Step, ...]] = iter(attempts)
    arena.script = lambda _: next(left)


async def event(response: aiohttp.ClientResponse) -> bytes:
    """The next event or comment of a stream."""
    async with asyncio.timeout(10):
        return await response.content.readuntil(b"\n\n")


def deltas(body: bytes) -> list[dict[str, Any]]:
    """The deltas of all chunks; errors and `[DONE]` are left out."""
    chunks = [json.loads(data) for data in frames(body) if data != DONE]
    return [chunk["choices"][0]["delta"] for chunk in chunks if "choices" in chunk]


HELLO = [{"role": "assistant", "content": ""}, {"content": "hello"}, {}]


async def test_a_slow_stream_begins_with_keepalive_comments_after_a_silent_wait(running: Running, arena: Arena) -> None:
    say = asyncio.Event()
    playing(arena, (Until(say), Line("a0", "hello"), STOP))
    async with running() as bridge:
        began = asyncio.get_running_loop().time()
        async with await bridge.post(bridge.chat("hi", stream=True)) as response:
            assert asyncio.get_running_loop().time() - began >= SECONDS
            assert response.status == 200
            assert [await event(response) for _ in range(3)] == [COMMENT] * 3
            say.set()
            body = await response.read()
    assert deltas(body) == HELLO
    assert body.endswith(b"data: [DONE]\n\n")


async def test_an_answer_within_the_keepalive_interval_has_no_keepalive(bridge: RunningBridge, arena: Arena) -> None:
    playing(arena, (Line("a0", "hello"), STOP))
    async with await bridge.post(bridge.chat("hi", stream=True)) as response:
        body = await response.read()
    assert COMMENT not in body
    assert deltas(body) == HELLO


async def test_an_error_within_the_keepalive_interval_has_its_true_status(bridge: RunningBridge, arena: Arena) -> None:
    arena.faults.arm("challenge")
    async with await bridge.post(bridge.chat("hi", stream=True)) as response:
        assert response.status == 503
        assert response.headers["x-bridge-reason"] == "challenge"
        assert (await response.json())["error"]["code"] == "upstream_challenge"


async def test_upstream_calls_are_retried_after_keepalives_were_sent(running: Running, arena: Arena) -> None:
    fail = asyncio.Event()
    playing(arena, (Until(fail), FAILED), (Line("a0", "hello"), STOP))
    async with running() as bridge, await bridge.post(bridge.chat("hi", stream=True)) as response:
        assert await event(response) == COMMENT
        fail.set()
        body = await response.read()
    assert deltas(body) == HELLO
    assert frames(body)[-1] == DONE
    assert len([call for call in arena.calls if call.kind == "create"]) == 2


@pytest.mark.parametrize("kind", ["comment", "chunk"])
async def test_an_error_after_keepalives_is_the_last_event(running: Running, arena: Arena, kind: str) -> None:
    fail = asyncio.Event()
    playing(arena, (Until(fail), FAILED), (FAILED,))
    async with running(kind) as bridge, await bridge.post(bridge.chat("hi", stream=True)) as response:
        await event(response)
        fail.set()
        body = await response.read()  # it ends properly: otherwise aiohttp would raise
    *_, last = frames(body)
    error = json.loads(last)["error"]
    assert (error["code"], error["reason"]) == ("upstream_error", "upstream_error")
    assert "The model is tired" in error["message"]
    assert all(delta == {"content": ""} for delta in deltas(body))


@pytest.mark.parametrize("kind", ["comment", "chunk"])
async def test_keepalives_fill_a_pause_in_the_answer(running: Running, arena: Arena, kind: str) -> None:
    go_on = asyncio.Event()
    playing(arena, (Line("a0", "hel"), Until(go_on), Line("a0", "lo"), STOP))
    async with running(kind) as bridge, await bridge.post(bridge.chat("hi", stream=True)) as response:
        while deltas(await event(response)) != [{"content": "hel"}]:  # a slow start may have keep-alives too
            pass
        for _ in range(2):
            alive = await event(response)
            assert alive == COMMENT if kind == "comment" else deltas(alive) == [{"content": ""}]
        go_on.set()
        body = await response.read()
    assert [delta for delta in deltas(body) if delta != {"content": ""}] == [{"content": "lo"}, {}]
    assert frames(body)[-1] == DONE


async def test_keepalive_chunks_follow_the_chunk_with_the_role(running: Running, arena: Arena) -> None:
    """The first keep-alive is the answer's own first chunk, so that the role comes first and only once."""
    say = asyncio.Event()
    playing(arena, (Until(say), Line("a0", "hello"), STOP))
    async with running("chunk") as bridge, await bridge.post(bridge.chat("hi", stream=True)) as response:
        body = b"".join([await event(response) for _ in range(3)])
        say.set()
        body += await response.read()
    first, *rest = deltas(body)
    assert first == HELLO[0]
    assert rest[:2] == [{"content": ""}] * 2
    assert [delta for delta in rest if delta != {"content": ""}] == HELLO[1:]
    assert len({(chunk["id"], chunk["created"]) for chunk in map(json.loads, frames(body)[:-1])}) == 1


async def test_a_stream_with_keepalives_off_sends_nothing_before_the_outcome(running: Running, arena: Arena) -> None:
    """Not even the status is sent, so that an error after the wait still has its own."""
    fail = asyncio.Event()
    playing(arena, (Until(fail), FAILED), (FAILED,))
    async with running("off") as bridge:
        asking = asyncio.gather(bridge.post(bridge.chat("hi", stream=True)))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(asking), 3 * SECONDS)
        fail.set()
        [response] = await asking
        async with response:
            assert response.status == 502
