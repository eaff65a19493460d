"""`check`: it reports why an account cannot chat and what to do about it, and never invalidates a login."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from checking import check, line, shown_logins
from commands import arun, run
from redis_server import RedisServer, redis_server

from bridge.shared.waiting_cookies import WaitingCookies
from bridge.state.documents import StateFolder
from bridge.state.state import accounts_document
from upstream.accounts import EVERYTHING, Account
from upstream.arena import Arena, Session
from upstream.protocol import cookies

pytestmark = pytest.mark.usefixtures("elsewhere")


def stored() -> list[dict[str, Any]]:
    """The accounts on disk."""
    accounts: list[dict[str, Any]] = json.loads(Path("state/accounts.json").read_bytes())["accounts"]
    return accounts


def signed_in_ago(arena: Arena, seconds: float) -> Session:
    """Sign in with a token that was issued `seconds` ago and lives for an hour."""
    arena.clock = lambda: time.time() - seconds
    session = arena.sign_in("ada@example.org")
    arena.clock = time.time
    return session


async def test_a_login_refused_by_the_site_is_reported_with_what_to_do(arena: Arena) -> None:
    session = arena.sign_in("ada@example.org")
    arena.expire(session)
    result = await check(arena, session)
    assert result.exit_code == 1
    assert line(result, "account ada") == (
        "✗ account ada: ada@example.org, the site no longer accepts its login: log in again, and paste the new cookie "
        "into the dashboard or `lmarena-bridge accounts add --label ada`"
    )
    assert line(result, "models").startswith("✓")
    assert stored()[0]["expired"] is True
    session.alive = True  # the site accepts the login again
    result = await asyncio.to_thread(run, "check", LMARENA_BRIDGE_UPSTREAM__BASE_URL=arena.origin)
    assert line(result, "account ada").startswith("✓")
    assert stored()[0]["expired"] is False


def guest(session: Session) -> None:
    session.guest = True


def without_consent(session: Session) -> None:
    session.consented = False


@pytest.mark.parametrize(
    ("befall", "bar", "said"),
    [
        pytest.param(
            guest,
            "guest",
            "the session is a guest's, .*: sign in to the site .* `lmarena-bridge accounts add --label ada`",
            id="a guest",
        ),
        pytest.param(
            without_consent,
            "terms",
            "this account has not accepted the site's terms of use: open the site .* if you agree; .*",
            id="no consent",
        ),
    ],
)
async def test_an_account_barred_from_chatting_is_reported_with_the_reason(
    arena: Arena, befall: Callable[[Session], None], bar: str, said: str
) -> None:
    session = arena.sign_in("ada@example.org")
    befall(session)
    result = await check(arena, session)
    assert result.exit_code == 1
    assert re.fullmatch(rf"✗ account ada: ada@example\.org, {said}", line(result, "account ada"))
    assert stored()[0]["bar"] == bar
    session.guest, session.consented = False, True
    result = await asyncio.to_thread(run, "check", LMARENA_BRIDGE_UPSTREAM__BASE_URL=arena.origin)
    assert result.exit_code == 0
    assert stored()[0]["bar"] is None


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("chat", r"; on cooldown for chat for \d+ s after a 429"),
        (
            EVERYTHING,
            r"; LMArena doubts that a human uses this account: it is not used for \d+ s\. Its own page .* same flag",
        ),
    ],
)
async def test_an_account_on_cooldown_is_reported_with_the_reason_and_exits_1(
    arena: Arena, kind: str, said: str
) -> None:
    await check(arena, arena.sign_in("ada@example.org"))
    rests = {kind: time.time() + 1200}
    document = accounts_document(StateFolder(Path("state")))
    await document.update(lambda kept: tuple(replace(account, cooldowns=rests) for account in kept))
    result = await asyncio.to_thread(run, "check", LMARENA_BRIDGE_UPSTREAM__BASE_URL=arena.origin)
    assert result.exit_code == 1
    assert re.fullmatch(rf"✗ account ada: .* its login renews itself{said}", line(result, "account ada"))


async def test_one_working_account_is_enough_for_check_to_pass(arena: Arena) -> None:
    old, new = arena.sign_in("old@example.org"), arena.sign_in("new@example.org")
    arena.expire(old)
    result = await check(arena, old, new)
    assert result.exit_code == 0
    assert line(result, "account old").startswith("! ")
    assert line(result, "account new").startswith("✓ ")


@pytest.mark.parametrize(
    ("seconds", "mark", "said"),
    [
        (8 * 86_400, "✓", r"the session ends for good in \d days \(.*\)"),
        (
            7300,
            "!",
            r"the session ends for good in 2 hours \(.*\): before then, log in again, and paste .* --label ada`",
        ),
    ],
)
async def test_a_session_without_renewal_is_a_warning_when_it_ends_soon(
    arena: Arena, seconds: int, mark: str, said: str
) -> None:
    result = await check(arena, arena.sign_in("ada@example.org", expires_in=seconds, renewable=False))
    assert result.exit_code == 0
    assert re.fullmatch(rf"{mark} account ada: ada@example\.org, {said}", line(result, "account ada"))


async def test_a_failing_login_check_of_the_site_is_a_warning_while_the_token_is_valid(arena: Arena) -> None:
    arena.faults.arm("server_error", None, on="me")
    result = await check(arena, arena.sign_in("ada@example.org"))
    assert result.exit_code == 0
    assert re.match(
        "! account ada: .* its login renews itself, but the bridge could not ask LMArena about it: LMArena failed",
        line(result, "account ada"),
    )
    result = await check(arena, signed_in_ago(arena, 4000))
    assert result.exit_code == 1
    assert re.match(r"✗ account ada: .*, its token ended 6 minutes ago \(.*\), but", line(result, "account ada"))


async def test_check_without_a_running_daemon_renews_a_login_and_saves_its_new_cookie(arena: Arena) -> None:
    session = signed_in_ago(arena, 4000)
    old = session.cookie_value
    result = await check(arena, session)
    assert result.exit_code == 0
    assert line(result, "account ada") == "✓ account ada: ada@example.org, its login renews itself"
    assert (session.refreshes, session.spent_twice) == (1, 0)
    assert stored()[0]["cookie"] == session.cookie_value != old


@pytest.mark.parametrize(
    ("age", "asked", "mark", "said"),
    [
        pytest.param(2300, ["me"], "✓", "", id="fresh"),
        pytest.param(2500, [], "✓", ", which a running daemon will do", id="in its last third"),
        pytest.param(
            3700,
            [],
            "!",
            r", its token ended 1 minute ago \(.*\), which a running daemon will do; its /health shows the outcome",
            id="past its end",
        ),
    ],
)
async def test_check_beside_a_running_daemon_renews_no_login(
    arena: Arena, age: float, asked: list[str], mark: str, said: str
) -> None:
    folder = StateFolder(Path("state"))
    folder.prepare()
    session = signed_in_ago(arena, age)
    with folder.hold():
        result = await check(arena, session)
    assert result.exit_code == 0
    assert re.fullmatch(
        rf"{mark} account ada: ada@example\.org, its login renews itself{said}", line(result, "account ada")
    )
    assert shown_logins(arena) == asked
    assert session.refreshes == 0


async def test_check_beside_a_running_daemon_asks_the_site_about_a_session_without_renewal(arena: Arena) -> None:
    folder = StateFolder(Path("state"))
    folder.prepare()
    with folder.hold():
        await check(arena, arena.sign_in(expires_in=1, renewable=False))
    assert shown_logins(arena) == ["me"]


async def test_a_login_of_the_site_of_2025_is_checked_with_its_page(arena: Arena) -> None:
    arena.era = 2025
    ada, bob = arena.sign_in("ada@example.org"), arena.sign_in("bob@example.org")
    arena.expire(bob)
    result = await check(arena, ada, bob)
    assert result.exit_code == 0
    assert line(result, "LMArena") == f"✓ LMArena: {arena.origin} answers; its page is now at /?mode=direct"
    assert line(result, "account ada") == "✓ account ada: ada@example.org, its login renews itself"
    assert "the site no longer accepts its login" in line(result, "account bob")
    assert [account["expired"] for account in stored()] == [False, True]


# --- with Redis ---


@pytest.fixture
async def redis() -> AsyncIterator[RedisServer]:
    async with redis_server() as redis:
        yield redis


def environ(arena: Arena, redis: RedisServer) -> dict[str, str]:
    """The settings of a bridge that keeps its state in Redis."""
    return {
        "LMARENA_BRIDGE_UPSTREAM__BASE_URL": arena.origin,
        "LMARENA_BRIDGE_SERVER__PORT": "0",
        "LMARENA_BRIDGE_REDIS__URL": redis.url,
        "LMARENA_BRIDGE_REDIS__TIMEOUT": "10",
    }


async def test_check_renews_no_login_while_redis_is_unreachable(arena: Arena, redis: RedisServer) -> None:
    """A daemon on another machine may renew it at the same time, and the new cookie could not be saved in Redis."""
    env, session = environ(arena, redis), signed_in_ago(arena, 3700)
    await arun("accounts", "add", "--label", "ada", stdin=session.cookie_value, **env)
    await redis.kill()
    result = await arun("check", **env, LMARENA_BRIDGE_REDIS__CONNECT_TIMEOUT="0.1")
    assert "which a running daemon will do" in line(result, "account ada")
    assert line(result, "daemon").startswith("✓ daemon: is not running")
    assert (shown_logins(arena), session.refreshes) == ([], 0)


async def test_a_new_cookie_that_did_not_reach_redis_is_used_instead_of_the_old_one(
    arena: Arena, redis: RedisServer
) -> None:
    """The site would treat the use of the replaced cookie as theft."""
    env, replaced, session = environ(arena, redis), signed_in_ago(arena, 3700), arena.sign_in("ada@example.org")
    await arun("accounts", "add", "--label", "ada", stdin=replaced.cookie_value, **env)
    before, now = (Account("ada", cookies.decode(each.cookie_value)) for each in (replaced, session))
    await WaitingCookies(StateFolder(Path("state/shared"))).keep({before.user_id: before}, [now])
    result = await arun("check", **env)
    assert line(result, "account ada") == "✓ account ada: ada@example.org, its login renews itself"
    assert replaced.refreshes == 0
    found = json.loads((await arun("accounts", "list", "--json", **env)).stdout)
    assert [each["token_expires_at"] for each in found] == [session.expires_at]
