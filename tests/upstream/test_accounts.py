"""The pool of accounts: which one it chooses, and what it records of upstream's answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from upstream.accounts import (
    CLOCK_SET_SECONDS,
    DEFAULT_COOLDOWN_SECONDS,
    EVERYTHING,
    MAX_COOLDOWN_SECONDS,
    Account,
    AccountPool,
)
from upstream.arena import Arena
from upstream.protocol import cookies
from upstream.protocol.errors import AllOnCooldown, NoAccount, PromptFailed, RateLimited, UpstreamError


class Watched:
    """A pool with a clock that only moves on demand."""

    def __init__(self, *labels: str) -> None:
        self.now = 1_000_000.0
        self.ahead = 0.0  # how far the wall clock, which may be set, is ahead of the monotonic clock
        self.changes = 0
        self.pool = AccountPool(lambda: self.now + self.ahead, self._changed, lambda: self.now)
        arena = Arena()
        self.accounts = [Account(label, cookies.decode(arena.sign_in(label).cookie_value)) for label in labels]
        self.pool.load(self.accounts)
        self.arena = arena

    def _changed(self) -> None:
        self.changes += 1

    def chosen(self, count: int, modality: str = "chat") -> list[str]:
        return [self.pool.choose(modality).label for _ in range(count)]


def test_accounts_are_chosen_in_turn() -> None:
    watched = Watched("a", "b", "c")
    assert sorted(watched.chosen(3)) == ["a", "b", "c"]
    assert watched.chosen(6)[:3] == watched.chosen(3)


def test_the_account_with_most_requests_left_is_chosen_unless_it_fails() -> None:
    watched = Watched("a", "b", "c")
    pool, (a, b, c) = watched.pool, (each.user_id for each in watched.accounts)
    for user_id, left in ((a, 5), (b, 9), (c, 9)):
        assert len(set(watched.chosen(6))) == 3, "as long as one is not known, all take turns"
        pool.note_limit(user_id, "chat", (f"limit=10, remaining={left}, reset=60", ""))
    assert set(watched.chosen(6)) == {"b", "c"}
    assert set(watched.chosen(6, "image")) == {"a", "b", "c"}, "of another modality nothing is known"
    assert pool.choose("chat", avoid={b, c}).label == "a"
    pool.hold(watched.accounts[1])
    assert set(watched.chosen(6)) == {"c"}, "a request under way counts as spent"
    pool.note_attempt(c, "chat", failed=True)
    assert set(watched.chosen(6)) == {"a", "b", "c"}
    pool.note_attempt(c, "chat", failed=False)
    watched.now += 60
    pool.release(watched.accounts[1])
    assert set(watched.chosen(6)) == {"a", "b", "c"}, "all are whole again"


def test_a_retry_avoids_an_account_tried_before_while_there_is_another() -> None:
    watched = Watched("a", "b")
    tried = frozenset({watched.accounts[0].user_id})
    assert {watched.pool.choose("chat", avoid=tried).label for _ in range(4)} == {"b"}


def test_a_retry_uses_the_same_account_if_there_is_no_other() -> None:
    watched = Watched("a")
    assert watched.pool.choose("chat", avoid=frozenset({watched.accounts[0].user_id})).label == "a"


def test_an_expired_account_is_kept_and_not_chosen() -> None:
    watched = Watched("a", "b")
    watched.pool.expire(watched.accounts[0])
    assert set(watched.chosen(4)) == {"b"}
    assert [account.expired for account in watched.pool] == [True, False]
    assert watched.changes == 1


def test_the_error_for_no_account_tells_missing_from_expired_accounts() -> None:
    watched = Watched("a")
    watched.pool.expire(watched.accounts[0])
    with pytest.raises(NoAccount, match="expired"):
        watched.pool.choose("chat")
    watched.pool.load([])
    with pytest.raises(NoAccount, match="added"):
        watched.pool.choose("chat")


@pytest.mark.parametrize(("said", "rests"), [(7.0, 7.0), (None, DEFAULT_COOLDOWN_SECONDS), (0.0, 0.0)])
def test_a_429_puts_an_account_on_cooldown_for_its_retry_after(said: float | None, rests: float) -> None:
    watched = Watched("a")
    watched.pool.cool_down(watched.accounts[0], "chat", said)
    if rests:
        with pytest.raises(AllOnCooldown) as caught:
            watched.pool.choose("chat")
        assert caught.value.retry_after == rests
        watched.now += rests
    assert watched.chosen(1) == ["a"]


SET = pytest.mark.parametrize("by", [-18_000.0, -90.0, 90.0, 18_000.0, -9e5, 1e9], ids="{:+g} s".format)


@SET
@pytest.mark.parametrize("modality", ["chat", EVERYTHING])
def test_a_cooldown_keeps_its_length_when_the_clock_is_set(by: float, modality: str) -> None:
    watched = Watched("a")
    watched.pool.cool_down(watched.accounts[0], modality, 60.0)
    watched.now += 20.0
    watched.ahead += by
    with pytest.raises(UpstreamError) as caught:
        watched.pool.choose("chat")
    assert isinstance(caught.value, RateLimited | PromptFailed)
    assert caught.value.retry_after == pytest.approx(40.0)
    watched.now += 39.0
    assert watched.pool.usable("chat") == []
    watched.now += 1.5
    assert watched.chosen(1) == ["a"]


@SET
def test_a_cooldown_as_shown_and_saved_follows_the_clock(by: float) -> None:
    watched = Watched("a", "b")
    watched.pool.cool_down(watched.accounts[0], "chat", 60.0)
    watched.ahead += by
    changes = watched.changes
    (a, b) = watched.pool
    assert a.cooldown_left("chat", watched.now + watched.ahead) == pytest.approx(60.0)
    assert b.cooldowns == {}
    assert watched.changes == changes + 1  # it must be saved, too
    assert watched.pool.get(a.user_id) == a
    assert watched.changes == changes + 1


@SET
def test_a_rate_limit_resets_on_time_although_the_clock_is_set(by: float) -> None:
    watched = Watched("a")
    pool, user_id = watched.pool, watched.accounts[0].user_id
    pool.note_limit(user_id, "chat", ("limit=10, remaining=0, reset=60", ""))
    watched.ahead += by
    watched.now += 59.0
    assert pool.requests_left(user_id, "chat") == 0
    assert pool.limits(user_id)["chat"].at == pytest.approx(watched.now + watched.ahead - 59.0)
    watched.now += 1.5
    assert pool.requests_left(user_id, "chat") == 10


def test_a_clock_that_is_set_repeatedly_does_not_prolong_a_cooldown() -> None:
    watched = Watched("a")
    watched.pool.cool_down(watched.accounts[0], "chat", 60.0)
    for by in (-18_000.0, 36_000.0, -0.4, -0.4, -0.4, 86_400.0, -200_000.0):
        watched.ahead += by
        watched.now += 5.0
        assert not watched.pool.usable("chat")
    watched.now += 60.0 - 7 * 5.0 + 2 * CLOCK_SET_SECONDS
    assert watched.chosen(1) == ["a"]


@SET
def test_a_cooldown_that_begins_after_the_clock_was_set_has_its_full_length(by: float) -> None:
    watched = Watched("a")
    watched.pool.cool_down(watched.accounts[0], "image", 60.0)
    watched.ahead += by
    watched.pool.cool_down(watched.accounts[0], "chat", 7.0)
    (account,) = watched.pool
    now = watched.now + watched.ahead
    assert (account.cooldown_left("chat", now), account.cooldown_left("image", now)) == pytest.approx((7.0, 60.0))


@pytest.mark.parametrize("back", [0.0, 90.0, 18_000.0, 9e5])
def test_no_cooldown_becomes_longer_while_the_daemon_is_stopped(back: float) -> None:
    """The file contains the time at which it was written; a clock with an earlier time has been set back since."""
    watched = Watched("a")
    watched.pool.cool_down(watched.accounts[0], "chat", 60.0)
    (saved,) = watched.pool
    other = Watched("b")
    other.now -= back
    other.pool.load([saved], saved_at=watched.now)
    (account,) = other.pool
    assert account.cooldown_left("chat", other.now) == pytest.approx(60.0)
    other.pool.load([saved], saved_at=other.now - 30.0)  # the time since the file was saved counts
    (account,) = other.pool
    assert account.cooldowns == {"chat": min(saved.cooldowns["chat"], other.now + MAX_COOLDOWN_SECONDS)}


def test_a_cooldown_for_pictures_does_not_stop_chats() -> None:
    watched = Watched("a")
    watched.pool.cool_down(watched.accounts[0], "image", 86_400.0)
    assert watched.chosen(1, "chat") == ["a"]
    with pytest.raises(AllOnCooldown):
        watched.pool.choose("image")


def test_the_retry_after_is_that_of_the_first_account_whose_cooldown_ends() -> None:
    watched = Watched("a", "b")
    watched.pool.cool_down(watched.accounts[0], "chat", 50.0)
    watched.pool.cool_down(watched.accounts[1], "chat", 20.0)
    with pytest.raises(AllOnCooldown) as caught:
        watched.pool.choose("chat")
    assert caught.value.retry_after == 20.0


def test_a_late_401_for_the_cookie_before_a_rotation_does_not_expire_the_account() -> None:
    watched = Watched("a")
    old = watched.accounts[0]
    new_value = watched.arena.sign_in("a").cookie_value
    watched.pool.credentials(old).rotate(new_value)
    watched.pool.expire(old)
    current = watched.pool.get(old.user_id)
    assert current is not None
    assert (current.session.value, current.expired) == (new_value, False)


def test_a_later_success_makes_an_expired_account_usable() -> None:
    watched = Watched("a")
    watched.pool.expire(watched.accounts[0])
    watched.pool.revive(watched.accounts[0])
    assert watched.chosen(1) == ["a"]


def test_requests_that_hold_an_account_are_counted_and_released() -> None:
    watched = Watched("a")
    for held in (1, 2):
        watched.pool.hold(watched.accounts[0])
        assert watched.pool.held == held
    for held in (1, 0):
        watched.pool.release(watched.accounts[0])
        assert watched.pool.held == held


def test_an_account_is_saved_and_loaded_unchanged_and_its_repr_shows_no_cookie() -> None:
    watched = Watched("a")
    watched.pool.cool_down(watched.accounts[0], "image", 5.0)
    account = watched.pool.choose("chat")
    assert Account.from_json(account.to_json()) == account
    assert account.session.value not in repr(account)


@pytest.mark.parametrize("value", [None, [], {}, {"label": "a", "cookie": "base64-x", "expired": False, "resting": {}}])
def test_an_invalid_account_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        Account.from_json(value)


def rotated_to(watched: Watched, label: str) -> cookies.Session:
    """Another cookie of the same user."""
    return cookies.decode(watched.arena.sign_in(label).cookie_value)


def test_a_call_may_rotate_its_accounts_cookie_more_than_once() -> None:
    watched = Watched("a")
    account = watched.accounts[0]
    rotate = watched.pool.credentials(account).rotate
    for _ in range(2):
        session = rotated_to(watched, "a")
        rotate(session.value)
        current = watched.pool.get(account.user_id)
        assert current is not None
        assert current.session == session


def test_a_pasted_cookie_is_not_replaced_by_a_rotation_of_the_previous_one() -> None:
    watched = Watched("a")
    account = watched.accounts[0]
    rotate = watched.pool.credentials(account).rotate
    pasted = replace(account, session=rotated_to(watched, "a"))
    watched.pool.load((pasted,))
    for _ in range(2):
        rotate(rotated_to(watched, "a").value)
        assert list(watched.pool) == [pasted]
    assert watched.changes == 0


def test_accounts_that_are_not_ready_are_chosen_after_ready_ones_and_before_tried_ones() -> None:
    watched = Watched("a", "b", "c")
    a, b, c = (frozenset({account.user_id}) for account in watched.accounts)

    def chosen(avoid: frozenset[str], unready: frozenset[str]) -> set[str]:
        return {watched.pool.choose("chat", avoid=avoid, unready=unready).label for _ in range(6)}

    assert chosen(frozenset(), a) == {"b", "c"}
    assert chosen(a, b) == {"c"}
    assert chosen(a, b | c) == {"b", "c"}
    assert chosen(a | b | c, a) == {"b", "c"}
    assert chosen(frozenset(), a | b | c) == {"a", "b", "c"}


@pytest.mark.parametrize("said", [86_401.0, 999_999_999.0, 1e12, float("inf")])
def test_no_cooldown_lasts_longer_than_a_day(said: float) -> None:
    watched = Watched("a", "b")
    for account, modality in zip(watched.accounts, ("chat", EVERYTHING), strict=True):
        watched.pool.cool_down(account, modality, said)
    assert {account.cooldown_left("chat", watched.now) for account in watched.pool} == {MAX_COOLDOWN_SECONDS}
    watched.now += MAX_COOLDOWN_SECONDS
    assert sorted(watched.chosen(2)) == ["a", "b"]


def test_a_cooldown_saved_by_an_older_version_is_limited_to_a_day() -> None:
    watched = Watched("a")
    rests = {"chat": watched.now + 999_999_999, "image": watched.now + 60, EVERYTHING: float("inf")}
    watched.pool.load([replace(watched.accounts[0], cooldowns=rests)])
    (account,) = watched.pool
    latest = watched.now + MAX_COOLDOWN_SECONDS
    assert account.cooldowns == {"chat": latest, "image": watched.now + 60, EVERYTHING: latest}
    watched.now += 1000
    watched.pool.load(watched.pool)  # as after each change of the file: the rest does not start again
    assert [account.cooldowns["chat"] for account in watched.pool] == [latest]
