"""What a renewal finds a login to be (alive, dead, revived, barred), and the site as it was in 2025."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

import pytest
from keeping import keeping
from manual_clock import Clock
from polling import until
from renewing import DAY, HOUR, is_current, kept, sign_in

from bridge.state.documents import StateFolder
from bridge.state.state import accounts_document
from upstream.accounts import Account
from upstream.arena import Arena, Session
from upstream.client import SiteUser
from upstream.credentials import Credentials
from upstream.protocol import cookies
from upstream.protocol.errors import Reason, ServerFailed, SessionExpired


async def test_an_account_recovers_from_a_transient_401_at_the_first_check_after_five_seconds(
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


async def test_a_dead_login_expires_its_account_at_one_check_and_is_retried_ever_less_often(
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
    """Return the accounts as a command stores them when this session's cookie is pasted."""
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

        async def refused(credentials: Credentials, *, timeout: float) -> SiteUser | None:
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
        await until(lambda: len(bridge.reads) == 2 and bridge.reads[1].done.is_set())  # the old cookie's call hangs
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


async def test_a_guest_login_or_missing_consent_bars_an_account_without_expiring_it(
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


async def test_the_check_whether_a_login_is_alive_answers_yes_no_or_unknown_with_few_calls(
    arena: Arena, folder: StateFolder, clock: Clock
) -> None:
    (session,) = sign_in(arena)
    async with keeping(arena, folder, clock, session) as bridge:
        account = bridge.account(session)
        assert await bridge.renewals.is_alive(account) is True
        assert await bridge.renewals.is_alive(account) is True
        assert len(bridge.reads) == 2
        arena.faults.arm("server_error", None, on="me")
        assert [await bridge.renewals.is_alive(account) for _ in range(20)] == [None] * 20
        assert len(bridge.reads) == 3  # one call in five seconds
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
        assert await bridge.renewals.is_alive(account) is True  # the account has a new cookie to try
        assert len(bridge.reads) == 5


async def test_an_account_wrongly_marked_as_expired_recovers_within_a_minute(
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


async def test_logins_to_the_site_of_2025_are_renewed_by_reading_its_page(
    folder: StateFolder, clock: Clock, arena: Arena
) -> None:
    arena.era = 2025
    (session,) = sign_in(arena, expires_in=7 * DAY)
    async with keeping(arena, folder, clock, session) as bridge:
        await bridge.look()
        # Neither `/api/me` nor `/text/direct` exists; the bridge then remembers where the page is.
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


async def test_a_401_from_the_page_of_2025_expires_the_account(folder: StateFolder, clock: Clock, arena: Arena) -> None:
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


async def test_reading_the_page_of_2025_does_not_revive_an_expired_account(
    arena: Arena, folder: StateFolder, clock: Clock
) -> None:
    arena.era = 2025
    (session,) = sign_in(arena, expires_in=7 * DAY)
    async with keeping(arena, folder, clock, session) as bridge:
        bridge.state.pool.expire(bridge.account(session))
        await bridge.look()
        assert bridge.account(session).expired
        failing = bridge.renewals.failing(session.user_id)
        assert failing is not None
        assert not isinstance(failing.error, SessionExpired | ServerFailed)
