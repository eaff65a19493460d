"""How logins are kept alive: by which calls, one at a time for each, and what their answers make of the accounts."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from asking import Asker
from keeping import Keeping, keeping
from manual_clock import Clock

from bridge.accounts.renewals import CONCURRENT_CALLS, renewing
from bridge.state.documents import StateFolder
from bridge.state.state import accounts_document
from upstream.accounts import Account
from upstream.arena import Arena, Session
from upstream.client import Me
from upstream.credentials import Credentials
from upstream.protocol import cookies
from upstream.protocol.errors import Reason, ServerFailed, SessionExpired
from upstream.protocol.ids import Uuid7Source
from upstream.protocol.renewal import LEAST_WAIT_SECONDS

HOUR = 3600.0
DAY = 24 * HOUR


@pytest.fixture
def clock(arena: Arena) -> Clock:
    """The site's time, moved by the test."""
    clock = arena.clock = Clock()
    clock.now = 1_800_000_000.0
    return clock


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path / "state")


def sign_in(arena: Arena, number: int = 1, expires_in: float = HOUR) -> tuple[Session, ...]:
    """So many accounts, with tokens of an hour unless `expires_in` is said."""
    return tuple(arena.sign_in(f"user{at}@example.org", expires_in=expires_in) for at in range(number))


def kept(session: Session) -> bool:
    """Whether the site still has the login, and never saw one of its refresh tokens twice."""
    return session.alive and not session.revoked and session.spent_twice == 0


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 — nothing tells of it
        await asyncio.sleep(0.001)


async def begin_evaluation(keeping: Keeping, session: Session) -> str:
    """Ask something with the account; return the id of what the site keeps of it."""
    asker = Asker(keeping.arena, keeping.client, session)
    asker.new_id = Uuid7Source(keeping.clock)
    call = asker.create()
    await asker.ask(call)
    return call.evaluation_id


async def is_current(keeping: Keeping, session: Session) -> bool:
    """Whether memory and disk have the cookie that the site knows."""
    return {
        keeping.account(session).session.value,
        (await keeping.on_disk(session)).session.value,
    } == {session.cookie_value}


# --- a day ---


async def test_a_day_of_tokens_of_an_hour(arena: Arena, folder: StateFolder, clock: Clock) -> None:
    sessions = sign_in(arena, 3)
    async with keeping(arena, folder, clock, *sessions) as bridge:
        ended = 0
        for _ in range(24 * 60):
            await bridge.run(60)
            ended += sum(session.expires_at <= clock.now for session in sessions)
        assert ended == 0
        for session in sessions:
            assert kept(session)
            assert 24 <= session.refreshes <= 26
            assert await is_current(bridge, session)
            assert not bridge.account(session).expired
            assert bridge.renewals.failing(session.user_id) is None
        # Each hour: after 30 minutes (`refresh_minutes`), 40, 53 and 58, when the site renews.
        assert Counter(call.account for call in bridge.reads).most_common()[0][1] <= 4 * 26
        assert len(bridge.reads) <= 3 * 4 * 26


