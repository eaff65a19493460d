"""Alarms: each rings once, at its time or a little later, unless it was cleared; the loop has one timer for all."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest

from upstream.loop.timers import Alarms


class Bell:
    """Remembers when it rang."""

    def __init__(self) -> None:
        self.rung: list[float] = []
        self.heard = asyncio.Event()

    def ring(self) -> None:
        self.rung.append(monotonic())
        self.heard.set()

    async def hear(self) -> None:
        async with asyncio.timeout(5):
            await self.heard.wait()


async def test_each_rings_once_and_never_before_its_time() -> None:
    alarms, due = Alarms(), monotonic() + 0.02
    bells = {due + later: Bell() for later in (0.1, 0.0, 0.15, 0.05)}  # the second is the first to ring
    for at, bell in bells.items():
        alarms.set(bell, at)
    assert len(alarms) == len(bells)
    for at, bell in bells.items():
        await bell.hear()
        assert bell.rung[0] >= at
    assert len(alarms) == 0
    assert [len(bell.rung) for bell in bells.values()] == [1] * len(bells)


async def test_one_that_is_cleared_or_moved_does_not_ring() -> None:
    alarms, now = Alarms(), monotonic()
    cleared, moved, last = Bell(), Bell(), Bell()
    for bell in (cleared, moved):
        alarms.set(bell, now + 0.01)
    alarms.set(last, now + 0.02)
    alarms.set(moved, now + 3600)
    alarms.clear(cleared)
    alarms.clear(cleared)
    await last.hear()
    assert not cleared.rung
    assert not moved.rung
    assert len(alarms) == 1


async def test_one_that_rings_may_set_and_clear() -> None:
    alarms, now = Alarms(), monotonic()
    neighbour = Bell()

    class Again(Bell):
        def ring(self) -> None:
            alarms.clear(neighbour)
            self.rung.append(monotonic())
            if len(self.rung) == 3:
                self.heard.set()
            else:
                alarms.set(self, monotonic())

    again = Again()
    alarms.set(again, now)
    alarms.set(neighbour, now)  # in one look with the other, which comes first
    await again.hear()
    assert not neighbour.rung
    assert len(alarms) == 0


async def test_one_that_fails_stops_no_other() -> None:
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context.get("exception")))

    class Broken(Bell):
        def ring(self) -> None:
            raise LookupError

    alarms, now = Alarms(), monotonic()
    good = Bell()
    alarms.set(Broken(), now)
    alarms.set(good, now)
    await good.hear()
    assert [type(failure) for failure in failures] == [LookupError]


@pytest.mark.parametrize("seconds", [0.01, 3600])
async def test_the_loop_has_one_timer_for_all_and_none_behind_them(
    seconds: float, event_loop_timers: list[asyncio.TimerHandle]
) -> None:
    alarms, now = Alarms(), monotonic()
    bells = [Bell() for _ in range(1000)]
    for bell in bells:
        alarms.set(bell, now + seconds)
        alarms.clear(bell)
    assert len(event_loop_timers) == 1
    alarms.close()
    assert all(timer.cancelled() for timer in event_loop_timers)


@pytest.fixture
async def event_loop_timers(monkeypatch: pytest.MonkeyPatch) -> list[asyncio.TimerHandle]:
    """The timers that were set since the test began."""
    loop, timers = asyncio.get_running_loop(), list[asyncio.TimerHandle]()
    call_at = loop.call_at

    def noted(when: float, callback: object, *args: object, **options: object) -> asyncio.TimerHandle:
        timers.append(call_at(when, callback, *args, **options))  # type: ignore[arg-type]  # handed on as they came
        return timers[-1]

    monkeypatch.setattr(loop, "call_at", noted)
    return timers
