"""The schedule for renewing logins: when calls are made, for any token and any outcome of the calls."""

from __future__ import annotations

import math

import pytest
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st

from upstream.protocol.cookies import Session
from upstream.protocol.errors import (
    PromptFailed,
    RateLimited,
    ServerFailed,
    SessionExpired,
    TimedOut,
    UpstreamError,
)
from upstream.protocol.renewal import (
    CLOCK_SLACK_SECONDS,
    CONTRADICTED_SECONDS,
    FIRST_REPEAT_SECONDS,
    LEAST_WAIT_SECONDS,
    LONGEST_REPEAT_SECONDS,
    LONGEST_RETRY_AFTER_SECONDS,
    MARGIN_SECONDS,
    RenewalState,
    may_renew,
    must_renew,
    renewed,
)

NOW = 1_800_000_000.0
HOUR = 3600.0
#: The default for the longest time between two checks of a login.
EVERY = 100_000.0


def session(*, age: float = 0.0, life: float = HOUR, renewable: bool = True) -> Session:
    """A session whose token was issued `age` seconds ago."""
    issued = NOW - age
    return Session("v", "u", "a@b.c", issued + life, guest=False, renewable=renewable, issued_at=issued)


# A valid login


@pytest.mark.parametrize(
    ("age", "wait"),
    [(0, 2400), (1200, 1200), (2399, 1), (2400, 800), (3300, 200), (3570, 30), (3599, 30), (3600, EVERY), (9e9, EVERY)],
)
def test_a_token_is_renewed_at_two_thirds_of_its_life_and_then_of_what_is_left(age: float, wait: float) -> None:
    state = renewed(session(age=age), NOW, EVERY)
    assert state.due_in(NOW) == pytest.approx(wait)
    assert (state.failure, state.failing_since, state.failures) == (None, None, 0)


def test_a_login_is_checked_no_later_than_the_configured_interval() -> None:
    assert renewed(session(), NOW, 600).due_in(NOW) == 600
    assert renewed(session(life=7 * 86400.0), NOW, 1800).due_in(NOW) == 1800


def test_an_unchecked_login_is_checked_immediately() -> None:
    assert RenewalState().due_in(NOW) == 0
    assert RenewalState().may_call(NOW)


def test_a_one_hour_token_that_the_site_renews_in_its_last_five_minutes_takes_three_calls() -> None:
    now, calls = NOW, []
    held = session()
    while held.expires_at - now > 300:
        now += renewed(held, now, EVERY).due_in(now)
        calls.append(round((now - NOW) / 60, 1))
    assert calls == [40.0, 53.3, 57.8]


@pytest.mark.parametrize(
    ("left", "renewable", "must"),
    [(MARGIN_SECONDS, True, False), (MARGIN_SECONDS - 1, True, True), (-HOUR, True, True), (-HOUR, False, False)],
)
def test_a_token_close_to_its_expiry_must_be_renewed_first(left: float, renewable: bool, must: bool) -> None:
    assert must_renew(session(age=HOUR - left, renewable=renewable), NOW) is must


@pytest.mark.parametrize(("age", "may"), [(0, False), (2399, False), (2400, True), (3599, True), (2 * HOUR, True)])
def test_a_read_may_renew_a_token_in_its_last_third(age: float, may: bool) -> None:
    assert may_renew(session(age=age), NOW) is may


def test_a_request_does_not_immediately_repeat_a_call_that_renewed_nothing() -> None:
    state = renewed(session(age=3570), NOW, EVERY)
    assert not state.may_call(NOW + LEAST_WAIT_SECONDS - 1)
    assert state.may_call(NOW + LEAST_WAIT_SECONDS)


def test_an_account_marked_expired_with_a_valid_login_is_checked_soon() -> None:
    state = renewed(session(), NOW, EVERY)
    assert state.due_in(NOW, expired=True) == CONTRADICTED_SECONDS
    assert state.due_in(NOW, expired=False) == pytest.approx(2400)
    failed = state.failed(SessionExpired("no"), NOW)
    assert failed.due_in(NOW, expired=True) == failed.due_in(NOW) == FIRST_REPEAT_SECONDS


# Failures


def test_failed_renewals_double_the_wait_up_to_a_limit() -> None:
    state, now, waits = RenewalState(), NOW, []
    for _ in range(9):
        state = state.failed(ServerFailed("no"), now)
        waits.append(state.due_in(now))
        now += waits[-1]
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    assert (state.failing_since, state.failures) == (NOW, 9)
    assert renewed(session(), now, EVERY).failing_since is None


