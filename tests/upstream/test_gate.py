"""The gate: a circuit breaker for a site that fails, a wall for one that demands a human."""

from __future__ import annotations

from contextlib import suppress

import pytest

from upstream.gate import FAILURES_TO_OPEN, Gate
from upstream.protocol.errors import Challenge, CircuitOpen, RateLimited, ServerFailed, Unreachable, UpstreamError


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def fail(gate: Gate, error: UpstreamError) -> None:
    with suppress(type(error)), gate.request():
        raise error


def opened() -> tuple[Gate, Clock]:
    clock = Clock()
    gate = Gate(clock)
    for _ in range(FAILURES_TO_OPEN):
        fail(gate, Unreachable("refused"))
    return gate, clock


def test_consecutive_failed_requests_open_the_circuit_for_five_seconds() -> None:
    gate, clock = opened()
    with pytest.raises(CircuitOpen) as caught, gate.request():
        pass
    assert caught.value.retry_after == 5.0
    clock.now = 5.0
    with gate.request():
        pass
    assert gate.outage is None


def test_a_success_resets_the_count_of_failures_of_the_circuit() -> None:
    gate = Gate(Clock())
    for _ in range(3):
        for _ in range(FAILURES_TO_OPEN - 1):
            fail(gate, ServerFailed("500", status=500))
        with gate.request():
            pass


def test_a_half_open_circuit_admits_one_request_at_a_time_and_doubles_the_pause() -> None:
    gate, clock = opened()
    clock.now = 5.0
    with suppress(Unreachable), gate.request():
        with pytest.raises(CircuitOpen), gate.request():
            pass
        raise Unreachable("still refused")
    with pytest.raises(CircuitOpen) as caught, gate.request():
        pass
    assert caught.value.retry_after == 10.0


def test_the_pause_of_an_open_circuit_grows_to_at_most_a_minute() -> None:
    gate, clock = opened()
    for _ in range(10):
        clock.now += 60.0
        fail(gate, Unreachable("refused"))
    with pytest.raises(CircuitOpen) as caught, gate.request():
        pass
    assert caught.value.retry_after == 60.0


def test_rate_limits_do_not_open_the_circuit() -> None:
    gate = Gate(Clock())
    for _ in range(3 * FAILURES_TO_OPEN):
        fail(gate, RateLimited("slow down", retry_after=1))
    with gate.request():
        pass


def test_the_gate_admits_one_request_at_a_time_after_a_challenge() -> None:
    gate = Gate(Clock())
    fail(gate, Challenge("challenge"))
    with gate.request(), pytest.raises(Challenge), gate.request():
        pass
    assert gate.wall is None
    with gate.request(), gate.request():
        pass


def test_a_cancelled_probe_leaves_the_gate_open_for_the_next_request() -> None:
    gate = Gate(Clock())
    fail(gate, Challenge("challenge"))
    with suppress(KeyboardInterrupt), gate.request():
        raise KeyboardInterrupt
    with gate.request():
        pass


def test_the_stored_challenge_is_raised_as_a_new_error_for_each_request() -> None:
    """One stored exception would keep the frames, and so the pictures, of every request that raised it."""
    gate = Gate(Clock())
    fail(gate, Challenge("challenge", status=403))
    refused: list[Challenge] = []
    with gate.request():
        for _ in range(3):
            with pytest.raises(Challenge) as caught, gate.request():
                pass
            refused.append(caught.value)
    assert len(set(map(id, refused))) == 3
    assert {(error.message, error.status) for error in refused} == {("challenge", 403)}
