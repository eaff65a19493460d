"""Each timer expires once, on time or a little later, unless it is cancelled; the loop has one timer for all."""

from __future__ import annotations

import asyncio
import weakref
from time import monotonic

import pytest
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st

from upstream.loop.timers import Timers


class Recorder:
    """A timer that records when it expired."""

    def __init__(self) -> None:
        self.expired_at: list[float] = []
        self.expired = asyncio.Event()

    def on_timer(self) -> None:
        self.expired_at.append(monotonic())
        self.expired.set()

    async def wait(self) -> None:
        async with asyncio.timeout(5):
            await self.expired.wait()


async def test_each_timer_expires_once_and_never_early() -> None:
    timers, due = Timers(), monotonic() + 0.02
    recorders = {due + later: Recorder() for later in (0.1, 0.0, 0.15, 0.05)}  # the second is the first to expire
    for at, recorder in recorders.items():
        timers.set(recorder, at)
    assert len(timers) == len(recorders)
    for at, recorder in recorders.items():
        await recorder.wait()
        assert recorder.expired_at[0] >= at
    assert len(timers) == 0
    assert [len(recorder.expired_at) for recorder in recorders.values()] == [1] * len(recorders)


async def test_a_cancelled_or_moved_timer_does_not_expire() -> None:
    timers, now = Timers(), monotonic()
    cancelled, moved, last = Recorder(), Recorder(), Recorder()
    for recorder in (cancelled, moved):
        timers.set(recorder, now + 0.01)
    timers.set(last, now + 0.02)
    timers.set(moved, now + 3600)
    timers.cancel(cancelled)
    timers.cancel(cancelled)
    await last.wait()
    assert not cancelled.expired_at
    assert not moved.expired_at
    assert len(timers) == 1


async def test_an_expiring_timer_may_set_and_cancel_others() -> None:
    timers, now = Timers(), monotonic()
    neighbour = Recorder()

    class Again(Recorder):
        def on_timer(self) -> None:
            timers.cancel(neighbour)
            self.expired_at.append(monotonic())
            if len(self.expired_at) == 3:
                self.expired.set()
            else:
                timers.set(self, monotonic())

    again = Again()
    timers.set(again, now)
    timers.set(neighbour, now)  # due at the same time as the other, which expires first
    await again.wait()
    assert not neighbour.expired_at
    assert len(timers) == 0


async def test_a_failing_timer_does_not_stop_others() -> None:
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context.get("exception")))

    class Broken(Recorder):
        def on_timer(self) -> None:
            raise LookupError

    timers, now = Timers(), monotonic()
    good = Recorder()
    timers.set(Broken(), now)
    timers.set(good, now)
    await good.wait()
    assert [type(failure) for failure in failures] == [LookupError]


@pytest.mark.parametrize("seconds", [0.01, 3600])
async def test_the_event_loop_has_one_timer_for_all_timers_and_none_after_closing(
    seconds: float, event_loop_timers: list[asyncio.TimerHandle]
) -> None:
    timers, now = Timers(), monotonic()
    recorders = [Recorder() for _ in range(1000)]
    for recorder in recorders:
        timers.set(recorder, now + seconds)
        timers.cancel(recorder)
    assert len(event_loop_timers) == 1
    timers.close()
    assert all(timer.cancelled() for timer in event_loop_timers)


async def test_cancelled_timers_release_their_objects_at_once_and_leave_few_entries() -> None:
    timers, now = Timers(), monotonic()
    kept = Recorder()
    timers.set(kept, now + 0.05)
    recorders = [Recorder() for _ in range(1000)]
    for recorder in recorders:
        timers.set(recorder, now + 3600)
    held = [weakref.ref(recorder) for recorder in recorders]
    for recorder in recorders:
        timers.cancel(recorder)
    del recorders, recorder
    assert not any(ref() for ref in held)
    assert len(timers) == 1
    await kept.wait()


times = st.lists(st.tuples(st.integers(0, 9), st.none() | st.integers(0, 5)), max_size=80)


@a_share(of=5)
@given(times)
def test_a_timer_set_repeatedly_expires_at_its_latest_setting_unless_cancelled(
    steps: list[tuple[int, int | None]],
) -> None:
    async def run() -> None:
        timers, start = Timers(), monotonic()
        recorders = [Recorder() for _ in range(10)]
        due = dict[int, float]()
        for which, delay in steps:
            if delay is None:
                timers.cancel(recorders[which])
                due.pop(which, None)
            else:
                due[which] = start + delay / 1000
                timers.set(recorders[which], due[which])
        assert len(timers) == len(due)
        for which in due:
            await recorders[which].wait()
        assert len(timers) == 0
        for which, recorder in enumerate(recorders):
            assert len(recorder.expired_at) == (which in due)
            assert all(at >= due[which] for at in recorder.expired_at)

    asyncio.run(run())


@pytest.fixture
async def event_loop_timers(monkeypatch: pytest.MonkeyPatch) -> list[asyncio.TimerHandle]:
    """The timers of the event loop that were set since the test began."""
    loop, timers = asyncio.get_running_loop(), list[asyncio.TimerHandle]()
    call_at = loop.call_at

    def noted(when: float, callback: object, *args: object, **options: object) -> asyncio.TimerHandle:
        timers.append(call_at(when, callback, *args, **options))  # type: ignore[arg-type]  # passed on unchanged
        return timers[-1]

    monkeypatch.setattr(loop, "call_at", noted)
    return timers