@pytest.mark.parametrize(
    ("fault", "parameters"),
    [
        ("server_error", {"status": 500}),
        ("server_error", {"status": 503}),
        ("challenge", {}),
        ("reset_before_headers", {}),
        ("no_headers", {}),
        ("rate_limited", {"retry_after": "1200"}),
        ("rate_limited", {"retry_after": None}),
        ("expired", {}),
        ("login_redirect", {}),
    ],
    ids=str,
)
async def test_forty_minutes_without_a_renewal_lose_no_login(
    arena: Arena,
    folder: StateFolder,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    parameters: dict[str, Any],
) -> None:
    sessions = sign_in(arena, 3)
    async with keeping(arena, folder, clock, *sessions) as bridge:
        await bridge.run(1.6 * HOUR)  # the trouble will begin before the second renewal, and outlast the token
        before = len(bridge.reads)
        arena.faults.arm(fault, None, on="me", **parameters)
        with monkeypatch.context() as patch:
            if fault == "no_headers":  # only now: nothing is answered, however slow the machine is
                patch.setattr("bridge.accounts.renewals.CALL_SECONDS", 0.05)
            await bridge.run(40 * 60)
        assert [session.refreshes for session in sessions] == [1, 1, 1]
        refused = fault in ("expired", "login_redirect")
        for session in sessions:
            failing = bridge.renewals.failing(session.user_id)
            assert failing is not None
            assert clock.now - 40 * 60 <= failing.since < clock.now - 15 * 60
            assert bridge.account(session).expired is refused
        during = len(bridge.reads) - before
        assert during <= 3 * 16
        arena.faults.clear()
        await bridge.run(1200 if fault == "rate_limited" else 1800 if refused else 300)
        for session in sessions:
            assert kept(session)
            assert session.refreshes == 2
            assert await is_current(bridge, session)
            assert not bridge.account(session).expired
            assert bridge.renewals.failing(session.user_id) is None


async def test_a_daemon_that_was_stopped_for_three_hours(arena: Arena, folder: StateFolder, clock: Clock) -> None:
    sessions = sign_in(arena, 3)
    async with keeping(arena, folder, clock, *sessions) as bridge:
        await bridge.run(1.5 * HOUR)
    clock.now += 3 * HOUR
    before = len(arena.calls)
    async with keeping(arena, folder, clock) as bridge:
        await bridge.look()
        assert len(arena.calls) - before == 3
        for session in sessions:
            assert kept(session)
            assert session.refreshes == 2
            assert session.expires_at == clock.now + HOUR
            assert await is_current(bridge, session)
        await bridge.run(2 * HOUR)
        assert [(kept(session), session.refreshes) for session in sessions] == [(True, 4)] * 3


# --- one call at a time ---


async def test_many_who_need_an_account_share_one_call(arena: Arena, folder: StateFolder, clock: Clock) -> None:
    (session,) = sign_in(arena, expires_in=-10.0)
    old = session.cookie_value
    async with keeping(arena, folder, clock, session) as bridge:
        account = bridge.account(session)
        assert bridge.renewals.must_wait(account)
        fresh = await asyncio.gather(*(bridge.renewals.fresh(account) for _ in range(200)))
        assert {each.session.value for each in fresh} == {session.cookie_value} != {old}
        assert not bridge.renewals.must_wait(fresh[0])
        assert (len(bridge.reads), session.refreshes, kept(session)) == (1, 1, True)


async def test_who_leaves_while_waiting_cancels_nothing(arena: Arena, folder: StateFolder, clock: Clock) -> None:
    (session,) = sign_in(arena, expires_in=-10.0)
    release = asyncio.Event()
    async with keeping(arena, folder, clock, session) as bridge:
        arena.faults.arm("no_headers", on="me", release=release)
        waiting = [bridge.aside.spawn(bridge.renewals.fresh(bridge.account(session)), name="wait") for _ in range(3)]
        await until(lambda: len(bridge.reads) == 1)
        waiting[0].cancel()
        await asyncio.wait(waiting[:1])
        release.set()
        assert (await waiting[1]).session.value == (await waiting[2]).session.value == session.cookie_value
        assert not bridge.reads[0].closed.is_set()
        assert (len(bridge.reads), session.refreshes, kept(session)) == (1, 1, True)


