"""Tasks: named, owned, ended with their owner; no failure is lost, and none is logged twice."""

from __future__ import annotations

import asyncio
import gc
import logging

import pytest

from bridge.tasks import TaskOwner


async def fail() -> None:
    raise LookupError("what went wrong")


async def let_callbacks_run() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_task_has_a_name_and_is_owned_until_it_ends() -> None:
    async def answer() -> int:
        return 42

    async with TaskOwner() as owner:
        task = owner.spawn(answer(), name="answer")
        assert task.get_name() == "answer"
        assert len(owner) == 1
        assert await task == 42
        assert len(owner) == 0


async def test_the_failure_of_a_task_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async with TaskOwner() as owner:
        task = owner.spawn(fail(), name="refresh")
        await let_callbacks_run()
    assert [record.getMessage() for record in caplog.records] == ["task refresh failed"]
    assert "what went wrong" in caplog.text
    del task
    gc.collect()
    assert len(caplog.records) == 1, "asyncio has nothing to add"


async def test_the_failure_of_an_awaited_task_is_raised_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with TaskOwner() as owner:
        with pytest.raises(LookupError):
            await owner.spawn(fail(), name="refresh")
        await let_callbacks_run()
    assert [record.getMessage() for record in caplog.records] == ["task refresh failed"]


async def test_closing_the_owner_cancels_all_tasks_and_waits_for_their_clean_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cleaned: list[str] = []

    async def hang(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(name)

    owner = TaskOwner()
    tasks = [owner.spawn(hang(name), name=name) for name in ("one", "two")]
    await asyncio.sleep(0)
    await owner.aclose()
    assert sorted(cleaned) == ["one", "two"]
    assert all(task.cancelled() for task in tasks)
    assert len(owner) == 0
    assert not caplog.records
    await owner.aclose()


async def test_a_failure_while_the_owner_closes_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def fail_on_the_way_out() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise LookupError("clean-up failed")

    async with TaskOwner() as owner:
        owner.spawn(fail_on_the_way_out(), name="unlucky")
        await asyncio.sleep(0)
    await let_callbacks_run()
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_cancelling_the_close_of_an_owner_raises_cancelled_error() -> None:
    release = asyncio.Event()

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await release.wait()

    owner = TaskOwner()
    task = owner.spawn(stubborn(), name="stubborn")
    await asyncio.sleep(0)
    closing = asyncio.get_running_loop().create_task(owner.aclose())
    await let_callbacks_run()
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_closed_owner_refuses_new_tasks() -> None:
    owner = TaskOwner()
    await owner.aclose()
    with pytest.raises(RuntimeError, match="late"):
        owner.spawn(fail(), name="late")


async def test_a_task_can_close_its_own_owner() -> None:
    owner = TaskOwner()
    async with asyncio.timeout(5):
        await owner.spawn(owner.aclose(), name="closer")


async def test_every_repeats_an_action_until_its_first_error(caplog: pytest.LogCaptureFixture) -> None:
    runs = 0

    async def action() -> None:
        nonlocal runs
        runs += 1
        if runs == 3:
            raise LookupError("third time")

    async with TaskOwner() as owner:
        task = owner.every(0, action, name="tick")
        await asyncio.wait([task])
        await let_callbacks_run()
    assert runs == 3
    assert "task tick failed" in caplog.text
