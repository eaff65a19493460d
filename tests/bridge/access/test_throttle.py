"""Wrong passwords impose a wait, per address and overall; after it a client may try; owners are never locked out."""

from __future__ import annotations

import pytest
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st
from manual_clock import Clock

from bridge.access.throttle import (
    BY_ADDRESS,
    FORGET_SECONDS,
    IN_ALL,
    MAX_ADDRESSES,
    MAX_KNOWN,
    Throttle,
    TooManyAttempts,
)

HOME = "192.0.2.7"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def throttle(clock: Clock) -> Throttle:
    return Throttle(clock)


def fail(throttle: Throttle, clock: Clock, address: str, times: int) -> None:
    """Fail this many times, each time as soon as the throttle allows it."""
    for _ in range(times):
        clock.now += throttle.wait(address)
        throttle.attempt(address)


def strangers(throttle: Throttle, clock: Clock, times: int) -> None:
    """Fail once from each of this many addresses."""
    for number in range(times):
        fail(throttle, clock, f"10.0.{number // 256}.{number % 256}", 1)


def test_each_failure_from_the_fifth_on_doubles_the_wait(throttle: Throttle, clock: Clock) -> None:
    waits = []
    for _ in range(17):
        fail(throttle, clock, HOME, 1)
        waits.append(throttle.wait(HOME))
    assert waits == pytest.approx([0] * 4 + [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900])


def test_a_refused_attempt_states_the_wait_and_does_not_lengthen_it(throttle: Throttle, clock: Clock) -> None:
    fail(throttle, clock, HOME, 8)
    for _ in range(3):
        clock.now += 1
        with pytest.raises(TooManyAttempts) as caught:
            throttle.attempt(HOME)
        assert caught.value.retry_after == throttle.wait(HOME)
    assert throttle.wait(HOME) == pytest.approx(5)
    clock.now += throttle.wait(HOME)
    throttle.attempt(HOME)


def test_a_refusal_states_the_wait_rounded_up_to_whole_seconds(throttle: Throttle, clock: Clock) -> None:
    fail(throttle, clock, HOME, 8)
    clock.now += 0.5
    with pytest.raises(TooManyAttempts, match=r"^too many attempts: try again in 8 s$"):
        throttle.attempt(HOME)


@pytest.mark.parametrize("addresses", [1, 1000], ids=["one address", "an address each"])
def test_concurrent_unanswered_attempts_count_against_each_other(throttle: Throttle, addresses: int) -> None:
    let_in = 0
    for number in range(1000):  # no attempt has been answered yet
        try:
            throttle.attempt(f"10.0.{number % addresses // 256}.{number % addresses % 256}")
        except TooManyAttempts:
            continue
        let_in += 1
    assert let_in == (BY_ADDRESS.first if addresses == 1 else IN_ALL.first)


def test_a_successful_login_resets_the_failures_of_its_own_address_only(throttle: Throttle, clock: Clock) -> None:
    for address in (HOME, "192.0.2.8"):
        fail(throttle, clock, address, 9)
    clock.now += throttle.wait(HOME)
    throttle.attempt(HOME)
    throttle.succeeded(HOME)
    assert throttle.wait(HOME) == 0
    assert throttle.wait("192.0.2.8") > 0
    fail(throttle, clock, HOME, 4)
    assert throttle.wait(HOME) == 0


def test_successful_attempts_cause_no_wait(throttle: Throttle) -> None:
    for number in range(IN_ALL.first * 2):
        throttle.attempt(f"10.0.0.{number}")
        throttle.succeeded(f"10.0.0.{number}")
    assert throttle.wait("192.0.2.8") == 0


def test_failures_from_many_addresses_impose_a_short_wait_on_all_new_addresses(
    throttle: Throttle, clock: Clock
) -> None:
    strangers(throttle, clock, IN_ALL.first - 1)
    assert throttle.wait(HOME) == 0
    strangers(throttle, clock, 1)
    assert throttle.wait(HOME) == pytest.approx(1)
    strangers(throttle, clock, 2000)
    assert throttle.wait(HOME) == pytest.approx(IN_ALL.longest)


