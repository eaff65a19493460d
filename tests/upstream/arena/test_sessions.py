"""Accounts of the arena: session cookies whole and in pieces, expired and rotated; and the clearance.

`test_renewal.py` tests what a GET does for a session whose token expires.
"""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from upstream.arena import Arena, Session

if TYPE_CHECKING:
    from tests.upstream.arena.conftest import Answer, Caller

COOKIE = "arena-auth-prod-v1"


def cookie_header(cookies: dict[str, str]) -> str:
    return "; ".join(f"{name}={value}" for name, value in cookies.items())


def set_cookies(answer: Answer) -> dict[str, str]:
    """Parse `Set-Cookie` headers like a browser: values by name, '' for a cleared cookie."""
    pairs = (header.partition(";")[0].partition("=") for header in answer.headers.getall("set-cookie", []))
    return {name: value for name, _, value in pairs}


def decoded(text: str) -> dict[str, Any]:
    return dict(json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))))


def test_the_session_cookie_contains_the_user_and_the_expiry(arena: Arena) -> None:
    session = arena.sign_in("grace@example.org", expires_in=3600)
    assert session.cookie_value.startswith("base64-")
    assert "=" not in session.cookie_value
    stored = decoded(session.cookie_value.removeprefix("base64-"))
    assert stored["user"]["id"] == session.user_id
    assert stored["expires_at"] == session.expires_at == pytest.approx(time.time() + 3600, abs=5)
    assert stored["refresh_token"]
    claims = decoded(session.access_token.split(".")[1])
    assert (claims["exp"], claims["sub"]) == (session.expires_at, session.user_id)


def test_one_e_mail_address_is_one_account_with_many_sessions(arena: Arena) -> None:
    first, second = arena.sign_in("ada@example.org"), arena.sign_in("ada@example.org")
    assert first.user_id == second.user_id != arena.sign_in("grace@example.org").user_id
    assert first.cookie_value != second.cookie_value


def test_the_pieces_of_a_cookie_join_to_the_whole_and_its_repr_shows_no_secret(arena: Arena) -> None:
    session = arena.sign_in()
    pieces = session.cookies(pieces=True)
    assert list(pieces) == [f"{COOKIE}.0", f"{COOKIE}.1"]
    assert "".join(pieces.values()) == session.cookie_value
    assert session.cookie_value not in repr(session)


async def test_cookies_are_accepted_whole_or_in_pieces_but_not_with_a_missing_piece(
    arena: Arena, caller: Caller
) -> None:
    pieces = arena.sign_in().cookies(pieces=True)
    backwards = dict(reversed(pieces.items()))
    gap = {f"{COOKIE}.0": pieces[f"{COOKIE}.0"], f"{COOKIE}.2": pieces[f"{COOKIE}.1"]}
    rows: list[tuple[dict[str, str], int]] = [
        (arena.sign_in().cookies(), 200),
        (pieces, 200),
        (backwards, 200),
        ({"theme": "dark", **pieces}, 200),
        ({f"{COOKIE}.0": pieces[f"{COOKIE}.0"]}, 401),
        (gap, 401),
        ({"another": "cookie"}, 401),
    ]
    for cookies, status in rows:
        assert (await caller.ask(cookie=cookie_header(cookies))).status == status, list(cookies)


@pytest.mark.parametrize("expired_by", ["time", "order"])
async def test_an_expired_session_is_refused(arena: Arena, caller: Caller, expired_by: str) -> None:
    if expired_by == "time":
        caller.session = arena.sign_in(expires_in=-1)
    else:
        arena.expire(caller.session)
    answer = await caller.ask()
    assert (answer.status, json.loads(answer.body)) == (401, {"error": "Unauthorized"})
    assert arena.calls[-1].account is None
    assert (await caller.act("getSignedUrl", "key")).status == 401
    assert set_cookies(answer) == {}


@pytest.mark.parametrize("arena", [2025], indirect=True)
async def test_an_expired_session_cannot_read_the_page_in_2025(arena: Arena, caller: Caller) -> None:
    caller.session = arena.sign_in(expires_in=-1)
    assert (await caller.page()).status == 401


@pytest.mark.parametrize("arena", [2026], indirect=True)
async def test_an_expired_session_reads_the_page_as_a_visitor_in_2026(arena: Arena, caller: Caller) -> None:
    arena.expire(caller.session)
    for answer in (await caller.page(), await caller.page(cookie="arena-auth-prod-v1=base64-e30")):
        assert (answer.status, set_cookies(answer)) == (200, {})
        assert arena.calls[-1].account is None


async def test_a_login_lasts_seven_days_in_2025_and_an_hour_in_2026(arena: Arena) -> None:
    session = arena.sign_in()
    stored = decoded(session.cookie_value.removeprefix("base64-"))
    seconds = {2025: 7 * 86400, 2026: 3600}[arena.era]
    claims = decoded(session.access_token.split(".")[1])
    assert stored["expires_in"] == claims["exp"] - claims["iat"] == pytest.approx(seconds, abs=1)
    assert session.expires_at == pytest.approx(time.time() + seconds, abs=5)


async def test_a_visitor_may_read_the_page(caller: Caller) -> None:
    assert (await caller.page(cookie="")).status == 200


@pytest.mark.parametrize("before", [False, True], ids=["from whole", "from pieces"])
@pytest.mark.parametrize("after", [False, True], ids=["to whole", "to pieces"])
@pytest.mark.parametrize("kind", ["page", "stream"])
async def test_a_rotated_cookie_is_set_whole_or_in_pieces_and_replaces_the_old_one(
    arena: Arena, caller: Caller, before: bool, after: bool, kind: str
) -> None:
    session = caller.session
    jar = session.cookies(pieces=before)
    old = cookie_header(jar)
    arena.rotate(session, pieces=after)
    assert (await caller.page(cookie="")).headers.getall("set-cookie", []) == []  # not for a visitor

    answer = await (caller.page(cookie=old) if kind == "page" else caller.ask(cookie=old))
    assert answer.status == 200
    jar = {name: value for name, value in {**jar, **set_cookies(answer)}.items() if value}
    assert jar == session.cookies(pieces=after)
    assert (await caller.ask(cookie=old)).status == 401
    renewed = await caller.ask(cookie=cookie_header(jar))
    assert (renewed.status, set_cookies(renewed)) == (200, {})


async def test_a_refusal_may_rotate_the_cookie(arena: Arena, caller: Caller) -> None:
    old = caller.session.cookie_value
    arena.rotate(caller.session)
    arena.faults.arm("rate_limited")
    answer = await caller.ask()
    assert answer.status == 429
    assert set_cookies(answer) == {COOKIE: caller.session.cookie_value}
    assert caller.session.cookie_value != old


async def test_calls_without_the_clearance_are_challenged(arena: Arena, caller: Caller) -> None:
    arena.clearance = "cleared-7"

    def shown(session: Session, clearance: str) -> str:
        return cookie_header({"cf_clearance": clearance, **session.cookies()})

    for answer in (await caller.ask(), await caller.page(), await caller.ask(cookie=shown(caller.session, "stale"))):
        assert (answer.status, answer.headers["cf-mitigated"]) == (403, "challenge")
        assert b"<title>Just a moment...</title>" in answer.body
    assert (await caller.ask(cookie=shown(caller.session, "cleared-7"))).status == 200