async def test_requests_wait_for_a_renewal_for_connect_timeout_at_most(
    arena: Arena, folder: StateFolder, clock: Clock
) -> None:
    (session,) = sign_in(arena, expires_in=-10.0)
    release = asyncio.Event()
    async with keeping(arena, folder, clock, session, connect_timeout=0.3) as bridge:
        arena.faults.arm("no_headers", on="me", release=release)
        account = bridge.account(session)
        async with asyncio.timeout(10):
            for _ in range(100):  # one after the other: they wait for the same call, not each from its own beginning
                assert await bridge.renewals.fresh(account) == account
        assert await bridge.renewals.is_alive(account) is None
        assert bridge.renewals.unready() == {session.user_id}
        assert await bridge.renewals.read(account, partial(bridge.client.history, "x", timeout=5)) is None
        assert (len(bridge.reads), [call.kind for call in arena.calls]) == (1, ["me"])
        release.set()
        await bridge.settled()
        assert await is_current(bridge, session)
        assert (bridge.renewals.unready(), session.refreshes, kept(session)) == (frozenset(), 1, True)


async def test_reads_of_evaluations_take_turns_with_renewals(arena: Arena, folder: StateFolder, clock: Clock) -> None:
    (session,) = sign_in(arena)
    async with keeping(arena, folder, clock, session) as bridge:
        evaluation = await begin_evaluation(bridge, session)
        clock.now += HOUR - 200  # any authenticated GET renews from now on
        account = bridge.account(session)
        assert not bridge.renewals.must_wait(account)
        read = partial(bridge.client.history, evaluation, timeout=5)
        bridge.renewals.start_due()
        found = await asyncio.gather(*(bridge.renewals.read(account, read) for _ in range(20)))
        assert all(document is not None for document in found)
        assert (session.refreshes, kept(session)) == (1, True)
        assert await is_current(bridge, session)


async def test_who_leaves_a_read_that_may_renew_cancels_it_only_before_its_turn(
    arena: Arena, folder: StateFolder, clock: Clock
) -> None:
    (session,) = sign_in(arena)
    release = asyncio.Event()
    async with keeping(arena, folder, clock, session) as bridge:
        evaluation = await begin_evaluation(bridge, session)
        clock.now += HOUR - 200
        arena.faults.arm("no_headers", on="evaluation", release=release)
        read = partial(bridge.client.history, evaluation, timeout=5)
        account = bridge.account(session)
        reading = [bridge.aside.spawn(bridge.renewals.read(account, read), name="read") for _ in range(2)]
        await until(lambda: arena.calls[-1].kind == "evaluation")
        for task in reading:
            task.cancel()
        await asyncio.wait(reading)
        release.set()
        await bridge.settled()
        assert [call.kind for call in arena.calls] == ["create", "evaluation"]
        assert (session.refreshes, kept(session)) == (1, True)
        assert await is_current(bridge, session)


# --- memory, then disk, then use ---


async def test_a_rotated_cookie_is_on_disk_before_anybody_gets_it(
    arena: Arena, folder: StateFolder, clock: Clock
) -> None:
    (session,) = sign_in(arena, expires_in=-10.0)
    async with keeping(arena, folder, clock, session) as bridge:
        fresh = await bridge.renewals.fresh(bridge.account(session))
        assert fresh.session.value == session.cookie_value
        assert await bridge.on_disk(session) == fresh


