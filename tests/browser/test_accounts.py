"""Accounts: every form of copy is accepted and its owner shown, and an expired account is renewed in place."""

from __future__ import annotations

import json
import shlex
from typing import Final

from browsing import IN_BROWSER, PAGES
from playwright.async_api import Page, expect
from running import RunningBridge

from handlers.request.appkeys import RENEWALS, STATS
from upstream.arena import Arena, Session

pytestmark = IN_BROWSER

CLEARANCE: Final = "cL3ar.ance-1763-1.2.1.1-x_y"
AGENT: Final = "Mozilla/5.0 (X11; Linux x86_64) Chrome/156.0.0.0"


def header(session: Session, *, pieces: bool = False) -> str:
    """The session's cookies as a browser sends them."""
    return "; ".join(f"{name}={value}" for name, value in session.cookies(pieces=pieces).items())


def curl(session: Session) -> str:
    """ "Copy as cURL" of any request to the site."""
    cookies = f"_ga=GA1.1; cf_clearance={CLEARANCE}; {header(session)}"
    words = ("https://arena.example/?mode=direct", "-H", f"user-agent: {AGENT}", "-b", cookies)
    return "curl " + " ".join(map(shlex.quote, words))


def export(session: Session) -> str:
    """The session's cookies as a browser extension exports them."""
    return json.dumps(
        [{"domain": ".arena.example", "name": n, "value": v} for n, v in session.cookies(pieces=True).items()]
    )


FORMS: Final = {
    "value": lambda session: session.cookie_value,
    "pieces": lambda session: "\n".join(session.cookies(pieces=True).values()),
    "header": lambda session: f"Cookie: _ga=GA1.1; {header(session, pieces=True)}",
    "export": export,
    "curl": curl,
}


async def paste(page: Page, text: str, name: str = "") -> None:
    """Submit the copied text."""
    await page.get_by_label("What you copied").fill(text)
    await page.get_by_label("Label").fill(name)
    await page.get_by_role("button", name="Add or renew").click()


async def ask(bridge: RunningBridge) -> int:
    """The status of a chat."""
    async with await bridge.post(bridge.chat("hello")) as answer:
        await answer.read()
        return answer.status


async def test_every_form_of_paste_adds_the_account_and_shows_its_owner(
    page: Page, bridge: RunningBridge, arena: Arena
) -> None:
    await page.goto(PAGES["accounts"])
    for form, copied in FORMS.items():
        session = arena.sign_in(f"{form}@example.org")
        await paste(page, copied(session), form)
        await expect(page.get_by_role("status").first).to_contain_text(f"Added “{form}”: {form}@example.org.")
        card = page.get_by_role("region", name=form)
        await expect(card).to_contain_text("usable")
        await expect(card).to_contain_text("renews itself token until")
        assert session.cookie_value not in await page.content()
    assert [account.label for account in bridge.state.pool][1:] == list(FORMS)


async def test_a_copied_request_also_provides_the_clearance(page: Page, bridge: RunningBridge, arena: Arena) -> None:
    arena.clearance = CLEARANCE
    assert await ask(bridge) == 503
    await page.goto(PAGES["accounts"])
    await paste(page, curl(arena.sign_in()))
    await expect(page.get_by_role("status").first).to_contain_text("cf_clearance and user agent are used from now on")
    assert await ask(bridge) == 200
    assert arena.calls[-1].headers["user-agent"] == AGENT
    assert CLEARANCE not in await page.content()


async def test_an_unusable_paste_is_refused_with_the_reason(page: Page, bridge: RunningBridge) -> None:
    await page.goto(PAGES["accounts"])
    for text, said in {"hello": "no session cookie in it", "arena-auth-prod-v1=base64-*": "not base64"}.items():
        await paste(page, text, "laptop")
        await expect(page.get_by_role("alert")).to_contain_text(said)
        await expect(page.get_by_label("Label")).to_have_value("laptop")
    assert len(bridge.state.pool) == 1


