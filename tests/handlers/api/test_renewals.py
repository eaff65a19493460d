"""Chats while logins are renewed, and while they cannot be: what callers get, and what happens to the accounts."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import aiohttp
import pytest
from leaving import leave_when, nobody_returns
from pictures import png, user_with
from polling import until
from running import RunningBridge, running_bridge

from bridge.state.state import accounts_document
from bridge.tasks import TaskOwner
from handlers.request.appkeys import CLIENT, DRAIN, RENEWALS
from upstream.accounts import Account
from upstream.arena import Arena, Call, Session
from upstream.protocol import cookies

HOUR = 3600.0
PARALLEL = 200


class Reply(NamedTuple):
    """What a caller got."""

    status: int
    text: str  # of the answer, or of the error
    code: str = ""


async def ask(bridge: RunningBridge, prompt: str = "hello", *, stream: bool = False) -> Reply:
    """Have a model say `prompt`; return the answer, put together if streamed."""
    async with await bridge.post(bridge.chat(f"/say {prompt}", stream=stream)) as response:
        body = await response.read()
    if response.status != 200:
        error = json.loads(body)["error"]
        return Reply(response.status, error["message"], error["code"])
    if not stream:
        return Reply(200, json.loads(body)["choices"][0]["message"]["content"])
    chunks = [json.loads(line[6:]) for line in body.split(b"\n") if line.startswith(b"data: {")]
    return Reply(
        200, "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks if "choices" in chunk)
    )


async def ask_many(bridge: RunningBridge, number: int = PARALLEL) -> list[Reply]:
    """Ask for this many chats at once, each with a prompt that was never used before."""
    begun = uuid4().hex
    replies = await asyncio.gather(*(ask(bridge, f"answer {at} {begun}", stream=at % 2 == 0) for at in range(number)))
    return [reply._replace(text=reply.text.removesuffix(f" {begun}")) for reply in replies]


def right(number: int = PARALLEL) -> list[Reply]:
    """What `ask_many` returns if every chat is answered."""
    return [Reply(200, f"answer {at}") for at in range(number)]


def pass_time(bridge: RunningBridge, seconds: float) -> None:
    """Advance the site's clock, and the bridge's estimate of it."""
    now = bridge.arena.clock()
    begun = time.monotonic()
    bridge.arena.clock = lambda: now + seconds + time.monotonic() - begun
    bridge.app[CLIENT].clock.skew += seconds


def reads(arena: Arena) -> list[Call]:
    """The calls that ask who is logged in."""
    return [call for call in arena.calls if call.kind == "me"]


def account_of(bridge: RunningBridge, session: Session) -> Account:
    account = bridge.state.pool.get(session.user_id)
    assert account is not None
    return account


def well(bridge: RunningBridge, session: Session) -> bool:
    """Whether the login is intact, both at the site and in the bridge."""
    return (
        session.alive
        and not session.revoked
        and session.spent_twice == 0
        and not account_of(bridge, session).expired
        and account_of(bridge, session).session.value == session.cookie_value
    )


@pytest.fixture
def sessions(arena: Arena) -> tuple[Session, ...]:
    """Three accounts whose tokens last an hour."""
    return tuple(arena.sign_in(f"user{at}@example.org") for at in range(3))


@asynccontextmanager
async def checked_bridge(
    arena: Arena, tmp_path: Path, *sessions: Session, connect_timeout: float = 30.0
) -> AsyncIterator[RunningBridge]:
    """A bridge whose logins have all been checked, so that the next call about one is a renewal."""
    overrides = {"upstream": {"connect_timeout": connect_timeout}}
    async with (
        running_bridge(
            arena, tmp_path / "state", overrides, sessions=sessions, key_options={"concurrency": 2 * PARALLEL}
        ) as bridge,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
    ):
        bridge.http = http  # its own session is limited to a hundred connections
        await bridge.logins_checked()
        arena.calls.clear()
        yield bridge


# --- many chats, few renewals ---


@pytest.mark.parametrize("left", [59.0, 1.0, -1.0, -3 * HOUR], ids="{:g} s left".format)
async def test_two_hundred_chats_renew_three_expiring_tokens_once_each(
    arena: Arena, tmp_path: Path, sessions: tuple[Session, ...], left: float
) -> None:
    async with checked_bridge(arena, tmp_path, *sessions) as bridge:
        pass_time(bridge, HOUR - left)
        assert await ask_many(bridge) == right()
        assert len(reads(arena)) == 3
        assert len(arena.chats) == PARALLEL
        for session in sessions:
            assert session.refreshes == 1
            assert well(bridge, session)
        assert {call.account for call in arena.chats} == {session.user_id for session in sessions}


async def test_two_hundred_chats_before_and_after_a_renewal_are_all_answered(
    arena: Arena, tmp_path: Path, sessions: tuple[Session, ...]
) -> None:
    """A chat that was sent with the old cookie gets a 401, and is repeated with the new one."""
    async with checked_bridge(arena, tmp_path, *sessions) as bridge:
        pass_time(bridge, HOUR - 100)  # no chat waits for a renewal yet
        renewals = bridge.app[RENEWALS]

        async def renew() -> None:
            for session in sessions:
                await until(lambda: len(arena.chats) > 5)
                assert await renewals.is_alive(account_of(bridge, session))

        replies, _ = await asyncio.gather(ask_many(bridge), renew())
        assert replies == right()
        assert len(reads(arena)) <= 6
        for session in sessions:
            assert session.refreshes == 1
            assert well(bridge, session)


@pytest.mark.parametrize("reason", ["a chat is refused", "it is due"])
async def test_a_renewal_waits_for_a_chat_whose_answer_may_replace_the_cookie(
    arena: Arena, tmp_path: Path, reason: str
) -> None:
    """The header with the new cookie is late, and sending the old cookie again would end the login."""
    session = arena.sign_in()
    release = asyncio.Event()
    async with checked_bridge(arena, tmp_path, session) as bridge, TaskOwner() as tasks:
        arena.rotate(session)
        pass_time(bridge, HOUR - 200)
        arena.faults.arm("no_headers", release=release)
        chats = [tasks.spawn(ask(bridge, "one"), name="ask")]
        await until(lambda: len(arena.chats) == 1)
        if reason == "it is due":
            bridge.app[RENEWALS].wake()
        else:
            chats.append(tasks.spawn(ask(bridge, "two"), name="ask"))
            await until(lambda: len(arena.chats) == 2)
        await until(lambda: bridge.app[RENEWALS].unready() == {session.user_id})
        await asyncio.sleep(0.1)  # time for a call that must not be made
        assert reads(arena) == []
        release.set()
        assert await asyncio.gather(*chats) == [Reply(200, "one"), Reply(200, "two")][: len(chats)]
        assert well(bridge, session)


async def test_chats_that_arrive_during_a_renewal_wait_for_it(
    arena: Arena, tmp_path: Path, sessions: tuple[Session, ...]
) -> None:
    release = asyncio.Event()
    async with checked_bridge(arena, tmp_path, *sessions) as bridge:
        arena.faults.arm("no_headers", None, on="me", release=release)
        pass_time(bridge, HOUR)
        bridge.app[RENEWALS].wake()
        await until(lambda: len(reads(arena)) == 3)

        async def release_when_all_wait() -> None:
            await until(lambda: bridge.app[DRAIN].running == PARALLEL)
            assert arena.chats == []
            release.set()

        replies, _ = await asyncio.gather(ask_many(bridge), release_when_all_wait())
        assert replies == right()
        assert (len(reads(arena)), len(arena.chats)) == (3, PARALLEL)
        assert all(session.refreshes == 1 and well(bridge, session) for session in sessions)


async def test_chats_prefer_accounts_whose_renewal_is_not_pending(
    arena: Arena, tmp_path: Path, sessions: tuple[Session, ...]
) -> None:
    stuck = sessions[0]
    async with checked_bridge(arena, tmp_path, *sessions) as bridge:
        arena.faults.arm("no_headers", None, on="me", account=stuck.user_id)
        pass_time(bridge, HOUR)
        bridge.app[RENEWALS].wake()
        await until(lambda: bridge.app[RENEWALS].unready() == {stuck.user_id})
        assert await ask_many(bridge, 30) == right(30)
        assert {call.account for call in arena.chats} == {session.user_id for session in sessions[1:]}
        assert [session.refreshes for session in sessions] == [0, 1, 1]
        assert all(well(bridge, session) for session in sessions)


async def test_a_chat_that_waited_for_a_hanging_renewal_is_answered_with_another_account(
    arena: Arena, tmp_path: Path, sessions: tuple[Session, ...]
) -> None:
    stuck = sessions[0]
    async with checked_bridge(arena, tmp_path, *sessions, connect_timeout=3) as bridge:
        arena.faults.arm("no_headers", None, on="me", account=stuck.user_id)
        pass_time(bridge, HOUR)
        assert await ask_many(bridge) == right()  # a third of them waited for the renewal that hangs
        assert {call.account for call in arena.chats} == {session.user_id for session in sessions[1:]}
        assert (len(reads(arena)), len(arena.chats)) == (3, PARALLEL)
        assert all(well(bridge, session) for session in sessions)


async def test_a_renewal_slower_than_the_connect_timeout_is_an_error_that_expires_no_account(
    arena: Arena, tmp_path: Path
) -> None:
    session = arena.sign_in()
    release = asyncio.Event()
    async with checked_bridge(arena, tmp_path, session, connect_timeout=0.2) as bridge:
        arena.faults.arm("no_headers", None, on="me", release=release)
        pass_time(bridge, HOUR)
        replies = await ask_many(bridge, 20)
        assert {reply.status for reply in replies} == {502}
        assert {reply.code for reply in replies} == {"upstream_error"}
        assert all("could not check the login" in reply.text for reply in replies)
        assert len(reads(arena)) == 1
        assert not account_of(bridge, session).expired
        release.set()
        await until(lambda: session.refreshes == 1)
        assert await ask(bridge) == Reply(200, "hello")
        assert (len(reads(arena)), session.refreshes) == (1, 1)
        assert well(bridge, session)


async def test_failing_renewals_leave_chats_to_other_accounts_or_a_clear_error(
    arena: Arena, tmp_path: Path, sessions: tuple[Session, ...]
) -> None:
    """If one account's renewal fails, the others answer; if all fail: a clear error, few calls, and no lost account."""
    async with checked_bridge(arena, tmp_path, *sessions) as bridge:
        failing = sessions[0]
        arena.faults.arm("server_error", None, on="me", account=failing.user_id)
        pass_time(bridge, HOUR)
        assert await ask_many(bridge, 60) == right(60)
        assert await ask_many(bridge, 60) == right(60)
        assert len(reads(arena)) == 3
        assert bridge.app[RENEWALS].failing(failing.user_id) is not None
        arena.faults.arm("server_error", None, on="me")
        pass_time(bridge, HOUR)
        replies = await ask_many(bridge, 20)
        assert {(reply.status, reply.code) for reply in replies} == {(502, "upstream_error")}
        assert not any(account.expired for account in bridge.state.pool)
        assert len(reads(arena)) <= 3 + 3
        arena.faults.clear()
        pass_time(bridge, 5)
        assert await ask_many(bridge, 60) == right(60)
        assert all(well(bridge, session) for session in sessions)


