"""Many callers leave at random moments: whatever the bridge held for them, it holds no more."""

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
#: What may remain of each, in bytes: nothing of the bridge's, but allocators and caches of libraries breathe.
BYTES_EACH = 1024


@pytest.fixture
async def bridge(arena: Arena, tmp_path: pathlib.Path) -> AsyncIterator[RunningBridge]:
    """A bridge whose answers end with their callers' leaving."""
    async with running_bridge(arena, tmp_path, {"limits": {"join_repeats": False}}) as bridge:
        yield bridge


async def endless(turn: Turn) -> AsyncIterator[Step]:
    """Play an answer that only a caller's leaving ends."""
    if turn.prompt == "hello":
        yield Line("ad", {"finishReason": "length"})
        return
    yield Pause(0.01)
    while True:
        yield Line("a0", "on and on ")
        yield Pause(0.01)


async def leave(bridge: RunningBridge, moment: float) -> None:
    """Call, and reset the connection so many seconds later."""
    async with calling(bridge.origin, bridge.key) as caller:
        await caller.ask(bridge.chat("go on", stream=True))
        await asyncio.sleep(moment)  # a random moment: nothing to await
        caller.vanish()


async def many_leave(bridge: RunningBridge, callers: int) -> None:
    """Let so many callers come and go, some at a time, and wait until the bridge and the arena have noticed."""
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
            await response.read()  # connections are accepted in their order: all are by now
    async with asyncio.timeout(20):
        while left := asyncio.all_tasks() - before:  # one that ends may have begun another
            await asyncio.wait(left)


def traced() -> int:
    """Bytes allocated since tracing began, but for Python's table of names, which pathlib may happen to let double."""
    snapshot = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(False, pathlib.__file__)])
    return sum(trace.size for trace in snapshot.traces)


def open_files() -> int:
    return len(list(pathlib.Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("callers", [500, pytest.param(1000, marks=pytest.mark.slow)])
async def test_many_callers_leave_nothing_behind(bridge: RunningBridge, callers: int) -> None:
    await bridge.app[MODELS].available()
    await bridge.logins_checked()  # the connections for both rest by now
    bridge.arena.script = endless
    pool = pool_of(bridge.app[CLIENT])
    await bridge.logins_checked()  # what the start begins is over
    async with await bridge.post(bridge.chat("hello")) as response:
        await response.read()
    await many_leave(bridge, AT_A_TIME)  # what libraries make once and keep is there before the count
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
    assert open_files() <= files  # an idle connection of before may have been closed meanwhile
    assert (bridge.calls_held, bridge.app[DRAIN].running, pool.busy) == (0, 0, 0)


async def forget(bridge: RunningBridge) -> None:
    """Write what is kept of requests; let the arena forget the calls that it keeps, and Python what nobody holds."""
    await bridge.app[ACTIVITY_STORE].flush()
    bridge.arena.calls.clear()
    bridge.arena.evaluations.clear()
    bridge.arena._used_ids.clear()
    gc.collect()
