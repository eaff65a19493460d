"""Heavy work on bodies: one call at a time, and no owner waits for more than one call of another."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bridge.tasks import TaskOwner
from handlers.request.heavy import HeavyWork

PATIENCE = 10.0


@asynccontextmanager
async def heavy() -> AsyncIterator[HeavyWork]:
    work = HeavyWork()
    try:
        yield work
    finally:
        work.close()


async def test_an_owner_with_many_calls_delays_each_call_of_another_by_one() -> None:
    gate, done = threading.Event(), list[str]()

    def note(name: str) -> None:
        gate.wait(PATIENCE)
        done.append(name)

    async with heavy() as work, TaskOwner() as tasks:
        calls = [tasks.spawn(work.run("busy", note, f"busy {n}"), name=f"busy {n}") for n in range(5)]
        await asyncio.sleep(0)
        calls += [tasks.spawn(work.run("quiet", note, f"quiet {n}"), name=f"quiet {n}") for n in range(2)]
        await asyncio.sleep(0)
        gate.set()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*calls)
    assert done == ["busy 0", "quiet 0", "busy 1", "quiet 1", "busy 2", "busy 3", "busy 4"]


async def test_run_returns_or_raises_what_the_function_does() -> None:
    async with heavy() as work:
        assert await work.run("a", max, 1, 2) == 2
        with pytest.raises(ZeroDivisionError):
            await work.run("a", divmod, 1, 0)
        assert await work.run("a", max, 1, 2) == 2


async def test_a_cancelled_call_lets_the_next_one_run() -> None:
    gate, done = threading.Event(), list[str]()
    async with heavy() as work, TaskOwner() as tasks:
        running = tasks.spawn(work.run("a", gate.wait, PATIENCE), name="running")
        await asyncio.sleep(0)
        waiting = tasks.spawn(work.run("a", done.append, "never"), name="waiting")
        await asyncio.sleep(0)
        waiting.cancel()
        running.cancel()
        last = tasks.spawn(work.run("a", done.append, "last"), name="last")
        await asyncio.sleep(0)
        gate.set()
        async with asyncio.timeout(PATIENCE):
            await last
    assert done == ["last"]
