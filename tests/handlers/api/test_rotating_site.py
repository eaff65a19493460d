"""No cookie is lost when the site replaces it while callers leave or come by the hundred, or the bridge stops."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
from caller import Caller, calling
from leaving import nobody_returns
from pictures import png, user_with
from polling import until
from running import RunningBridge, running_bridge

from bridge.state.state import accounts_document
from upstream.arena import Arena, Session

PARALLEL = 200


def current(bridge: RunningBridge, session: Session) -> bool:
    """Whether the bridge holds the account's current cookie."""
    account = bridge.state.pool.get(session.user_id)
    return account is not None and account.session.value == session.cookie_value and not account.expired


def seeing(bridge: RunningBridge) -> str:
    """A model that takes pictures."""
    return next(model.public_name for model in bridge.arena.models if "image" in model.inputs)


# --- every answer replaces the cookie ---


@pytest.mark.parametrize(("accounts", "pieces"), [(1, False), (1, True), (3, False)])
async def test_many_chats_are_answered_while_every_answer_replaces_the_cookie(
    arena: Arena, tmp_path: Path, accounts: int, pieces: bool
) -> None:
    sessions = tuple(arena.sign_in(f"user{at}@example.org") for at in range(accounts))
    async with (
        running_bridge(arena, tmp_path / "state", sessions=sessions, key_options={"concurrency": PARALLEL}) as bridge,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
    ):
        bridge.http = http  # its own session is limited to a hundred connections
        await bridge.logins_checked()
        arena.faults.arm("rotate_cookie", None, pieces=pieces)

        async def ask(at: int) -> int:
            async with await bridge.post(bridge.chat(f"/say answer {at}", stream=at % 2 == 0)) as response:
                text = await response.text()
                assert at % 2 == 0 or f"answer {at}" in text
                return response.status

        assert Counter(await asyncio.gather(*map(ask, range(PARALLEL)))) == {200: PARALLEL}
        assert all(current(bridge, session) for session in sessions)
        assert len(arena.chats) <= PARALLEL * 3  # few are refused, since calls take turns


async def test_pictures_are_uploaded_while_every_answer_replaces_the_cookie(arena: Arena, tmp_path: Path) -> None:
    (session,) = sessions = (arena.sign_in(),)
    async with running_bridge(arena, tmp_path / "state", sessions=sessions) as bridge:
        await bridge.logins_checked()
        for kind in ("action", "stream"):
            arena.faults.arm("rotate_cookie", None, on=kind)

        async def ask(at: int) -> int:
            picture = user_with(f"/say {at}", png(at))
            async with await bridge.post(bridge.chat(model=seeing(bridge), messages=[picture])) as response:
                return response.status

        assert Counter(await asyncio.gather(*map(ask, range(10)))) == {200: 10}
        assert current(bridge, session)


# --- callers that leave ---


@pytest.mark.parametrize("leave", [Caller.leave, Caller.vanish], ids=["close", "reset"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_a_rotated_cookie_is_kept_although_the_caller_leaves(
    arena: Arena, tmp_path: Path, stream: bool, leave: Callable[[Caller], None]
) -> None:
    (session,) = sessions = (arena.sign_in(),)
    async with running_bridge(arena, tmp_path / "state", sessions=sessions) as bridge:
        await bridge.logins_checked()
        for at in range(5):
            release = asyncio.Event()
            arena.rotate(session)
            arena.faults.arm("no_headers", release=release)
            async with calling(bridge.origin, bridge.key) as caller:
                await caller.ask(bridge.chat(f"hello {at}", stream=stream))
                await until(lambda at=at: len(arena.chats) == at + 1)  # type: ignore[misc]
                leave(caller)
                await nobody_returns(bridge)
                await until(lambda: bridge.calls_held == 0)  # slot and account are free
            assert not current(bridge, session)
            release.set()
            await until(lambda: current(bridge, session))
            on_disk = accounts_document(bridge.folder)
            await bridge.state.flush()
            assert [account.session.value for account in await on_disk.load()] == [session.cookie_value]


@pytest.mark.parametrize("kind", ["upload-url", "sign"])
async def test_a_rotated_cookie_is_kept_although_the_caller_leaves_during_an_upload(
    arena: Arena, tmp_path: Path, kind: str
) -> None:
    (session,) = sessions = (arena.sign_in(),)
    async with running_bridge(arena, tmp_path / "state", sessions=sessions) as bridge:
        await bridge.logins_checked()
        release = asyncio.Event()
        arena.faults.arm("no_headers", on=kind, release=release)
        async with calling(bridge.origin, bridge.key) as caller:
            await caller.ask(bridge.chat(model=seeing(bridge), messages=[user_with("hello", png())]))
            await until(lambda: any(call.kind == kind for call in arena.calls))
            arena.rotate(session)
            caller.leave()
            await nobody_returns(bridge)
            await until(lambda: bridge.calls_held == 0)
        before = session.cookie_value
        release.set()
        await until(lambda: session.cookie_value != before and current(bridge, session))


@pytest.mark.parametrize("setting", ["first_byte_timeout", "upload_timeout"])
async def test_a_rotated_cookie_is_kept_although_the_call_times_out(arena: Arena, tmp_path: Path, setting: str) -> None:
    (session,) = sessions = (arena.sign_in(),)
    overrides = {"upstream": {setting: 0.2}}
    kind = "stream" if setting == "first_byte_timeout" else "upload-url"
    async with running_bridge(arena, tmp_path / "state", overrides, sessions=sessions) as bridge:
        await bridge.logins_checked()
        release = asyncio.Event()
        arena.rotate(session)
        arena.faults.arm("no_headers", on=kind, release=release)
        content = user_with("hello", png()) if kind == "upload-url" else {"role": "user", "content": "hello"}
        async with await bridge.post(bridge.chat(model=seeing(bridge), messages=[content])) as response:
            assert response.status in (200, 502, 504)  # it may have been tried again
            release.set()
        await until(lambda: current(bridge, session))


# --- the bridge stops ---


async def test_a_rotated_cookie_is_kept_although_the_daemon_stops(arena: Arena, tmp_path: Path) -> None:
    (session,) = sessions = (arena.sign_in(),)
    release = asyncio.Event()
    async with running_bridge(arena, tmp_path / "state", sessions=sessions) as bridge:
        await bridge.logins_checked()
        arena.rotate(session)
        arena.faults.arm("no_headers", release=release)
        async with calling(bridge.origin, bridge.key) as caller:
            await caller.ask(bridge.chat("hello"))
            await until(lambda: len(arena.chats) == 1)
        await nobody_returns(bridge)
        await until(lambda: bridge.calls_held == 0)
        asyncio.get_running_loop().call_later(0.05, release.set)
    (account,) = await accounts_document(bridge.folder).load()
    assert account.session.value == session.cookie_value


async def test_a_cookie_rotated_by_a_renewal_is_kept_although_the_daemon_stops(arena: Arena, tmp_path: Path) -> None:
    session = arena.sign_in(expires_in=-10.0)
    release = asyncio.Event()
    arena.faults.arm("no_headers", on="me", release=release)
    async with running_bridge(arena, tmp_path / "state", sessions=(session,)) as bridge:
        await until(lambda: any(call.kind == "me" for call in arena.calls))
        asyncio.get_running_loop().call_later(0.3, release.set)
    (account,) = await accounts_document(bridge.folder).load()
    assert (session.refreshes, account.session.value) == (1, session.cookie_value)
