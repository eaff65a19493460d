"""Accounts: whatever is pasted, whose it is, what it lacks; renewed in its place, removed, and used at once."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from dashboard import Dashboard, Kept, Page
from running import RunningBridge, running_bridge
from session_cookies import cookie

from handlers.appkeys import MODELS, STATS
from upstream.arena import Arena, Session

AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0.0.0 Safari/537.36"
CLEARANCE = "0123456789.abcdef-clearance"


def as_header(session: Session) -> str:
    return "; ".join(f"{name}={value}" for name, value in session.cookies(pieces=True).items())


def as_curl(session: Session) -> str:
    return f"curl 'https://lmarena.ai/' -H 'user-agent: {AGENT}' -b 'cf_clearance={CLEARANCE}; {as_header(session)}'"


FORMS: dict[str, Callable[[Session], str]] = {
    "its value": lambda session: session.cookie_value,
    "with its name": lambda session: f"arena-auth-prod-v1={session.cookie_value}",
    "in pieces": lambda session: "\n".join(reversed(session.cookies(pieces=True).values())),
    "a Cookie header": lambda session: f"Cookie: theme=dark; {as_header(session)}",
    "copy as cURL": as_curl,
    "an export": lambda session: json.dumps(
        [{"name": name, "value": value} for name, value in session.cookies().items()]
    ),
}


@pytest.fixture
async def bridge(arena: Arena, tmp_path: Path) -> AsyncIterator[RunningBridge]:
    """A bridge without an account."""
    async with running_bridge(arena, tmp_path / "state", sessions=()) as bridge:
        await bridge.app[MODELS].available()
        yield bridge


async def paste(dashboard: Dashboard, text: str, label: str = "") -> Page:
    return await dashboard.post("/dashboard/accounts", {"paste": text, "label": label})


async def chat(bridge: RunningBridge) -> int:
    async with await bridge.post(bridge.chat("hi")) as answer:
        return answer.status


def labels(bridge: RunningBridge) -> list[str]:
    return [account.label for account in bridge.state.pool]


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
async def test_whatever_was_copied_is_taken(form: Callable[[Session], str], arena: Arena, dashboard: Dashboard) -> None:
    assert await chat(dashboard.bridge) == 503
    page = await paste(dashboard, form(arena.sign_in()))
    assert page.status == 200
    assert page.markup.says("Added “ada@example.org”: ada@example.org.")
    assert await chat(dashboard.bridge) == 200


async def test_it_says_what_is_missing(arena: Arena, dashboard: Dashboard) -> None:
    assert (await paste(dashboard, arena.sign_in().cookie_value)).markup.says("Missing: cf_clearance")
    bob = {"id": "u-2", "email": "bob@example.org"}
    ended = await paste(dashboard, cookie(user=bob, refresh_token=..., expires_at=1))
    assert ended.markup.says("Missing: a session that still holds")
    renewable = await paste(dashboard, cookie(user=bob, expires_at=1))
    assert renewable.markup.says("Renewed “bob@example.org”")
    assert "still holds" not in renewable.text
    assert "Missing" not in (await paste(dashboard, as_curl(arena.sign_in()))).text
    assert "Missing" not in (await paste(dashboard, arena.sign_in().cookie_value)).text  # there is one by now


async def test_a_clearance_is_shown_to_the_site_from_then_on(arena: Arena, dashboard: Dashboard) -> None:
    arena.clearance = CLEARANCE
    page = await paste(dashboard, as_curl(arena.sign_in()))
    assert page.markup.says("The browser's cf_clearance and user agent are used from now on.")
    assert await chat(dashboard.bridge) == 200
    call = arena.calls[-1]
    assert f"cf_clearance={CLEARANCE}" in call.headers["cookie"]
    assert call.headers["user-agent"] == AGENT


async def test_a_clearance_may_come_alone(arena: Arena, dashboard: Dashboard) -> None:
    await paste(dashboard, arena.sign_in().cookie_value)
    page = await paste(dashboard, f"curl 'https://lmarena.ai/' -A '{AGENT}' -b 'cf_clearance={CLEARANCE}'")
    assert page.status == 200
    assert labels(dashboard.bridge) == ["ada@example.org"]
    assert dashboard.bridge.state.admin.clearance is not None
    assert await dashboard.is_in()


async def test_a_renewal_keeps_its_place_and_its_name(arena: Arena, dashboard: Dashboard) -> None:
    old = arena.sign_in()
    await paste(dashboard, old.cookie_value, "mine")
    await paste(dashboard, arena.sign_in("bob@example.org").cookie_value)
    arena.expire(old)
    page = await paste(dashboard, arena.sign_in().cookie_value)
    assert page.markup.says("Renewed “mine”: ada@example.org.")
    assert labels(dashboard.bridge) == ["mine", "bob@example.org"]
    assert (await paste(dashboard, arena.sign_in().cookie_value, "ours")).markup.says("Renewed “ours”")
    assert labels(dashboard.bridge) == ["ours", "bob@example.org"]


async def test_an_expired_account_lives_again_once_renewed(arena: Arena, dashboard: Dashboard) -> None:
    session = arena.sign_in()
    await paste(dashboard, session.cookie_value)
    arena.expire(session)
    assert await chat(dashboard.bridge) == 503
    assert (await dashboard.live("/dashboard/accounts")).markup.says("expired, or refused by the site")
    await paste(dashboard, arena.sign_in().cookie_value)
    assert await chat(dashboard.bridge) == 200
    assert (await dashboard.live("/dashboard/accounts")).markup.says("usable")


WRONG = {
    "nothing": ("", ""),
    "prose": ("my cookie", ""),
    "one that is cut": ("base64-eyJhY2Nlc3", ""),
    "a clearance without its browser": (f"cf_clearance={CLEARANCE}", ""),
    "control characters": ("base64-\0", ""),
    "a label that is none": ("base64-", "<b>"),
    "a label too long": ("base64-", "a" * 65),
}


@pytest.mark.parametrize(("text", "label"), WRONG.values(), ids=WRONG)
async def test_what_is_no_cookie_is_said_and_not_taken(text: str, label: str, dashboard: Dashboard) -> None:
    page = await paste(dashboard, text, label)
    assert page.status == 400
    assert 'role="alert"' in page.text
    assert not text or text not in page.text
    assert not labels(dashboard.bridge)


async def test_a_guest_is_told_to_sign_in_and_nothing_is_kept(dashboard: Dashboard) -> None:
    guest = cookie(user={"id": "u-1", "is_anonymous": True})
    kept = Kept(dashboard)
    page = await paste(dashboard, f"cookie: arena-auth-prod-v1={guest}; cf_clearance={CLEARANCE}\nuser-agent: {AGENT}")
    assert page.status == 400
    assert page.markup.says("this is a guest's session")
    assert page.markup.says("sign in on the site in that window, then copy again")
    assert await kept.unchanged()


async def test_the_page_says_how_to_copy_a_login_that_lasts(dashboard: Dashboard) -> None:
    page = await dashboard.get("/dashboard/accounts")
    for step in ("in a private window", "Send one message there", "Close that window without logging out"):
        assert page.markup.says(step)


async def test_two_accounts_have_two_names(arena: Arena, dashboard: Dashboard) -> None:
    await paste(dashboard, arena.sign_in().cookie_value, "mine")
    page = await paste(dashboard, arena.sign_in("bob@example.org").cookie_value, "mine")
    assert page.status == 400
    assert page.markup.says("another account is labelled 'mine'")
    assert labels(dashboard.bridge) == ["mine"]


async def test_a_removed_account_is_asked_no_more(arena: Arena, dashboard: Dashboard) -> None:
    await paste(dashboard, arena.sign_in().cookie_value)
    (account,) = dashboard.bridge.state.pool
    page = await dashboard.post("/dashboard/accounts/remove", {"user": account.user_id})
    assert page.location == "/dashboard/accounts"
    assert (await dashboard.get("/dashboard/accounts")).markup.says("No account yet.")
    assert await chat(dashboard.bridge) == 503
    assert (await dashboard.post("/dashboard/accounts/remove", {"user": account.user_id})).status == 404


async def test_nothing_is_removed_that_was_not_named(arena: Arena, dashboard: Dashboard) -> None:
    await paste(dashboard, arena.sign_in().cookie_value)
    kept = Kept(dashboard)
    for fields in ({}, {"user": ""}, {"user": "ada"}):
        assert (await dashboard.post("/dashboard/accounts/remove", fields)).status == 404
    assert await kept.unchanged()


async def test_a_rest_and_the_last_answers_are_shown(arena: Arena, dashboard: Dashboard) -> None:
    await paste(dashboard, arena.sign_in().cookie_value)
    assert await chat(dashboard.bridge) == 200
    arena.faults.arm("rate_limited", retry_after="90")
    assert await chat(dashboard.bridge) == 429
    await dashboard.bridge.app[STATS].flush()
    for page in (await dashboard.get("/dashboard/accounts"), await dashboard.live("/dashboard/accounts")):
        assert page.markup.says("resting")
        assert page.markup.says("from chat for 1 min 3")  # or a little less than 90 s
        assert page.markup.says("rate limited")
    assert "<html" not in (await dashboard.live("/dashboard/accounts")).text
