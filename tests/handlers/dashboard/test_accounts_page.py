"""Accounts: what can be pasted, whose it is and what is missing; renewed in place, removed, and used at once."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from dashboard import Dashboard, Kept, Markup, Page
from running import RunningBridge, running_bridge
from session_cookies import cookie

from bridge.state.documents import StateFolder
from bridge.state.state import accounts_document
from handlers.request.appkeys import MODELS, RENEWALS, STATS
from upstream.accounts import Cooldown
from upstream.arena import Arena, Session
from upstream.protocol.errors import Reason

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
async def test_an_account_can_be_pasted_in_every_copied_form(
    form: Callable[[Session], str], arena: Arena, dashboard: Dashboard
) -> None:
    assert await chat(dashboard.bridge) == 503
    page = await paste(dashboard, form(arena.sign_in()))
    assert page.status == 200
    assert page.markup.says("Added “ada@example.org”: ada@example.org.")
    assert await chat(dashboard.bridge) == 200


async def test_the_answer_to_a_paste_says_what_is_missing(arena: Arena, dashboard: Dashboard) -> None:
    assert (await paste(dashboard, arena.sign_in().cookie_value)).markup.says("are also useful, in case the site shows")
    old = arena.sign_in("old@b", expires_in=-9)
    assert "that still holds" not in (await paste(dashboard, old.cookie_value)).text  # it is renewed automatically
    ended = arena.sign_in("ended@b", expires_in=-9, renewable=False)
    assert (await paste(dashboard, ended.cookie_value)).markup.says("This session has ended")
    assert "Missing" not in (await paste(dashboard, as_curl(arena.sign_in()))).text
    assert "Missing" not in (await paste(dashboard, arena.sign_in().cookie_value)).text  # the bridge has one by now


async def test_a_pasted_clearance_is_sent_with_later_upstream_requests(arena: Arena, dashboard: Dashboard) -> None:
    arena.clearance = CLEARANCE
    page = await paste(dashboard, as_curl(arena.sign_in()))
    assert page.markup.says("The browser's cf_clearance and user agent are used from now on.")
    assert await chat(dashboard.bridge) == 200
    call = arena.calls[-1]
    assert f"cf_clearance={CLEARANCE}" in call.headers["cookie"]
    assert call.headers["user-agent"] == AGENT


async def test_a_clearance_can_be_pasted_without_a_login(arena: Arena, dashboard: Dashboard) -> None:
    await paste(dashboard, arena.sign_in().cookie_value)
    page = await paste(dashboard, f"curl 'https://lmarena.ai/' -A '{AGENT}' -b 'cf_clearance={CLEARANCE}'")
    assert page.status == 200
    assert labels(dashboard.bridge) == ["ada@example.org"]
    assert dashboard.bridge.state.admin.clearance is not None
    assert await dashboard.is_in()


async def test_a_renewed_account_keeps_its_place_and_its_name(arena: Arena, dashboard: Dashboard) -> None:
    old = arena.sign_in()
    await paste(dashboard, old.cookie_value, "mine")
    await paste(dashboard, arena.sign_in("bob@example.org").cookie_value)
    arena.expire(old)
    page = await paste(dashboard, arena.sign_in().cookie_value)
    assert page.markup.says("Renewed “mine”: ada@example.org.")
    assert labels(dashboard.bridge) == ["mine", "bob@example.org"]
    assert (await paste(dashboard, arena.sign_in().cookie_value, "ours")).markup.says("Renewed “ours”")
    assert labels(dashboard.bridge) == ["ours", "bob@example.org"]


async def test_an_expired_account_is_usable_again_after_a_new_paste(arena: Arena, dashboard: Dashboard) -> None:
    session = arena.sign_in()
    await paste(dashboard, session.cookie_value)
    arena.expire(session)
    assert await chat(dashboard.bridge) == 503
    assert (await dashboard.live("/dashboard/accounts")).markup.says("the site no longer accepts its login")
    await paste(dashboard, arena.sign_in().cookie_value)
    assert await chat(dashboard.bridge) == 200
    assert (await dashboard.live("/dashboard/accounts")).markup.says("usable")


# --- the state of an account ---


async def card(dashboard: Dashboard) -> str:
    """The text of the accounts page in one line, once the site has been asked about the only account."""
    (account,) = dashboard.bridge.state.pool
    await dashboard.bridge.app[RENEWALS].fresh(account)
    page = await dashboard.live("/dashboard/accounts")
    markup = Markup()
    markup.feed(re.sub(r"(?=</d[dt]>)", " ", page.text))
    return " ".join(markup.text.split())


async def test_a_pasted_account_is_checked_upstream_at_once(arena: Arena, dashboard: Dashboard) -> None:
    session = arena.sign_in()
    session.consented = False
    await paste(dashboard, session.cookie_value)
    said = await card(dashboard)
    assert "terms not accepted" in said
    assert "Login this account has not accepted the site's terms of use To do open the site" in said
    assert [call.kind for call in arena.calls if "arena-auth" in call.headers.get("cookie", "")] == ["me"]


async def test_a_usable_account_is_shown_as_renewing_itself(arena: Arena, dashboard: Dashboard) -> None:
    await paste(dashboard, arena.sign_in().cookie_value)
    assert re.search(
        r"usable Owner ada@example\.org Login renews itself token until \d\d:\d\d L", await card(dashboard)
    )


async def test_the_end_of_a_token_that_lasts_for_days_is_shown_with_its_date(
    arena: Arena, dashboard: Dashboard
) -> None:
    await paste(dashboard, arena.sign_in(expires_in=7 * 86_400).cookie_value)
    assert re.search(r"renews itself token until \d+ \w{3} 20\d\d, \d\d:\d\d L", await card(dashboard))


async def test_a_failing_renewal_is_shown_with_its_cause(arena: Arena, dashboard: Dashboard) -> None:
    arena.faults.arm("server_error", None, on="me")
    await paste(dashboard, arena.sign_in(expires_in=-60).cookie_value)
    assert re.search(
        r"renewal failing Owner ada@example\.org Login renewal of its login has failed since \d\d:\d\d UTC "
        r"\(0 min\): LMArena failed \(\d+\); the bridge keeps retrying token ended \d\d:\d\d L",
        await card(dashboard),
    )


async def test_a_single_failed_renewal_is_not_shown_while_the_token_is_valid(
    arena: Arena, dashboard: Dashboard
) -> None:
    arena.faults.arm("server_error", None, on="me")
    await paste(dashboard, arena.sign_in().cookie_value)
    assert "usable" in await card(dashboard)
    (account,) = dashboard.bridge.state.pool
    assert dashboard.bridge.app[RENEWALS].failing(account.user_id) is not None
    await dashboard.bridge.login_checked_again()
    assert "renewal failing" in await card(dashboard)


async def test_a_guest_account_is_shown_with_advice_to_sign_in(arena: Arena, dashboard: Dashboard) -> None:
    await paste(dashboard, arena.sign_in().cookie_value)
    arena.faults.arm("login_gate")
    assert await chat(dashboard.bridge) == 503
    said = await card(dashboard)
    assert "ada@example.org guest Owner" in said
    assert "Login the session is a guest's, and guests may not choose a model To do sign in to the site" in said


async def test_a_session_that_cannot_be_renewed_is_shown_with_its_end(arena: Arena, dashboard: Dashboard) -> None:
    for seconds, word, login in (
        (7 * 86_400 + 9, "usable", r"ends for good in 7 d, \d+ \w{3} 20\d\d, \d\d:\d\d L"),
        (7209, "ends soon", r"ends for good in 2 h, .* To do before then, log in again, and paste"),
        (
            -9,
            "expired",
            r"the session ended at 20\d\d-\d\d-\d\d \d\d:\d\d UTC and cannot be renewed To do log in again, and",
        ),
    ):
        await paste(dashboard, arena.sign_in(expires_in=seconds, renewable=False).cookie_value)
        (account,) = dashboard.bridge.state.pool
        await dashboard.bridge.app[RENEWALS].is_alive(account)
        assert re.search(rf"{word} Owner ada@example\.org Login {login}", await card(dashboard))


async def test_a_flagged_account_is_on_cooldown_for_everything(arena: Arena, dashboard: Dashboard) -> None:
    await paste(dashboard, arena.sign_in().cookie_value)
    arena.faults.arm("prompt_failed", retry_after="1200")
    assert await chat(dashboard.bridge) == 503
    said = await card(dashboard)
    assert "ada@example.org on cooldown Owner" in said
    assert re.search(r"Cooldown for everything, (20|19) min, until .*: LMArena doubts that a human uses", said)


async def test_an_expiry_time_beyond_all_dates_does_not_break_the_page(arena: Arena, dashboard: Dashboard) -> None:
    arena.clearance = CLEARANCE  # the challenge hides that the site does not know this login
    await paste(dashboard, cookie(expires_at=1e12))
    assert "renews itself token until" in await card(dashboard)


# --- what is refused ---


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
async def test_a_paste_without_a_cookie_is_refused(text: str, label: str, dashboard: Dashboard) -> None:
    page = await paste(dashboard, text, label)
    assert page.status == 400
    assert 'role="alert"' in page.text
    assert not text or text not in page.text
    assert not labels(dashboard.bridge)


async def test_a_pasted_guest_session_is_refused_with_advice_and_not_stored(dashboard: Dashboard) -> None:
    guest = cookie(user={"id": "u-1", "is_anonymous": True})
    kept = Kept(dashboard)
    page = await paste(dashboard, f"cookie: arena-auth-prod-v1={guest}; cf_clearance={CLEARANCE}\nuser-agent: {AGENT}")
    assert page.status == 400
    assert page.markup.says("This is a guest's session")
    assert page.markup.says("sign in to the site in that window, then copy again")
    assert await kept.unchanged()


async def test_the_page_says_how_to_copy_a_login_that_lasts(dashboard: Dashboard) -> None:
    page = await dashboard.get("/dashboard/accounts")
    for step in ("in a private window", "Send one message there", "Close that window without logging out"):
        assert page.markup.says(step)


async def test_two_accounts_cannot_have_the_same_name(arena: Arena, dashboard: Dashboard) -> None:
    await paste(dashboard, arena.sign_in().cookie_value, "mine")
    page = await paste(dashboard, arena.sign_in("bob@example.org").cookie_value, "mine")
    assert page.status == 400
    assert page.markup.says("Another account is labelled 'mine'")
    assert labels(dashboard.bridge) == ["mine"]


async def test_a_removed_account_is_no_longer_used(arena: Arena, dashboard: Dashboard) -> None:
    await paste(dashboard, arena.sign_in().cookie_value)
    (account,) = dashboard.bridge.state.pool
    page = await dashboard.post("/dashboard/accounts/remove", {"user": account.user_id})
    assert page.location == "/dashboard/accounts"
    assert (await dashboard.get("/dashboard/accounts")).markup.says("No account yet.")
    assert await chat(dashboard.bridge) == 503
    assert (await dashboard.post("/dashboard/accounts/remove", {"user": account.user_id})).status == 404


async def test_removing_an_unknown_account_changes_nothing(arena: Arena, dashboard: Dashboard) -> None:
    await paste(dashboard, arena.sign_in().cookie_value)
    kept = Kept(dashboard)
    for fields in ({}, {"user": ""}, {"user": "ada"}):
        assert (await dashboard.post("/dashboard/accounts/remove", fields)).status == 404
    assert await kept.unchanged()


async def test_a_cooldown_and_the_last_answers_are_shown(arena: Arena, dashboard: Dashboard) -> None:
    await paste(dashboard, arena.sign_in().cookie_value)
    assert await chat(dashboard.bridge) == 200
    assert (await dashboard.get("/dashboard/accounts")).markup.says("2\u202f999 of 3\u202f000 chats left")
    arena.faults.arm("rate_limited", retry_after="90")
    assert await chat(dashboard.bridge) == 429
    await dashboard.bridge.app[STATS].flush()
    for page in (await dashboard.get("/dashboard/accounts"), await dashboard.live("/dashboard/accounts")):
        assert page.markup.says("on cooldown")
        assert page.markup.says("for chat, 1 min 3")  # or a little less than 90 s
        assert page.markup.says("rate limited")
    assert "<html" not in (await dashboard.live("/dashboard/accounts")).text


# --- tested, paused, renamed; what is known of each ---


async def two(arena: Arena, dashboard: Dashboard) -> tuple[Session, Session]:
    """Add two accounts, labelled one and two."""
    sessions = arena.sign_in("one@example.org"), arena.sign_in("two@example.org")
    for session, label in zip(sessions, ("one", "two"), strict=True):
        await paste(dashboard, session.cookie_value, label)
    return sessions


async def test_a_paused_account_takes_no_new_requests(arena: Arena, dashboard: Dashboard) -> None:
    bridge = dashboard.bridge
    one, _ = await two(arena, dashboard)
    answer = await dashboard.post("/dashboard/accounts/pause", {"user": one.user_id, "paused": "yes"})
    assert answer.location == "/dashboard/accounts"
    for _ in range(3):
        assert await chat(bridge) == 200
    await bridge.app[STATS].flush()
    assert set((await bridge.app[STATS].read()).accounts) == {"two"}
    page = await dashboard.get("/dashboard/accounts")
    assert page.markup.says("It is not used for requests until you resume it")
    assert page.markup.says("Resume one")
    async with bridge.http.get(f"{bridge.origin}/health") as health:
        assert (await health.json())["degraded"] == []  # the account was paused on purpose

    assert (await dashboard.post("/dashboard/accounts/pause", {"user": "nobody", "paused": "yes"})).status == 404
    await bridge.state.update_accounts(lambda found: tuple(replace(each, paused=True) for each in found))
    async with await bridge.post(bridge.chat("hi")) as response:
        assert response.status == 503
        assert "paused in the bridge" in (await response.json())["error"]["message"]
    async with bridge.http.get(f"{bridge.origin}/health") as health:
        assert len((await health.json())["degraded"]) == 2
    again = StateFolder(bridge.folder.path)
    assert [account.paused for account in await accounts_document(again).load()] == [True, True]
    await dashboard.post("/dashboard/accounts/pause", {"user": one.user_id, "paused": "no"})
    assert await chat(bridge) == 200


async def test_testing_an_account_reports_whether_upstream_accepts_its_login(
    arena: Arena, dashboard: Dashboard
) -> None:
    bridge = dashboard.bridge
    one, two_ = await two(arena, dashboard)
    assert await chat(bridge) == await chat(bridge) == 200
    page = await dashboard.post("/dashboard/accounts/test", {"user": one.user_id})
    assert re.search(r"“one”, after \d+(\.\d+)? m?s: the site accepts its login\.", page.markup.text)
    assert re.search("chats: 3\u202f000, 2\u202f99[89] left for the next 5 min", page.markup.text)
    one.consented = False
    page = await dashboard.post("/dashboard/accounts/test", {"user": one.user_id})
    assert page.markup.says("terms of use")
    assert page.markup.says("accept them there if you agree")
    arena.expire(two_)
    page = await dashboard.post("/dashboard/accounts/test", {"user": two_.user_id})
    assert page.markup.says("does not accept the account's session cookie")
    assert page.markup.says(f"Open {arena.origin}")
    assert page.markup.says("Copy any request to arena.ai")
    assert (await dashboard.post("/dashboard/accounts/test", {"user": "nobody"})).status == 404


async def test_an_account_can_be_renamed_to_a_valid_unused_label(arena: Arena, dashboard: Dashboard) -> None:
    one, _ = await two(arena, dashboard)
    for label in ("two", "", "<b>", "x" * 65, "a\nb"):
        page = await dashboard.post("/dashboard/accounts/rename", {"user": one.user_id, "label": label})
        assert (page.status, page.markup.says("This cannot be the account's label")) == (400, True)
    renamed = await dashboard.post("/dashboard/accounts/rename", {"user": one.user_id, "label": "three @home"})
    assert renamed.location == "/dashboard/accounts"
    assert labels(dashboard.bridge) == ["three @home", "two"]


async def test_the_attempts_of_the_last_day_and_the_last_cooldown_are_shown(arena: Arena, dashboard: Dashboard) -> None:
    bridge = dashboard.bridge
    await two(arena, dashboard)
    stats = bridge.app[STATS]
    for reason, count in ((Reason.OK, 6), (Reason.RATE_LIMITED, 1), (Reason.TIMEOUT, 1)):
        for _ in range(count):
            stats.stats.record_attempt("one", reason)
    for _ in range(2):
        stats.stats.record_attempt("two", Reason.OK)
    await stats.flush()
    await bridge.state.update_accounts(
        lambda found: tuple(replace(each, last_cooldown=Cooldown("chat", 9e99, 90.0)) for each in found)
    )
    page = await dashboard.get("/dashboard/accounts")
    assert page.markup.says("6 answered, 1 limited by the site, 1 failed")
    assert page.markup.says("80 % of all requests")
    assert page.markup.says("for 1 min 30 s")
    kinds = [attributes["class"] for tag, attributes in page.markup.elements if tag == "rect"]
    assert (kinds.count("track"), kinds.count("limited"), kinds.count("failed"), kinds.count("ok")) == (48, 1, 1, 2)


async def test_every_page_warns_of_a_login_that_ends_within_a_day(arena: Arena, dashboard: Dashboard) -> None:
    note = "ends for good"
    await paste(dashboard, arena.sign_in("far@b", expires_in=3 * 86_400, renewable=False).cookie_value, "far")
    assert not (await dashboard.get("/dashboard/keys")).markup.says(note)
    assert (await dashboard.get("/dashboard/accounts")).markup.says("Days left of 7, at most: 3.0")
    await paste(dashboard, arena.sign_in("soon@b", expires_in=80_000, renewable=False).cookie_value, "soon")
    for page in ("", "/keys", "/accounts", "/models", "/activity", "/playground"):
        assert (await dashboard.get(f"/dashboard{page}")).markup.says("The login of “soon” ends for good"), page
