"""Many callers disconnect at random moments, and the bridge releases everything that it held for them."""

from __future__ import annotations

import asyncio
import gc
import pathlib
import random
import tracemalloc
from collections.abc import AsyncIterator

import pytest
from caller import calling
from peer import pool_of
from running import RunningBridge, running_bridge

from handlers.request.appkeys import ACTIVITY_STORE, CLIENT, DRAIN, MODELS, TASKS
from upstream.arena import Arena, Line, Pause, Step, Turn

AT_A_TIME = 50
#: Bytes that may remain per caller: the bridge should leave none, but allocators and library caches fluctuate.
BYTES_EACH = 1024


@pytest.fixture
async def bridge(arena: Arena, tmp_path: pathlib.Path) -> AsyncIterator[RunningBridge]:
    """A bridge whose answers end when their callers disconnect."""
    async with running_bridge(arena, tmp_path, {"limits": {"join_repeats": False}}) as bridge:
        yield bridge


async def endless(turn: Turn) -> AsyncIterator[Step]:
    """Play an answer that ends only when its caller disconnects."""
    if turn.prompt == "hello":
        yield Line("ad", {"finishReason": "length"})
        return
    yield Pause(0.01)
    while True:
        yield Line("a0", "on and on ")
        yield Pause(0.01)


async def leave(bridge: RunningBridge, moment: float) -> None:
    """Send a request, and reset the connection after `moment` seconds."""
    async with calling(bridge.origin, bridge.key) as caller:
        await caller.ask(bridge.chat("go on", stream=True))
        await asyncio.sleep(moment)  # a random moment, so there is no event to wait for
        caller.vanish()


async def many_leave(bridge: RunningBridge, callers: int) -> None:
    """Let callers come and go, `AT_A_TIME` at once, and wait until the bridge and the arena have noticed."""
    chance = random.Random(7)
    places = asyncio.Semaphore(AT_A_TIME)

    async def one() -> None:
        async with places:
            await leave(bridge, chance.uniform(0, 0.06))

    before = asyncio.all_tasks()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(callers):
            tasks.create_task(one())
    for url in (f"{bridge.origin}/health", f"{bridge.arena.origin}/_arena/faults"):
        async with bridge.http.get(url, headers={"Connection": "close"}) as response:
            await response.read()  # connections are accepted in order, so all have been accepted by now
    async with asyncio.timeout(20):
        while left := asyncio.all_tasks() - before:  # a task that ends may have started another
            await asyncio.wait(left)


def traced() -> int:
    """Bytes allocated since tracing began, except by pathlib, which may make Python's table of names grow."""
    snapshot = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(False, pathlib.__file__)])
    return sum(trace.size for trace in snapshot.traces)


def open_files() -> int:
    return len(list(pathlib.Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("callers", [500, pytest.param(1000, marks=pytest.mark.slow)])
async def test_many_callers_leave_nothing_behind(bridge: RunningBridge, callers: int) -> None:
    await bridge.app[MODELS].available()
    await bridge.logins_checked()  # both connections are idle by now
    bridge.arena.script = endless
    pool = pool_of(bridge.app[CLIENT])
    await bridge.logins_checked()  # the startup tasks have ended
    async with await bridge.post(bridge.chat("hello")) as response:
        await response.read()
    await many_leave(bridge, AT_A_TIME)  # libraries create what they keep before the count starts
    tasks, owned, files = len(asyncio.all_tasks()), len(bridge.app[TASKS]), open_files()
    await forget(bridge)
    tracemalloc.start()
    try:
        await many_leave(bridge, callers)
        await forget(bridge)
        kept = traced()
    finally:
        tracemalloc.stop()
    assert kept <= callers * BYTES_EACH
    assert (len(asyncio.all_tasks()), len(bridge.app[TASKS])) == (tasks, owned)
    assert open_files() <= files  # an idle connection may have been closed since
    assert (bridge.calls_held, bridge.app[DRAIN].running, pool.busy) == (0, 0, 0)


async def forget(bridge: RunningBridge) -> None:
    """Flush the entries of requests, clear the arena's calls, and collect garbage."""
    await bridge.app[ACTIVITY_STORE].flush()
    bridge.arena.calls.clear()
    bridge.arena.evaluations.clear()
    bridge.arena._used_ids.clear()
    gc.collect()
