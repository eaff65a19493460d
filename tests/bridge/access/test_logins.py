"""A login is found by its id alone; it ends by time, by logout or by a new password; and their number is bounded."""

from __future__ import annotations

import math
import re

import pytest
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st
from manual_clock import Clock

from bridge.access.logins import IDLE_SECONDS, LONGEST_SECONDS, MAX_LOGINS, Logins, SetupCode, csrf_matches


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def logins(clock: Clock) -> Logins:
    return Logins(clock)


def test_a_login_is_found_by_its_exact_session_id_only(logins: Logins) -> None:
    session_id, login = logins.begin()
    assert logins.find(session_id) is login
    for other in ("", session_id[:-1], session_id + "a", session_id.swapcase(), login.csrf, "é", "\udcff"):
        assert logins.find(other) is None


def test_session_ids_and_csrf_tokens_are_random_and_fit_a_cookie(logins: Logins) -> None:
    made = [logins.begin() for _ in range(MAX_LOGINS)]
    words = {session_id for session_id, _ in made} | {login.csrf for _, login in made}
    assert len(words) == 2 * MAX_LOGINS
    assert all(re.fullmatch(r"[\w-]{43}", word, re.ASCII) for word in words), "256 bits"


def test_the_stored_logins_reveal_neither_session_ids_nor_csrf_tokens(logins: Logins) -> None:
    session_id, login = logins.begin()
    assert login.csrf not in repr(login)
    assert session_id not in repr(vars(logins))


def test_a_login_ends_after_its_idle_time(logins: Logins, clock: Clock) -> None:
    session_id, _ = logins.begin()
    clock.now = math.nextafter(1000 + IDLE_SECONDS, 0)
    assert logins.find(session_id) is not None, "and seen: the time starts anew"
    clock.now += IDLE_SECONDS - 1
    assert logins.find(session_id) is not None
    clock.now += IDLE_SECONDS
    assert logins.find(session_id) is None
    clock.now -= IDLE_SECONDS
    assert logins.find(session_id) is None, "for good"


def test_a_login_in_constant_use_ends_at_its_maximum_age(logins: Logins, clock: Clock) -> None:
    session_id, _ = logins.begin()
    while clock.now + 60 < 1000 + LONGEST_SECONDS:
        clock.now += 60
        assert logins.find(session_id) is not None
    clock.now = 1000 + LONGEST_SECONDS
    assert logins.find(session_id) is None


def test_a_logout_ends_one_login_and_only_once(logins: Logins) -> None:
    (mine, _), (other, _) = logins.begin(), logins.begin()
    logins.end(mine)
    logins.end(mine)
    logins.end("never begun")
    assert logins.find(mine) is None
    assert logins.find(other) is not None


def test_ending_all_logins_ends_each_of_them(logins: Logins) -> None:
    ids = [logins.begin()[0] for _ in range(2)]
    logins.end_all()
    assert [logins.find(each) for each in ids] == [None, None]


def test_the_least_recently_used_login_ends_when_there_are_too_many(logins: Logins) -> None:
    ids = [logins.begin()[0] for _ in range(MAX_LOGINS)]
    logins.find(ids[0])
    logins.begin()
    assert len(logins) == MAX_LOGINS
    assert logins.find(ids[0]) is not None
    assert logins.find(ids[1]) is None


@a_share(of=4)
@given(st.lists(st.tuples(st.sampled_from(["begin", "find", "end"]), st.integers(0, 9), st.floats(0, 3000))))
def test_logins_begin_and_end_as_in_a_naive_model(steps: list[tuple[str, int, float]]) -> None:
    clock = Clock()
    logins, model = Logins(clock), dict[str, tuple[float, float]]()
    begun: list[str] = []
    for step, number, wait in steps:
        clock.now += wait
        if step == "begin" or not begun:
            begun.append(logins.begin()[0])
            model[begun[-1]] = clock.now, clock.now
            continue
        session_id = begun[number % len(begun)]
        if step == "end":
            logins.end(session_id)
            model.pop(session_id, None)
            continue
        began, seen = model.get(session_id, (-math.inf, -math.inf))
        held = clock.now - seen < IDLE_SECONDS and clock.now - began < LONGEST_SECONDS
        assert (logins.find(session_id) is not None) == held
        if held:
            model[session_id] = began, clock.now


def test_a_csrf_token_is_accepted_for_its_own_login_only(logins: Logins) -> None:
    (session_id, mine), (_, other) = logins.begin(), logins.begin()
    assert csrf_matches(mine, mine.csrf)
    for sent in ("", other.csrf, session_id, mine.csrf[:-1], mine.csrf + "a", "é", "\udcff"):
        assert not csrf_matches(mine, sent)


def test_a_setup_code_is_valid_until_it_is_spent() -> None:
    setup = SetupCode()
    assert re.fullmatch(r"[\w-]{22}", setup.code, re.ASCII), "128 bits, fit for an address"
    assert setup.code != SetupCode().code
    assert setup.code not in repr(setup)
    for wrong in ("", setup.code[:-1], setup.code.swapcase() + "a", "é", "\udcff"):
        assert not setup.matches(wrong)
    assert setup.matches(setup.code)
    assert setup.matches(setup.code), "looked at, not spent"
    setup.spend()
    assert not setup.matches(setup.code)
