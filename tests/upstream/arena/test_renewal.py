"""A session's tokens in 2026: which calls renew them, which do not, and what revokes the login."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from upstream.arena import Arena, Session

if TYPE_CHECKING:
    from tests.upstream.arena.conftest import Answer, Caller

COOKIE = "arena-auth-prod-v1"
READS = ["/api/me", "/text/direct", "/search/direct"]
pytestmark = pytest.mark.parametrize("arena", [2026], indirect=True)


def stored(cookie_value: str) -> dict[str, Any]:
    text = cookie_value.removeprefix("base64-")
    return dict(json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))))


def set_cookies(answer: Answer) -> dict[str, str]:
    pairs = (header.partition(";")[0].partition("=") for header in answer.headers.getall("set-cookie", []))
    return {name: value for name, _, value in pairs}


def header(cookies: Mapping[str, str]) -> str:
    return "; ".join(f"{name}={value}" for name, value in cookies.items())


async def me(caller: Caller, cookie: str | None = None) -> Answer:
    return await caller.page("/api/me", **({} if cookie is None else {"cookie": cookie}))


def fate(session: Session) -> tuple[bool, bool, int]:
    return session.alive, session.revoked, session.spent_twice


# Renewal


@pytest.mark.parametrize("path", READS)
@pytest.mark.parametrize("left", [299.0, 0.0, -90_000.0])
async def test_a_read_renews_a_token_near_or_past_its_expiry(
    arena: Arena, caller: Caller, path: str, left: float
) -> None:
    session = caller.session = arena.sign_in(expires_in=left)
    old = session.cookie_value
    arena.token_seconds = 1234.0
    answer = await caller.page(path)
    assert (answer.status, set_cookies(answer)) == (200, {COOKIE: session.cookie_value})
    before, after = stored(old), stored(session.cookie_value)
    assert before["refresh_token"] != after["refresh_token"]
    assert before["access_token"] != after["access_token"]
    assert after["expires_at"] == session.expires_at == pytest.approx(arena.clock() + 1234, abs=2)
    assert (session.refreshes, fate(session)) == (1, (True, False, 0))
    assert (await caller.ask(cookie=f"{COOKIE}={old}")).status == 401
    again = await caller.page(path)
    assert (again.status, set_cookies(again), session.refreshes) == (200, {}, 1)
    assert (await caller.ask()).status == 200


async def test_reading_an_evaluation_renews_a_token_near_its_expiry(arena: Arena, caller: Caller) -> None:
    await caller.ask()
    evaluation = arena.calls[-1].evaluation_id
    arena.renew_within = 4000.0
    answer = await caller.page(f"/api/evaluation/{evaluation}")
    assert (answer.status, set_cookies(answer)) == (200, {COOKIE: caller.session.cookie_value})


async def test_a_token_is_not_renewed_long_before_its_expiry(arena: Arena, caller: Caller) -> None:
    caller.session = arena.sign_in(expires_in=305.0)
    assert set_cookies(await me(caller)) == {}
    arena.renew_within = 400.0
    assert set_cookies(await me(caller)) != {}


@pytest.mark.parametrize("before", [False, True], ids=["from whole", "from pieces"])
@pytest.mark.parametrize("after", [False, True], ids=["to whole", "to pieces"])
async def test_a_renewed_session_may_be_set_whole_or_in_pieces(
    arena: Arena, caller: Caller, before: bool, after: bool
) -> None:
    session = arena.sign_in(expires_in=0.0)
    arena.renew_in_pieces = after
    jar = session.cookies(pieces=before)
    answer = await me(caller, header(jar))
    jar = {name: value for name, value in {**jar, **set_cookies(answer)}.items() if value}
    assert jar == session.cookies(pieces=after)
    assert (await caller.ask(cookie=header(jar))).status == 200


async def test_only_authenticated_reads_renew_tokens(arena: Arena, caller: Caller) -> None:
    session = caller.session = arena.sign_in(expires_in=100.0)
    script = next(iter(arena.deployment.scripts))
    answers = [
        await caller.ask(),
        await caller.ask_again(arena.calls[-1].evaluation_id or ""),
        await caller.act("generateUploadUrl", "cat.png", "image/png"),
        await caller.page(script),
        await caller.page("/nextjs-api/model-catalog"),
        await caller.page("/?mode=direct"),
    ]
    assert [answer.status for answer in answers] == [200, 200, 200, 200, 200, 301]
    assert ([set_cookies(answer) for answer in answers], session.refreshes) == ([{}] * 6, 0)


async def test_writes_are_refused_after_the_token_has_expired(arena: Arena, caller: Caller) -> None:
    await caller.ask()
    evaluation = arena.calls[-1].evaluation_id or ""
    now = arena.clock()
    arena.clock = lambda: now + 3600
    answers = [
        await caller.ask(),
        await caller.ask_more(evaluation),
        await caller.ask_again(evaluation),
        await caller.act("generateUploadUrl", "cat.png", "image/png"),
    ]
    assert [(answer.status, json.loads(answer.body)) for answer in answers] == [(401, {"error": "Unauthorized"})] * 4
    assert [set_cookies(answer) for answer in answers] == [{}] * 4
    assert (await me(caller)).status == 200
    assert (await caller.ask_more(evaluation)).status == 200


# A refresh token can be used once


@pytest.mark.parametrize("path", READS)
async def test_a_refresh_token_used_twice_revokes_the_login(arena: Arena, caller: Caller, path: str) -> None:
    session = arena.sign_in(expires_in=60.0)
    old = header(session.cookies())
    assert (await me(caller, old)).status == 200
    again = await caller.page(path, cookie=old)
    assert again.status == (401 if path == "/api/me" else 200)  # pages are served to visitors too
    assert set_cookies(again) == {}
    assert fate(session) == (False, True, 1)
    assert (await me(caller, header(session.cookies()))).status == 401
    assert (await caller.ask(cookie=header(session.cookies()))).status == 401


async def test_concurrent_reads_near_the_expiry_revoke_the_login(arena: Arena, caller: Caller) -> None:
    session = caller.session = arena.sign_in(expires_in=60.0)
    cookie = header(session.cookies())
    answers = await asyncio.gather(*(me(caller, cookie) for _ in range(3)))
    assert sorted(answer.status for answer in answers) == [200, 401, 401]
    assert (session.refreshes, fate(session)) == (1, (False, True, 2))


async def test_an_old_cookie_far_from_its_expiry_revokes_nothing(arena: Arena, caller: Caller) -> None:
    session = caller.session
    old = header(session.cookies())
    arena.rotate(session)
    await caller.ask()
    assert [(await me(caller, old)).status, (await caller.ask(cookie=old)).status] == [401, 401]
    assert fate(session) == (True, False, 0)
    assert (await me(caller)).status == 200
    now = arena.clock()
    arena.clock = lambda: now + 3500
    assert (await caller.ask(cookie=old)).status == 401
    assert fate(session) == (True, False, 0)  # a POST never renews, so it uses no refresh token
    assert (await me(caller, old)).status == 401
    assert fate(session) == (False, True, 1)


@pytest.mark.parametrize("fault", ["server_error", "challenge", "reset_before_headers"])
async def test_a_fault_in_front_of_the_site_uses_no_refresh_token(arena: Arena, caller: Caller, fault: str) -> None:
    session = caller.session = arena.sign_in(expires_in=0.0)
    arena.faults.arm(fault, None, on="me")
    if fault == "reset_before_headers":
        with pytest.raises(aiohttp.ClientError):
            await me(caller)
    else:
        assert set_cookies(await me(caller)) == {}
    arena.faults.clear()
    assert session.refreshes == 0
    assert ((await me(caller)).status, session.refreshes, fate(session)) == (200, 1, (True, False, 0))


async def test_a_session_without_a_refresh_token_expires_for_good(arena: Arena, caller: Caller) -> None:
    caller.session = arena.sign_in(expires_in=0.0)
    arena.expire(caller.session)
    answer = await me(caller)
    assert (answer.status, json.loads(answer.body), set_cookies(answer)) == (401, {"error": "Unauthorized"}, {})


# Who is logged in


async def test_the_path_api_me_describes_the_account_or_is_refused_without_a_login(
    arena: Arena, caller: Caller
) -> None:
    found = json.loads((await me(caller)).body)
    assert (found["id"], found["email"]) == (caller.session.user_id, "ada@example.org")
    assert found["touConsentTimestamp"].endswith("Z")
    assert (arena.calls[-1].kind, arena.calls[-1].account) == ("me", caller.session.user_id)
    assert (await me(caller, "")).status == 401


async def test_a_guests_chat_is_refused(arena: Arena, caller: Caller) -> None:
    guest = caller.session = arena.sign_in(guest=True)
    assert guest.user_id != arena.sign_in().user_id
    user = stored(guest.cookie_value)["user"]
    assert (user["is_anonymous"], "email" in user) == (True, False)
    _, claims, _ = guest.access_token.split(".")
    assert stored(claims)["is_anonymous"] is True
    assert json.loads((await me(caller)).body)["email"] == ""
    answer = await caller.ask()
    assert (answer.status, b"LOGIN_GATE" in answer.body) == (401, True)
    assert guest.alive


async def test_chats_are_refused_until_the_terms_of_use_are_accepted(arena: Arena, caller: Caller) -> None:
    session = caller.session = arena.sign_in(consented=False)
    assert "touConsentTimestamp" not in json.loads((await me(caller)).body)
    answer = await caller.ask()
    assert (answer.status, b"accept the Terms of Use" in answer.body) == (403, True)
    session.consented = True
    assert "touConsentTimestamp" in json.loads((await me(caller)).body)
    assert (await caller.ask()).status == 200
