"""Limits: an exact sliding window, slots that are always released, and headers that clients can act on."""

from __future__ import annotations

import math

import pytest
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st

from bridge.access.limits import Admission, Limiter, LimitExceeded, Window


class Clock:
    """A monotonic clock that only the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_window_admits_rpm_requests_and_gives_each_slot_back_after_60_s() -> None:
    window = Window()
    assert window.admit(2, 0.0) == Admission(allowed=True, limit=2, remaining=1, reset_seconds=60.0, retry_after=0.0)
    assert window.admit(2, 10.0).remaining == 0
    refused = window.admit(2, 20.0)
    assert (refused.allowed, refused.remaining, refused.reset_seconds) == (False, 0, 50.0)
    assert refused.retry_after == pytest.approx(40.0)
    assert not window.admit(2, math.nextafter(60.0, 0)).allowed
    assert window.admit(2, 60.0).allowed
    assert not window.admit(2, 60.0).allowed


def test_a_lowered_rpm_admits_requests_once_enough_slots_are_free() -> None:
    window = Window()
    for second in range(10):
        assert window.admit(10, float(second)).allowed
    assert window.admit(3, 10.0).retry_after == pytest.approx(57.0)
    assert window.admit(3, 67.0).allowed


gaps = st.one_of(st.floats(0, 90), st.sampled_from([0.0, 20.0, 30.0, 60.0]))


@a_share(of=4)
@given(st.integers(1, 5), st.floats(0, 1e9), st.lists(gaps, max_size=60))
def test_a_sliding_window_admits_the_same_requests_as_a_naive_model(rpm: int, now: float, waits: list[float]) -> None:
    window, taken = Window(), list[float]()
    for wait in waits:
        now += wait
        free = rpm - sum(now < time + 60.0 for time in taken)
        seen = window.peek(rpm, now)
        got = window.admit(rpm, now)
        assert got.allowed == seen.allowed == (free > 0)
        if got.allowed:
            taken.append(now)
            assert (got.remaining, got.retry_after, got.reset_seconds) == (free - 1, 0.0, 60.0)
        else:
            assert 0 < got.retry_after <= got.reset_seconds + 1e-6 <= 60.0 + 2e-6
            # A client that waits for `retry_after` is admitted; tried on a copy, which leaves the history unchanged.
            later = Window()
            for time in taken:
                later.admit(rpm, time)
            assert later.admit(rpm, now + got.retry_after).allowed
    for start in taken:
        assert sum(start <= time < start + 60.0 for time in taken) <= rpm


def test_a_sliding_window_admits_a_hundred_thousand_requests_a_minute() -> None:
    window = Window()
    assert all(window.admit(100_000, 0.0).allowed for _ in range(100_000))
    assert not window.admit(100_000, 59.0).allowed
    assert window.admit(100_000, 60.0).remaining == 99_999


def test_a_concurrency_slot_is_held_during_the_with_block_and_released_after_it() -> None:
    limiter = Limiter(Clock())
    with limiter.slot("a", rpm=9, concurrency=1, streams=9) as admission:
        assert admission.remaining == 8
        assert limiter.running == 1
        with pytest.raises(LimitExceeded) as caught, limiter.slot("a", rpm=9, concurrency=1, streams=9):
            pytest.fail("entered")
        assert (caught.value.kind, caught.value.limit, caught.value.retry_after) == ("concurrency", 1, 1.0)
        assert caught.value.admission.remaining == 8, "a refused call takes no slot"
        with limiter.slot("b", rpm=9, concurrency=1, streams=9):
            assert limiter.running == 2
        assert limiter.running == 1
    assert limiter.running == 0


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, GeneratorExit])
def test_a_concurrency_slot_is_released_when_the_with_block_raises(error: type[BaseException]) -> None:
    limiter = Limiter(Clock())
    with pytest.raises(error), limiter.slot("a", rpm=9, concurrency=1, streams=9):
        raise error
    assert limiter.running == 0


def test_the_streams_limit_applies_to_all_keys_together() -> None:
    limiter = Limiter(Clock())
    with (
        limiter.slot("a", rpm=9, concurrency=9, streams=2),
        limiter.slot("b", rpm=9, concurrency=9, streams=2),
        pytest.raises(LimitExceeded) as caught,
        limiter.slot("c", rpm=9, concurrency=9, streams=2),
    ):
        pytest.fail("entered")
    assert (caught.value.kind, caught.value.limit, caught.value.admission.remaining) == ("streams", 2, 9)


def test_rpm_is_counted_per_key_and_a_refusal_frees_the_concurrency_slot() -> None:
    clock = Clock()
    limiter = Limiter(clock)
    with limiter.slot("a", rpm=1, concurrency=1, streams=9):
        pass
    for _ in range(3):
        with pytest.raises(LimitExceeded), limiter.slot("a", rpm=1, concurrency=1, streams=9):
            pytest.fail("entered")
    with pytest.raises(LimitExceeded) as caught, limiter.slot("a", rpm=1, concurrency=1, streams=9):
        pytest.fail("entered")
    assert (caught.value.kind, caught.value.limit) == ("rpm", 1)
    with limiter.slot("b", rpm=1, concurrency=1, streams=9):
        pass
    clock.now += caught.value.retry_after
    with limiter.slot("a", rpm=1, concurrency=1, streams=9):
        pass


def test_windows_of_idle_keys_are_dropped_but_running_calls_still_count() -> None:
    clock = Clock()
    limiter = Limiter(clock)
    with limiter.slot("long", rpm=9, concurrency=1, streams=9999):
        for number in range(1000):
            with limiter.slot(f"key {number}", rpm=9, concurrency=9, streams=9999):
                pass
        clock.now += 120
        with limiter.slot("last", rpm=9, concurrency=9, streams=9999):
            assert set(limiter._windows) == {"last"}
        with pytest.raises(LimitExceeded), limiter.slot("long", rpm=9, concurrency=1, streams=9999):
            pytest.fail("entered")
