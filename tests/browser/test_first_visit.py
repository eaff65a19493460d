"""Logging in and out: the one-time address, the password, and what remains in the browser afterwards."""

from __future__ import annotations

from pathlib import Path

from browsing import IN_BROWSER, PAGES, PASSWORD, visiting
from playwright.async_api import Browser, Page, expect
from running import RunningBridge, running_bridge

from handlers.dashboard.login import setup_code
from upstream.arena import Arena

pytestmark = IN_BROWSER


async def test_the_one_time_setup_address_sets_the_password(browser: Browser, arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(arena, tmp_path) as bridge, visiting(browser, bridge.origin) as page:
        await page.goto("/")
        await expect(page.get_by_role("heading", name="Set the password")).to_be_visible()
        await page.goto(f"/dashboard/setup#{setup_code(bridge.app)}")
        await expect(page.get_by_label("Code")).to_have_value(f"{setup_code(bridge.app)}")
        assert "#" not in page.url  # the code does not stay in the history
        await expect(page.get_by_label("New password")).to_be_focused()

        await page.get_by_label("New password").fill("password1234")
        await page.get_by_label("Repeat the password").fill("password1234")
        await page.get_by_role("button", name="Set and log in").click()
        await expect(page.get_by_role("alert")).to_contain_text("easy to guess")

        await page.get_by_label("Code").fill(f"{setup_code(bridge.app)}")
        await page.get_by_label("New password").fill(PASSWORD)
        await page.get_by_label("Repeat the password").fill(PASSWORD)
        await page.get_by_role("button", name="Set and log in").click()
        await expect(page.get_by_role("heading", name="Ready for the first question")).to_be_visible()

        assert setup_code(bridge.app) is None
        await page.get_by_role("button", name="Log out").click()
        await page.goto("/dashboard/setup")
        await page.wait_for_url("**/dashboard/login")
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_role("button", name="Log in").click()
        await expect(page.get_by_role("heading", name="Ready for the first question")).to_be_visible()


async def test_every_page_asks_for_the_password(browser: Browser, bridge: RunningBridge) -> None:
    async with visiting(browser, bridge.origin) as page:
        for address in PAGES.values():
            await page.goto(address)
            await expect(page.get_by_role("heading", name="Log in")).to_be_visible()
        await page.get_by_label("Password").fill("a heron on the weir, at dawn")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_have_text("Wrong password.")
        await expect(page.get_by_label("Password")).to_have_value("")


async def test_the_back_button_shows_no_data_after_logging_out(page: Page) -> None:
    for address in (PAGES["keys"], PAGES["accounts"]):
        await page.goto(address)
    await page.get_by_role("button", name="Log out").click()
    await page.wait_for_url("**/dashboard/login")
    for _ in range(2):
        await page.go_back()
        await expect(page.get_by_role("heading", name="Log in")).to_be_visible()
        assert "example.org" not in await page.content()


async def test_an_ended_session_redirects_an_open_page_to_the_login_and_back(page: Page) -> None:
    await page.goto("/dashboard?span=7d")
    await page.context.clear_cookies()
    await page.wait_for_url("**/dashboard/login?next=/dashboard%3Fspan%3D7d")
    await page.get_by_label("Password").fill(PASSWORD)
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/dashboard?span=7d")
