"""Failed writes are repeated until they succeed, and once more at the end; what is lost then is logged."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Callable

import pytest
from polling import until

from bridge.state import saving
from bridge.state.errors import StateError
from bridge.state.saving import FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS, Saver
from bridge.tasks import TaskOwner


class Disk:
    """A disk on which one write fails for each of the given messages."""

    def __init__(self, *refusals: str) -> None:
        self.refusals = list(refusals)
        self.writes = 0
        self.written = asyncio.Event()

    async def write(self) -> None:
        self.writes += 1
        await asyncio.sleep(0)
        if self.refusals:
            raise StateError(self.refusals.pop(0))
        self.written.set()


FULL = os.strerror(errno.ENOSPC)


def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Skip all pauses and return their lengths."""
    made: list[float] = []
    sleep = asyncio.sleep

    async def pause(seconds: float) -> None:
        if seconds:
            made.append(seconds)
        await sleep(0)

    monkeypatch.setattr("bridge.state.saving.asyncio.sleep", pause)
    return made


@pytest.mark.parametrize("refusals", [0, 1, 3, 12])
async def test_a_failed_write_is_retried_without_another_change(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, refusals: int
) -> None:
    caplog.set_level(logging.INFO)
    disk = Disk(*[FULL] * refusals)
    saver = Saver("words are", disk.write)
    made = pauses(monkeypatch)
    async with TaskOwner() as tasks, asyncio.timeout(5):
        tasks.spawn(saver.keep(), name="keep")
        saver.mark_changed()
        await disk.written.wait()
    assert disk.writes == refusals + 1
    assert not saver.is_pending
    assert made == [min(FIRST_DELAY_SECONDS * 2**at, LONGEST_DELAY_SECONDS) for at in range(refusals)]
    failures = [f"words are not saved; retrying until it succeeds: {FULL}", "words are saved again"]
    assert caplog.messages == (failures if refusals else [])


async def test_each_different_failure_to_save_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    disk = Disk("full", "full", "read-only", "full")
    saver = Saver("words are", disk.write)
    saver.mark_changed()
    for _ in range(4):
        await saver.flush()
    assert [line.rpartition(": ")[2] for line in caplog.messages] == ["full", "read-only", "full"]


async def test_nothing_is_written_without_a_change() -> None:
    disk = Disk()
    saver = Saver("words are", disk.write)
    await saver.flush()
    assert await saver.finish()
    assert disk.writes == 0


async def test_a_change_during_a_write_is_written_too() -> None:
    seen: list[int] = []
    value = 1

    async def write() -> None:
        nonlocal value
        seen.append(value)
        if value == 1:
            value = 2
            saver.mark_changed()

    saver = Saver("words are", write)
    saver.mark_changed()
    await saver.flush()
    assert saver.is_pending
    await saver.flush()
    assert (seen, saver.is_pending) == ([1, 2], False)


async def test_a_cancelled_flush_leaves_its_unsaved_change_pending() -> None:
    disk = Disk(FULL)
    saver = Saver("words are", disk.write)
    saver.mark_changed()
    async with TaskOwner() as tasks:
        flush = tasks.spawn(saver.flush(), name="flush")
        await until(lambda: disk.writes)
        flush.cancel()
        await asyncio.wait((flush,))
    assert await saver.finish()
    assert disk.writes == 2


@pytest.mark.parametrize(("refusals", "saved"), [(0, True), (1, False), (2, False)])
async def test_the_last_try_reports_whether_everything_was_saved(refusals: int, saved: bool) -> None:
    saver = Saver("words are", Disk(*[FULL] * refusals).write)
    saver.mark_changed()
    assert await saver.finish() is saved
    assert saver.is_pending is not saved


async def test_the_last_try_does_not_wait_for_a_disk_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.state.saving.LAST_TRY_SECONDS", 0.01)
    release = asyncio.Event()

    async def write() -> None:
        await release.wait()

    saver = Saver("words are", write)
    saver.mark_changed()
    assert not await saver.finish()
    assert "did not answer" in str(saver.failure)
    release.set()


def _error() -> Exception:
    return ZeroDivisionError()


@pytest.mark.parametrize("error", [_error, asyncio.CancelledError], ids=["a bug", "cancelled"])
async def test_an_interrupted_write_leaves_its_change_pending(error: Callable[[], BaseException]) -> None:
    async def write() -> None:
        raise error()

    saver = Saver("words are", write)
    saver.mark_changed()
    with pytest.raises(type(error())):
        await saver.flush()
    assert saver.is_pending


@pytest.mark.parametrize(("refusals", "lost"), [(0, False), (1, False), (100, True)])
async def test_losses_at_shutdown_are_logged(caplog: pytest.LogCaptureFixture, refusals: int, lost: bool) -> None:
    disk = Disk(*[FULL] * refusals)
    async with saving.saving("words are", disk.write, loss="they are learned again") as saver:
        saver.mark_changed()
        await asyncio.sleep(0)
    assert disk.written.is_set() is not lost
    assert ("words are not saved (No space left on device): they are learned again" in caplog.messages) is lost