def test_an_address_that_logged_in_before_does_not_wait_for_failures_of_others(
    throttle: Throttle, clock: Clock
) -> None:
    throttle.attempt(HOME)
    throttle.succeeded(HOME)
    strangers(throttle, clock, 200)
    assert throttle.wait("192.0.2.8") > 0
    assert throttle.wait(HOME) == 0
    fail(throttle, clock, HOME, 6)
    assert throttle.wait(HOME) == pytest.approx(2), "its own failures count"


def test_failures_are_forgotten_after_a_day(throttle: Throttle, clock: Clock) -> None:
    fail(throttle, clock, HOME, 20)
    strangers(throttle, clock, IN_ALL.first)
    clock.now += FORGET_SECONDS
    fail(throttle, clock, HOME, 4)
    assert throttle.wait(HOME) == 0


@pytest.mark.parametrize(
    ("address", "other", "same"),
    [
        pytest.param("192.0.2.7", "192.0.2.8", False, id="IPv4"),
        pytest.param("192.0.2.7", "::ffff:192.0.2.7", True, id="IPv4 in IPv6"),
        pytest.param("::ffff:192.0.2.7", "::ffff:192.0.2.8", False, id="two of those"),
        pytest.param("2001:db8::1", "2001:db8::ffff:1:2:3", True, id="one /64"),
        pytest.param("2001:db8::1", "2001:DB8:0:0::2", True, id="spelt otherwise"),
        pytest.param("2001:db8::1", "2001:db8:0:1::1", False, id="two /64"),
        pytest.param("fe80::1%eth0", "fe80::2%eth0", True, id="with a scope"),
        pytest.param("", "", True, id="a Unix socket"),
        pytest.param("unix:", "192.0.2.7", False, id="no address"),
    ],
)
def test_spellings_of_one_ip_address_and_one_ipv6_64_network_count_as_one_address(
    throttle: Throttle, clock: Clock, address: str, other: str, same: bool
) -> None:
    fail(throttle, clock, address, 8)
    assert (throttle.wait(other) > 0) == same


def test_beyond_the_maximum_the_address_that_failed_longest_ago_is_forgotten(throttle: Throttle, clock: Clock) -> None:
    throttle.succeeded(HOME)  # an address that was let in waits for its own failures only
    fail(throttle, clock, HOME, 14)
    strangers(throttle, clock, MAX_ADDRESSES - 1)
    fail(throttle, clock, HOME, 1)
    assert throttle.wait(HOME) == pytest.approx(900)
    strangers(throttle, clock, MAX_ADDRESSES)
    fail(throttle, clock, HOME, 1)
    assert throttle.wait(HOME) == 0


def test_beyond_the_maximum_the_address_that_logged_in_longest_ago_is_forgotten(
    throttle: Throttle, clock: Clock
) -> None:
    for number in range(MAX_KNOWN + 1):
        throttle.succeeded(f"192.0.2.{number}")
    strangers(throttle, clock, IN_ALL.first)
    assert throttle.wait("192.0.2.0") > 0
    assert throttle.wait("192.0.2.1") == 0


attempts = st.tuples(
    st.sampled_from(["10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8::2"]),
    st.sampled_from([0.0, 0.5, 1.0, 30.0, 1000.0, FORGET_SECONDS]) | st.floats(0, 2000),
    st.sampled_from([False, False, False, True]),
)


@a_share(of=4)
@given(st.floats(0, 1e9), st.lists(attempts, max_size=120))
def test_an_attempt_after_the_announced_wait_is_allowed_and_waits_are_bounded(
    start: float, tries: list[tuple[str, float, bool]]
) -> None:
    clock = Clock()
    clock.now = start
    throttle = Throttle(clock)
    for address, pause, right in tries:
        clock.now += pause
        wait = throttle.wait(address)
        assert 0 <= wait <= BY_ADDRESS.longest + 1e-6
        if wait:
            with pytest.raises(TooManyAttempts) as caught:
                throttle.attempt(address)
            assert caught.value.retry_after == wait
            clock.now += wait
        throttle.attempt(address)
        if right:
            throttle.succeeded(address)
            assert throttle.wait(address) == 0