async def test_an_expired_account_is_renewed_in_place(
    page: Page, bridge: RunningBridge, arena: Arena, session: Session
) -> None:
    [account] = bridge.state.pool
    await page.goto(PAGES["accounts"])
    card = page.get_by_role("region", name=account.label)
    await expect(card).to_contain_text("usable")
    arena.expire(session)
    assert await ask(bridge) == 503
    await expect(card).to_contain_text("the site no longer accepts its login")  # without a reload
    await card.get_by_role("link", name="Renew").click()
    await expect(page.get_by_label("What you copied")).to_be_focused()
    await paste(page, arena.sign_in(session.email).cookie_value)
    await expect(page.get_by_role("status").first).to_contain_text(f"Renewed “{account.label}”")
    await expect(card).to_have_count(1)
    await expect(card).to_contain_text("usable")
    assert await ask(bridge) == 200
    await expect(card).to_contain_text("expired")  # among its last answers
    await expect(card.locator(".answer").first).to_contain_text("ok")


async def test_changes_of_an_accounts_state_are_shown_without_a_reload(
    page: Page, bridge: RunningBridge, arena: Arena, session: Session
) -> None:
    [account] = bridge.state.pool
    await page.goto(PAGES["accounts"])
    card = page.get_by_role("region", name=account.label)
    badge = card.locator(".head .reason")
    await expect(badge).to_have_text("usable")
    for guest, consented, word, said in (
        (True, True, "guest", "sign in to the site in the browser that the cookie came from"),
        (False, False, "terms not accepted", "read its terms and accept them if you agree"),
        (False, True, "usable", "renews itself"),
    ):
        session.guest, session.consented = guest, consented
        await bridge.app[RENEWALS].is_alive(account)  # asks the site again
        await expect(badge).to_have_text(word)
        await expect(card).to_contain_text(said)
    arena.faults.arm("server_error", None, on="me")
    for _ in range(2):
        await bridge.app[RENEWALS].is_alive(account)
    await expect(badge).to_have_text("renewal failing")
    await expect(card).to_contain_text("the bridge keeps retrying")


async def test_an_account_is_removed_after_confirmation(page: Page, bridge: RunningBridge) -> None:
    [account] = bridge.state.pool
    await page.goto(PAGES["accounts"])
    await page.get_by_text("Remove", exact=True).click()
    await page.get_by_role("button", name="Yes, remove").click()
    await expect(page.get_by_text("No account yet")).to_be_visible()
    assert account not in list(bridge.state.pool)
    assert await ask(bridge) == 503


async def test_an_account_is_tested_paused_and_renamed_by_keyboard(page: Page, bridge: RunningBridge) -> None:
    await page.goto(PAGES["accounts"])
    await page.get_by_role("button", name="Test ").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("status").first).to_contain_text("the site accepts its login")
    await page.reload()  # does not test it again
    await expect(page.get_by_role("status").filter(has_text="the site accepts its login")).to_have_count(0)
    [account] = bridge.state.pool
    card = page.get_by_role("region", name=account.label)
    await card.get_by_role("button", name="Pause").focus()
    await page.keyboard.press("Enter")
    await expect(card.locator(".head .reason")).to_have_text("paused")
    assert await ask(bridge) == 503
    await card.get_by_text("Rename").first.click()
    await card.get_by_label("New name").fill("the <b>one</b>")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert").first).to_contain_text("cannot be the account's label")
    await card.get_by_text("Rename").first.click()
    await card.get_by_label("New name").fill("the one")
    await page.keyboard.press("Enter")
    card = page.get_by_role("region", name="the one")
    await card.get_by_role("button", name="Resume").click()
    await expect(card.locator(".head .reason")).to_have_text("usable")
    assert await ask(bridge) == 200
    await bridge.app[STATS].flush()
    await expect(card.get_by_role("img")).to_have_attribute(
        "aria-label", "Answers of the last 24 hours: 1 answered, 0 limited by the site, 0 failed"
    )
