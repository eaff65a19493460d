"""Each login has at most one renewal at a time, and its new cookie is on disk before any request uses it."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from asking import Asker
from keeping import Keeping, keeping
from manual_clock import Clock
from polling import until
from renewing import HOUR, is_current, kept, sign_in

from bridge.accounts.renewals import CONCURRENT_CALLS, renewing
from bridge.state.documents import StateFolder
from upstream.arena import Arena, Session
from upstream.protocol.ids import Uuid7Source


async def begin_evaluation(keeping: Keeping, session: Session) -> str:
    """Start an evaluation with the account and return its id."""
    asker = Asker(keeping.arena, keeping.client, session)
    asker.new_id = Uuid7Source(keeping.clock)
    call = asker.create()
    await asker.ask(call)
    return call.evaluation_id


async def test_concurrent_requests_for_one_account_share_one_renewal_call(
    arena: Arena, folder: StateFolder, clock: Clock
) -> None:
    (session,) = sign_in(arena, expires_in=-10.0)
    old = session.cookie_value
    async with keeping(arena, folder, clock, session) as bridge:
        account = bridge.account(session)
        assert bridge.renewals.must_wait(account)
        fresh = await asyncio.gather(*(bridge.renewals.fresh(account) for _ in range(200)))
        assert {each.session.value for each in fresh} == {session.cookie_value} != {old}
        assert not bridge.renewals.must_wait(fresh[0])
        assert (len(bridge.reads), session.refreshes, kept(session)) == (1, 1, True)


async def test_a_request_that_is_cancelled_while_waiting_does_not_cancel_the_renewal(
    arena: Arena, folder: StateFolder, clock: Clock
) -> None:
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


async def test_requests_wait_for_a_renewal_no_longer_than_connect_timeout(
    arena: Arena, folder: StateFolder, clock: Clock
) -> None:
    (session,) = sign_in(arena, expires_in=-10.0)
    release = asyncio.Event()
    async with keeping(arena, folder, clock, session, connect_timeout=0.3) as bridge:
        arena.faults.arm("no_headers", on="me", release=release)
        account = bridge.account(session)
        async with asyncio.timeout(10):
            for _ in range(100):  # in sequence: the timeout counts from the start of the shared call
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


async def test_cancelling_a_read_that_may_renew_a_cookie_stops_it_only_before_its_turn(
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


async def test_a_rotated_cookie_is_on_disk_before_a_request_gets_it(
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
    monkeypatch.setattr("bridge.state.saving.FIRST_DELAY_SECONDS", 0.001)
    (session,) = sign_in(arena, expires_in=-10.0)
    async with keeping(arena, folder, clock, session) as bridge:
        blocked = folder.path / ".accounts.json.tmp"
        blocked.mkdir()  # a folder in the place of the temporary file makes every save fail
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
        assert len(bridge.reads) == CONCURRENT_CALLS  # the waiting renewals have not used their tokens
        assert sum(session.refreshes for session in sessions) == CONCURRENT_CALLS
    for session in sessions:
        assert kept(session)
        assert (await bridge.on_disk(session)).session.value == session.cookie_value


async def test_leaving_the_renewing_context_lets_running_renewals_finish(
    arena: Arena, folder: StateFolder, clock: Clock
) -> None:
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


async def test_shutdown_waits_for_a_hanging_renewal_only_for_a_limited_time(
    arena: Arena, folder: StateFolder, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.accounts.renewals.SHUTDOWN_SECONDS", 0.05)
    (session,) = sign_in(arena, expires_in=-10.0)
    async with keeping(arena, folder, clock, session) as bridge:
        arena.faults.arm("no_headers", None, on="me")
        bridge.renewals.start_due()
        await until(lambda: len(bridge.reads) == 1)
        await bridge.renewals.finish()
        assert len(bridge.tasks) == 1  # left to the owner of the tasks
    assert kept(session)