def test_an_expired_login_is_checked_at_growing_intervals() -> None:
    state = RenewalState()
    for _ in range(60):
        state = state.failed(SessionExpired("no"), NOW, longest=1800)
    assert state.due_in(NOW) == 1800


@pytest.mark.parametrize("kind", [RateLimited, PromptFailed])
@pytest.mark.parametrize(
    ("told", "wait"),
    [(None, 5), (0.0, 5), (3.0, 5), (1200.0, 1200), (1e9, LONGEST_RETRY_AFTER_SECONDS), (math.inf, 3600)],
)
def test_the_sites_retry_after_delays_scheduled_checks_and_those_for_requests(
    kind: type[RateLimited], told: float | None, wait: float
) -> None:
    state = RenewalState().failed(kind("slower", retry_after=told), NOW)
    assert state.due_in(NOW) == wait
    assert not state.may_call(NOW + wait - 1)
    assert state.may_call(NOW + wait)


def test_requests_may_check_a_login_again_long_before_the_schedule() -> None:
    state = RenewalState()
    for _ in range(9):
        state = state.failed(TimedOut("no"), NOW)
    assert state.due_in(NOW) == LONGEST_REPEAT_SECONDS
    assert not state.may_call(NOW + FIRST_REPEAT_SECONDS - 1)
    assert state.may_call(NOW + FIRST_REPEAT_SECONDS)


def test_a_pending_renewal_keeps_the_recorded_failures() -> None:
    failed = RenewalState().failed(ServerFailed("no"), NOW)
    pending = failed.pending(NOW + 10)
    assert (pending.failure, pending.failing_since, pending.failures) == (failed.failure, NOW, 1)
    assert pending.due_in(NOW + 10) == LEAST_WAIT_SECONDS


# Properties

times = st.floats(0, 4e9)
tokens = st.builds(
    lambda issued, life, renewable: Session("v", "u", None, issued + life, False, renewable, issued),
    times,
    st.floats(-1e6, 1e8),
    st.booleans(),
)
everies = st.floats(60, 86_400)
errors: st.SearchStrategy[UpstreamError] = st.one_of(
    st.just(ServerFailed("no")),
    st.just(SessionExpired("no")),
    st.builds(lambda told: RateLimited("no", retry_after=told), st.none() | st.floats(0, 1e12)),
)


@a_share(of=4)
@given(tokens, times, everies)
def test_the_wait_after_a_successful_check_is_positive_and_at_most_the_configured_interval(
    token: Session, now: float, every: float
) -> None:
    state = renewed(token, now, every)
    assert 0 < state.wait <= every
    assert state.due_in(now + every + 1) == 0
    # The wait until a token may be renewed can be short; from then on there is a minimum, so that no clock causes a
    # flood of calls.
    assert state.wait >= LEAST_WAIT_SECONDS or not may_renew(token, now)


@a_share(of=4)
@given(tokens, everies)
def test_a_token_of_an_hour_or_more_is_checked_before_its_expiry(token: Session, every: float) -> None:
    life = token.expires_at - token.issued_at
    now, calls = token.issued_at, 0
    while now < token.expires_at - LEAST_WAIT_SECONDS and life >= HOUR and calls < 40:
        state = renewed(token, now, max(every, life))
        now += max(state.due_in(now), 1e-3 * life)
        calls += 1
        assert now <= token.expires_at + 1e-3 * life
    assert calls <= 24


@a_share(of=4)
@given(st.lists(errors, min_size=1, max_size=30), times, everies)
def test_the_wait_after_failed_renewals_stays_within_its_limits(
    failures: list[UpstreamError], now: float, every: float
) -> None:
    state, began = RenewalState(), now
    for failure in failures:
        state = state.failed(failure, now, longest=every)
        assert FIRST_REPEAT_SECONDS <= state.wait <= max(every, LONGEST_RETRY_AFTER_SECONDS)
        assert FIRST_REPEAT_SECONDS <= state.wait_on_demand <= state.wait
        now += state.wait
    assert (state.failing_since, state.failures) == (began, len(failures))


@a_share(of=4)
@given(tokens, st.lists(errors, max_size=5), times, everies, st.floats(-1e8, 1e8))
def test_no_jump_of_the_clock_delays_a_renewal_by_more_than_its_wait(
    token: Session, failures: list[UpstreamError], now: float, every: float, jump: float
) -> None:
    state = renewed(token, now, every)
    for failure in failures:
        state = state.failed(failure, now)
    due_in = state.due_in(now + jump)
    assert due_in <= state.wait + CLOCK_SLACK_SECONDS
    if jump < -CLOCK_SLACK_SECONDS - 1:
        assert due_in == 0
