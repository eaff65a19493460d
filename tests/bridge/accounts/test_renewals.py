"""Renewals over time: a day, outages, many accounts, and changes of the clock."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from keeping import keeping
from manual_clock import Clock
from polling import until
from renewing import DAY, HOUR, is_current, kept, sign_in

from bridge.accounts.renewals import CONCURRENT_CALLS
from bridge.state.documents import StateFolder
from upstream.arena import Arena
from upstream.credentials import Credentials
from upstream.protocol.renewal import LEAST_WAIT_SECONDS


async def test_logins_with_one_hour_tokens_are_renewed_for_a_whole_day_without_a_gap(
    arena: Arena, folder: StateFolder, clock: Clock
) -> None:
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
        # Four calls an hour: after 30 minutes (`refresh_minutes`), 40, 53 and 58; the site renews at the last one.
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
async def test_an_outage_of_forty_minutes_loses_no_login(
    arena: Arena,
    folder: StateFolder,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    parameters: dict[str, Any],
) -> None:
    sessions = sign_in(arena, 3)
    async with keeping(arena, folder, clock, *sessions) as bridge:
        await bridge.run(1.6 * HOUR)  # the fault begins before the second renewal and outlasts the token
        before = len(bridge.reads)
        arena.faults.arm(fault, None, on="me", **parameters)
        with monkeypatch.context() as patch:
            if fault == "no_headers":  # for this fault only: a real call on a slow machine may take longer
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


async def test_a_daemon_that_was_stopped_for_three_hours_renews_all_logins_at_once(
    arena: Arena, folder: StateFolder, clock: Clock
) -> None:
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


async def test_a_hanging_renewal_of_one_account_delays_no_other_account(
    arena: Arena, folder: StateFolder, clock: Clock
) -> None:
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


async def test_two_hundred_renewals_due_at_once_run_a_few_at_a_time(
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
            await bridge.client.page(timeout=5)  # a later call has been answered
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


@pytest.mark.parametrize("jump", [3 * HOUR, -3 * HOUR, 90.0, -90.0, 30 * DAY, -30 * DAY])
@pytest.mark.parametrize("fault", [None, "server_error", "reset_before_headers"])
async def test_a_change_of_the_local_clock_loses_no_login_and_causes_few_extra_calls(
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


async def test_an_answer_after_a_change_of_the_local_clock_corrects_the_site_clock(
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
