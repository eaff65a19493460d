"""The status of an account: its findings, the worst first, and whether the account can take a chat."""

from __future__ import annotations

from dataclasses import replace

import pytest
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st

from bridge.accounts.status import AccountStatus, Condition, FailedRenewal, judge, utc, validity
from bridge.diagnosis import ADVICE
from upstream.accounts import BARS, EVERYTHING, Account, AccountPool
from upstream.arena import Arena
from upstream.protocol import cookies
from upstream.protocol.errors import Reason, ServerFailed

RENEWABLE = cookies.decode(Arena().sign_in().cookie_value)
WEEK = cookies.decode(Arena().sign_in(expires_in=7 * 86_400, renewable=False).cookie_value)
NOW = RENEWABLE.expires_at - 1800.0
FAILING = FailedRenewal(NOW - 180, ServerFailed("LMArena failed."), 2)


def conditions(status: AccountStatus) -> list[Condition]:
    return [finding.condition for finding in status.findings]


@pytest.mark.parametrize(
    ("account", "now", "failing", "found"),
    [
        pytest.param(Account("a", RENEWABLE), NOW, None, [], id="all is well"),
        pytest.param(Account("a", RENEWABLE, expired=True), NOW, FAILING, ["expired"], id="expired says all"),
        pytest.param(
            Account("a", RENEWABLE, bar=Reason.GUEST, cooldowns={"chat": NOW + 9}),
            NOW,
            FAILING,
            ["guest", "failing", "resting"],
            id="a guest's whose renewal fails, and that rests",
        ),
        pytest.param(Account("a", WEEK), WEEK.expires_at, None, ["ended"], id="past its end"),
        pytest.param(
            Account("a", WEEK, cooldowns={"image": WEEK.expires_at}),
            WEEK.expires_at - 86_399,
            None,
            ["resting", "ending"],
            id="in its last day",
        ),
        pytest.param(Account("a", WEEK), WEEK.expires_at - 86_400, None, [], id="a full day before its end"),
    ],
)
def test_an_account_s_findings_are_sorted_with_the_worst_first(
    account: Account, now: float, failing: FailedRenewal | None, found: list[str]
) -> None:
    status = judge(account, now, now, failing)
    assert conditions(status) == found == [each for each in Condition if each in found]
    assert status.condition == (found[0] if found else "usable")
    assert status.worst == (status.findings[0] if found else None)


@a_share(of=5)
@given(
    expired=st.booleans(),
    bar=st.sampled_from((None, *BARS)),
    cooldowns=st.dictionaries(st.sampled_from(("chat", "search", "image", EVERYTHING)), st.floats(NOW - 9, NOW + 9)),
    session=st.sampled_from((RENEWABLE, WEEK)),
)
def test_an_account_has_an_obstacle_exactly_when_the_pool_does_not_use_it_for_a_chat(
    expired: bool, bar: Reason | None, cooldowns: dict[str, float], session: cookies.Session
) -> None:
    account = Account("a", session, expired, cooldowns, bar)
    pool = AccountPool(lambda: NOW, lambda: None)
    pool.load([account])
    assert (judge(account, NOW, NOW).obstacle is None) == bool(pool.usable("chat"))


def test_a_cooldown_for_images_is_no_obstacle_to_a_chat() -> None:
    status = judge(Account("a", RENEWABLE, cooldowns={"image": NOW + 29.2}), NOW, NOW)
    assert status.obstacle is None
    assert [finding.clause for finding in status.findings] == ["on cooldown for image for 30 s after a 429"]


def test_cooldowns_use_the_local_clock_and_logins_the_site_s_clock() -> None:
    account = Account("a", WEEK, cooldowns={"chat": WEEK.expires_at})
    assert conditions(judge(account, WEEK.expires_at, WEEK.expires_at - 1)) == ["ending"]
    assert conditions(judge(account, WEEK.expires_at - 1, WEEK.expires_at)) == ["ended", "resting"]


def test_a_finding_states_its_cause_and_the_advice() -> None:
    guest = judge(replace(Account("a", RENEWABLE), bar=Reason.GUEST), NOW, NOW).worst
    assert guest is not None
    assert guest.clause == f"{ADVICE[Reason.GUEST].why}: {ADVICE[Reason.GUEST].now}"


@pytest.mark.parametrize(
    ("session", "now", "said"),
    [
        pytest.param(RENEWABLE, NOW, "renews itself", id="renewable"),
        pytest.param(WEEK, NOW, f"ends for good {utc(WEEK.expires_at)}", id="before its end"),
        pytest.param(WEEK, WEEK.expires_at, f"ended {utc(WEEK.expires_at)} and cannot be renewed", id="past its end"),
    ],
)
def test_a_login_s_validity_is_described_in_words(session: cookies.Session, now: float, said: str) -> None:
    assert validity(session, now, utc) == said