# --- callers that leave ---


async def test_a_caller_that_leaves_does_not_cancel_the_renewal(arena: Arena, tmp_path: Path) -> None:
    session = arena.sign_in()
    release = asyncio.Event()
    async with checked_bridge(arena, tmp_path, session) as bridge:
        arena.faults.arm("no_headers", on="me", release=release)
        pass_time(bridge, HOUR)
        await leave_when(lambda: len(reads(arena)) == 1, ask(bridge))
        await nobody_returns(bridge)
        await until(lambda: bridge.app[DRAIN].running == 0)
        assert [call.closed.is_set() for call in reads(arena)] == [False]
        release.set()
        await until(lambda: session.refreshes == 1)
        assert await ask(bridge) == Reply(200, "hello")
        assert len(reads(arena)) == 1
        assert well(bridge, session)


# --- refused cookies ---


@pytest.mark.parametrize("fault", ["expired", "login_redirect"])
async def test_a_passing_401_neither_reaches_the_caller_nor_marks_the_account(
    arena: Arena, tmp_path: Path, sessions: tuple[Session, ...], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with checked_bridge(arena, tmp_path, *sessions) as bridge:
        marked: list[Account] = []
        monkeypatch.setattr(bridge.state.pool, "expire", marked.append)
        arena.faults.arm(fault)
        assert await ask(bridge) == Reply(200, "hello")
        assert [call.kind for call in arena.calls] == ["create", "me", "create"]
        assert len({call.account for call in arena.calls}) == 1
        assert marked == []


async def test_a_dead_login_is_checked_once_while_other_accounts_answer(
    arena: Arena, tmp_path: Path, sessions: tuple[Session, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.state.documents.WATCH_SECONDS", 0.01)
    dead, *alive = sessions
    async with checked_bridge(arena, tmp_path, *sessions) as bridge:
        arena.expire(dead)
        assert await ask_many(bridge, 30) == right(30)
        assert [account_of(bridge, session).expired for session in sessions] == [True, False, False]
        assert len(reads(arena)) == 1
        assert await ask_many(bridge, 30) == right(30)
        assert len(reads(arena)) == 1
        assert {call.account for call in arena.chats} == {None, *(session.user_id for session in alive)}
        again = arena.sign_in(dead.email)
        await accounts_document(bridge.folder).update(partial(_pasted, again))
        await until(lambda: len(reads(arena)) == 2 and not bridge.app[RENEWALS].unready())
        arena.calls.clear()
        assert await ask_many(bridge, 30) == right(30)
        assert {call.account for call in arena.chats} == {session.user_id for session in sessions}
        assert well(bridge, again)


async def test_a_dead_login_with_an_expired_token_fails_no_chat(
    arena: Arena, tmp_path: Path, sessions: tuple[Session, ...]
) -> None:
    dead, *alive = sessions
    async with checked_bridge(arena, tmp_path, *sessions) as bridge:
        arena.expire(dead)
        pass_time(bridge, HOUR)
        assert await ask_many(bridge, 30) == right(30)
        assert (len(reads(arena)), len(arena.chats)) == (3, 30)
        assert account_of(bridge, dead).expired
        assert all(well(bridge, session) for session in alive)


def _pasted(session: Session, found: tuple[Account, ...]) -> tuple[Account, ...]:
    """The accounts after `accounts add` with the session's cookie."""
    new = Account(session.email, cookies.decode(session.cookie_value))
    return tuple(new if account.user_id == session.user_id else account for account in found)


# --- other reads ---


async def test_broken_answers_of_one_account_are_read_back_one_after_the_other(arena: Arena, tmp_path: Path) -> None:
    """In the last minutes of the token each of these reads renews the login, and concurrent renewals would end it."""
    session = arena.sign_in()
    arena.keeps_generating = True
    async with checked_bridge(arena, tmp_path, session) as bridge:
        pass_time(bridge, HOUR - 200)
        arena.faults.arm("eof_middle", None, after=1)
        prompts = [f"one two three {at}" for at in range(20)]
        replies = await asyncio.gather(*(ask(bridge, prompt, stream=True) for prompt in prompts))
        assert replies == [Reply(200, prompt) for prompt in prompts]
        assert sum(call.kind == "evaluation" for call in arena.calls) == 20
        assert session.refreshes == 1
        assert well(bridge, session)


async def test_pages_scripts_and_lists_are_read_without_a_login(arena: Arena, tmp_path: Path) -> None:
    """With a login they would be authenticated GETs, which may use up a refresh token."""
    session = arena.sign_in()
    arena.keeps_generating = True
    async with running_bridge(arena, tmp_path / "state", sessions=(session,)) as bridge:
        arena.faults.arm("eof_middle", after=1)
        assert await ask(bridge, "one two three", stream=True) == Reply(200, "one two three")
        seeing = next(model.public_name for model in arena.models if "image" in model.inputs)
        body = bridge.chat(model=seeing, messages=[user_with("/say seen", png())])
        async with await bridge.post(body) as response:
            assert response.status == 200
        async with await bridge.post(bridge.chat("hello", model="unheard-of")) as response:
            assert response.status == 404
        pass_time(bridge, HOUR)
        assert await ask(bridge) == Reply(200, "hello")
        shown = {
            call.kind for call in arena.calls if call.method == "GET" and "arena-auth" in call.headers.get("cookie", "")
        }
        assert shown == {"me", "evaluation"}
        assert {"page", "script", "catalog", "upload-url", "sign"} <= {call.kind for call in arena.calls}
        assert well(bridge, session)