async def test_a_cookie_that_could_not_be_saved_is_saved_later(
    arena: Arena, folder: StateFolder, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("bridge.state.saving.FIRST_PAUSE_SECONDS", 0.001)
    (session,) = sign_in(arena, expires_in=-10.0)
    async with keeping(arena, folder, clock, session) as bridge:
        blocked = folder.path / ".accounts.json.tmp"
        blocked.mkdir()  # nothing can be written there
        fresh = await bridge.renewals.fresh(bridge.account(session))
        assert fresh.session.value == session.cookie_value
        for _ in range(3):
            await bridge.state.flush()
        assert sum("accounts are not saved" in line for line in caplog.messages) == 1
        assert (await bridge.on_disk(session)).session.value != session.cookie_value
        bridge.aside.spawn(bridge.state.save(), name="save")
        blocked.rmdir()
        await until(lambda: session.cookie_value in (folder.path / "accounts.json").read_text())


async def test_shutdown_lets_a_running_renewal_finish_and_starts_none(
    arena: Arena, folder: StateFolder, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.accounts.renewals.SHUTDOWN_SECONDS", 5.0)
    sessions = sign_in(arena, CONCURRENT_CALLS + 5, expires_in=-10.0)
    release = asyncio.Event()
    async with keeping(arena, folder, clock, *sessions) as bridge:
        arena.faults.arm("no_headers", None, on="me", release=release)
        bridge.renewals.start_due()
        await until(lambda: len(bridge.reads) == CONCURRENT_CALLS)
        ending = bridge.aside.spawn(bridge.renewals.finish(), name="end")
        await asyncio.sleep(0)
        release.set()
        await ending
        assert not tuple(bridge.tasks)
        assert len(bridge.reads) == CONCURRENT_CALLS  # the others were waiting, and have spent nothing
        assert sum(session.refreshes for session in sessions) == CONCURRENT_CALLS
    for session in sessions:
        assert kept(session)
        assert (await bridge.on_disk(session)).session.value == session.cookie_value


async def test_the_owner_of_renewals_lets_them_finish(arena: Arena, folder: StateFolder, clock: Clock) -> None:
    (session,) = sign_in(arena, expires_in=-10.0)
    release = asyncio.Event()

    async def release_during_the_end() -> None:
        await asyncio.sleep(0.05)
        release.set()

    async with keeping(arena, folder, clock, session) as bridge:
        arena.faults.arm("no_headers", on="me", release=release)
        async with renewing(bridge.client, bridge.state.pool, lambda: bridge.config, bridge.state.flush) as renewals:
            renewals.start_due()
            await until(lambda: len(bridge.reads) == 1)
            bridge.aside.spawn(release_during_the_end(), name="release")
        assert session.refreshes == 1
        assert await is_current(bridge, session)


async def test_shutdown_does_not_wait_for_unfinished_bodies(
    arena: Arena, folder: StateFolder, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.accounts.renewals.SHUTDOWN_SECONDS", 0.05)
    (session,) = sign_in(arena, expires_in=-10.0)
    async with keeping(arena, folder, clock, session) as bridge:
        arena.faults.arm("no_headers", None, on="me")
        bridge.renewals.start_due()
        await until(lambda: len(bridge.reads) == 1)
        await bridge.renewals.finish()
        assert len(bridge.tasks) == 1  # its owner ends it
    assert kept(session)


# --- what a login turns out to be ---


async def test_a_passing_401_is_over_at_the_next_look_after_five_seconds(
    arena: Arena, folder: StateFolder, clock: Clock
) -> None:
    (session,) = sign_in(arena)
    async with keeping(arena, folder, clock, session) as bridge:
        arena.faults.arm("expired", on="me")
        await bridge.look()
        assert bridge.account(session).expired
        clock.now += 4.9
        await bridge.look()
        assert len(bridge.reads) == 1
        clock.now += 0.2
        await bridge.look()
        assert (len(bridge.reads), bridge.account(session).expired) == (2, False)
        assert bridge.renewals.failing(session.user_id) is None


async def test_a_dead_login_is_marked_by_one_look_and_asked_about_ever_more_seldom(
    arena: Arena, folder: StateFolder, clock: Clock
) -> None:
    dead, alive = sign_in(arena, 2)
    arena.expire(dead)
    async with keeping(arena, folder, clock, dead, alive) as bridge:
        await bridge.look()
        assert [bridge.account(each).expired for each in (dead, alive)] == [True, False]
        assert (await bridge.on_disk(dead)).expired
        failing = bridge.renewals.failing(dead.user_id)
        assert failing is not None
        assert isinstance(failing.error, SessionExpired)
        await bridge.run(DAY)
        asked = [call for call in bridge.reads if call.session is None]
        assert len(asked) <= 9 + 48  # doubling from 5 s to half an hour
        assert kept(alive)


async def test_a_pasted_cookie_revives_a_dead_login_at_once(arena: Arena, folder: StateFolder, clock: Clock) -> None:
    (dead,) = sign_in(arena)
    arena.expire(dead)
    async with keeping(arena, folder, clock, dead) as bridge:
        await bridge.run(HOUR)
        again = arena.sign_in(dead.email)
        before = len(bridge.reads)
        await bridge.state.update_accounts(partial(pasted, again))
        assert not bridge.account(again).expired
        assert bridge.renewals.failing(again.user_id) is None
        await bridge.look()
        assert len(bridge.reads) == before + 1
        assert bridge.reads[-1].session is again
        assert not bridge.account(again).expired


def pasted(session: Session, found: tuple[Account, ...]) -> tuple[Account, ...]:
    """What a command makes of the accounts when a cookie is pasted."""
    new = cookies.decode(session.cookie_value)
    return tuple(
        replace(each, session=new, expired=False, bar=None) if each.user_id == session.user_id else each
        for each in found
    )


@pytest.mark.parametrize("comes", ["the answer", "a refusal"])
async def test_a_cookie_pasted_while_the_old_one_is_renewed_is_kept_and_checked_at_once(
    arena: Arena, folder: StateFolder, clock: Clock, comes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (old,) = sign_in(arena, expires_in=-10.0)
    old_cookie, release = old.cookie_value, asyncio.Event()
    async with keeping(arena, folder, clock, old) as bridge:
        ask = bridge.client.me

        async def refused(credentials: Credentials, *, timeout: float) -> Me | None:
            shown = credentials.session
            me = await ask(credentials, timeout=timeout)
            if shown == old_cookie:
                raise SessionExpired("no")
            return me

        if comes == "a refusal":
            monkeypatch.setattr(bridge.client, "me", refused)
        arena.faults.arm("no_headers", on="me", release=release)
        bridge.renewals.start_due()
        await until(lambda: len(bridge.reads) == 1)
        new = arena.sign_in(old.email)
        await accounts_document(folder).update(partial(pasted, new))
        await bridge.state.flush()
        await bridge.state.update_accounts(lambda found: found)
        bridge.renewals.start_due()
        await until(lambda: len(bridge.reads) == 2 and bridge.reads[1].done.is_set())  # though the old one's hangs
        assert bridge.reads[1].session is new
        release.set()
        await bridge.settled()
        assert await is_current(bridge, new)
        assert not bridge.account(new).expired
        assert bridge.renewals.failing(new.user_id) is None
        assert await bridge.renewals.is_alive(bridge.account(new)) is True
        await bridge.run(2 * HOUR)
        assert kept(new)
        assert await is_current(bridge, new)


async def test_guests_and_missing_consent_bar_an_account_without_expiring_it(
    arena: Arena, folder: StateFolder, clock: Clock
) -> None:
    guest = arena.sign_in("visitor", guest=True)
    waiting = arena.sign_in(consented=False)
    async with keeping(arena, folder, clock, guest, waiting) as bridge:
        await bridge.look()
        assert [bridge.account(each).bar for each in (guest, waiting)] == [Reason.GUEST, Reason.TERMS]
        assert not any(account.expired for account in bridge.state.pool)
        waiting.consented = True
        await bridge.run(HOUR)
        assert [bridge.account(each).bar for each in (guest, waiting)] == [Reason.GUEST, None]


async def test_asking_whether_a_login_is_alive(arena: Arena, folder: StateFolder, clock: Clock) -> None:
    (session,) = sign_in(arena)
    async with keeping(arena, folder, clock, session) as bridge:
        account = bridge.account(session)
        assert await bridge.renewals.is_alive(account) is True
        assert await bridge.renewals.is_alive(account) is True
        assert len(bridge.reads) == 2
        arena.faults.arm("server_error", None, on="me")
        assert [await bridge.renewals.is_alive(account) for _ in range(20)] == [None] * 20
        assert len(bridge.reads) == 3  # not again before five seconds have passed
        clock.now += 5
        assert await bridge.renewals.is_alive(account) is None
        assert len(bridge.reads) == 4
        arena.faults.clear()
        arena.expire(session)
        clock.now += 5
        assert await bridge.renewals.is_alive(account) is False
        assert bridge.account(session).expired
        assert await bridge.renewals.is_alive(account) is False
        assert len(bridge.reads) == 5
        again = arena.sign_in(session.email)
        await bridge.state.update_accounts(partial(pasted, again))
        assert await bridge.renewals.is_alive(account) is True  # another cookie: try that
        assert len(bridge.reads) == 5


async def test_an_account_marked_although_its_login_is_well_comes_back_within_a_minute(
    arena: Arena, folder: StateFolder, clock: Clock
) -> None:
    (session,) = sign_in(arena)
    async with keeping(arena, folder, clock, session) as bridge:
        await bridge.look()
        clock.now += 10
        bridge.state.pool.expire(bridge.account(session))
        await bridge.run(49)
        assert bridge.account(session).expired
        await bridge.run(2)
        assert not bridge.account(session).expired
        assert len(bridge.reads) == 2


# --- many accounts, and one that hangs ---


async def test_an_account_that_hangs_holds_up_no_other(arena: Arena, folder: StateFolder, clock: Clock) -> None:
    stuck, *others = sign_in(arena, 4)
    async with keeping(arena, folder, clock, stuck, *others) as bridge:
        arena.faults.arm("no_headers", None, on="me", account=stuck.user_id)
        for _ in range(3 * 60):
            bridge.renewals.start_due()
            await until(lambda: bridge.renewals.unready() <= {stuck.user_id})
            clock.now += 60
        assert [session.refreshes for session in others] == [3, 3, 3]
        assert all(kept(session) for session in (stuck, *others))
        assert len([call for call in bridge.reads if call.session is stuck]) == 1


async def test_two_hundred_that_are_due_at_once_are_asked_about_a_few_at_a_time(
    arena: Arena, folder: StateFolder, clock: Clock
) -> None:
    sessions = sign_in(arena, 200, expires_in=-10.0)
    async with keeping(arena, folder, clock, *sessions) as bridge:
        release = asyncio.Event()
        arena.faults.arm("no_headers", None, on="me", release=release)
        bridge.renewals.start_due()
        await until(lambda: len(bridge.reads) == CONCURRENT_CALLS <= 8)
        for _ in range(3):
            bridge.renewals.start_due()
            await bridge.client.page(timeout=5)  # a call that came later has been answered
        assert len(bridge.reads) == CONCURRENT_CALLS
        release.set()
        await bridge.settled()
        assert len(bridge.reads) == 200
        assert all(kept(session) and session.refreshes == 1 for session in sessions)
        assert 0 < bridge.renewals.start_due() <= 30
        assert len(bridge.tasks) == 0


async def test_an_unexpected_error_causes_no_storm_of_calls(
    arena: Arena, folder: StateFolder, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    (session,) = sign_in(arena)
    async with keeping(arena, folder, clock, session) as bridge:
        calls = 0

        async def broken(_: Credentials, **__: float) -> None:
            nonlocal calls
            calls += 1
            raise RuntimeError("a bug")

        monkeypatch.setattr(bridge.client, "me", broken)
        bridge.aside.spawn(bridge.renewals.keep(), name="keep")
        for _ in range(3):
            await until(lambda: not bridge.renewals.unready() and calls > 0)
            bridge.renewals.wake()
            await bridge.client.page(timeout=5)
        assert calls == 1
        clock.now += LEAST_WAIT_SECONDS
        bridge.renewals.wake()
        await until(lambda: calls == 2)


# --- clocks ---


@pytest.mark.parametrize("jump", [3 * HOUR, -3 * HOUR, 90.0, -90.0, 30 * DAY, -30 * DAY])
@pytest.mark.parametrize("fault", [None, "server_error", "reset_before_headers"])
async def test_the_machines_clock_is_set_to_another_time(
    arena: Arena, folder: StateFolder, clock: Clock, jump: float, fault: str | None
) -> None:
    sessions = sign_in(arena, 3)
    async with keeping(arena, folder, clock, *sessions) as bridge:
        await bridge.run(1.2 * HOUR)
        before = len(bridge.reads)
        bridge.wall.ahead = jump
        if fault is not None:
            arena.faults.arm(fault, 3, on="me")
        await bridge.run(60)
        assert len(bridge.reads) - before <= 3 * (1 if fault is None else 4)
        bridge.wall.ahead = 0.0
        await bridge.run(60)
        assert len(bridge.reads) - before <= 3 * (2 if fault is None else 5)
        await bridge.run(3 * HOUR)
        for session in sessions:
            assert kept(session)
            assert session.expires_at > clock.now
            assert await is_current(bridge, session)
            assert not bridge.account(session).expired


async def test_an_answer_right_after_the_clock_was_set_puts_it_right(
    arena: Arena, folder: StateFolder, clock: Clock
) -> None:
    sessions = sign_in(arena, 3)
    async with keeping(arena, folder, clock, *sessions) as bridge:
        for ahead in (3 * HOUR, 0.0, -3 * HOUR, 0.0):
            await bridge.look()
            before = len(bridge.reads)
            bridge.wall.ahead = ahead
            await bridge.look()
            assert len(bridge.reads) - before in (0, 3)
            await bridge.client.page(timeout=5)
            assert abs(bridge.client.clock() - clock.now) <= 1
        await bridge.run(3 * HOUR)
        assert [(kept(session), session.refreshes) for session in sessions] == [(True, 3)] * 3


# --- the site of 2025 ---


async def test_the_site_of_2025_is_kept_alive_by_its_page(folder: StateFolder, clock: Clock, arena: Arena) -> None:
    arena.era = 2025
    (session,) = sign_in(arena, expires_in=7 * DAY)
    async with keeping(arena, folder, clock, session) as bridge:
        await bridge.look()
        # No `/api/me`, no `/text/direct`; from then on it is known where the page is.
        assert [call.kind for call in arena.calls if call.session is session] == ["unknown", "unknown", "page"]
        arena.calls.clear()
        clock.now += HOUR / 2
        await bridge.look()
        assert [call.kind for call in arena.calls if call.session is session] == ["unknown", "page"]
        for pieces in (False, True):
            arena.rotate(session, pieces)
            old = session.cookie_value
            await bridge.run(HOUR)
            assert session.cookie_value != old
            assert await is_current(bridge, session)
        assert not bridge.account(session).expired
        assert bridge.renewals.failing(session.user_id) is None


async def test_a_401_of_the_page_of_2025_marks_the_account(folder: StateFolder, clock: Clock, arena: Arena) -> None:
    arena.era = 2025
    (session,) = sign_in(arena, expires_in=7 * DAY)
    async with keeping(arena, folder, clock, session) as bridge:
        await bridge.look()
        arena.expire(session)
        await bridge.run(HOUR)
        assert bridge.account(session).expired
        again = arena.sign_in(session.email)
        await bridge.state.update_accounts(partial(pasted, again))
        await bridge.look()
        assert not bridge.account(again).expired


async def test_reading_the_page_does_not_revive_an_account(arena: Arena, folder: StateFolder, clock: Clock) -> None:
    arena.era = 2025
    (session,) = sign_in(arena, expires_in=7 * DAY)
    async with keeping(arena, folder, clock, session) as bridge:
        bridge.state.pool.expire(bridge.account(session))
        await bridge.look()
        assert bridge.account(session).expired
        failing = bridge.renewals.failing(session.user_id)
        assert failing is not None
        assert not isinstance(failing.error, SessionExpired | ServerFailed)
