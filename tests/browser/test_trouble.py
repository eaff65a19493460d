"""Trouble is shown in the headline, the tab's title and its icon, and so is a daemon that cannot be reached."""

from __future__ import annotations

from browsing import IN_BROWSER, PAGES, log_in
from playwright.async_api import Browser, Page, expect
from running import RunningBridge

from handlers.request.appkeys import STATS
from upstream.arena import Arena

pytestmark = IN_BROWSER


async def icon(page: Page) -> str:
    """The name of the icon's file."""
    address: str = await page.locator("link[rel=icon]").get_attribute("href") or ""
    return address.rpartition("/")[2].partition("?")[0]


async def test_failures_are_shown_in_the_headline_the_title_and_the_icon(
    page: Page, bridge: RunningBridge, arena: Arena
) -> None:
    for _ in range(19):
        async with await bridge.post(bridge.chat("/say hi")):
            pass
    await bridge.app[STATS].flush()
    await page.goto(PAGES["overview"])
    await expect(page.get_by_role("heading", name="All is well")).to_be_visible()
    await expect(page).to_have_title("Overview · LMArena Bridge")
    assert await icon(page) == "icon.svg"

    arena.faults.arm("moderated")
    async with await bridge.post(bridge.chat("hello")):
        pass
    await bridge.app[STATS].flush()
    await expect(page.get_by_role("heading", name="Answering, but 5.0 % failed in the last 15 minutes")).to_be_visible()
    await expect(page).to_have_title("(!) 5.0 % failed · Overview · LMArena Bridge")
    assert await icon(page) == "icon-alert.svg"
    for name in ("activity", "keys"):
        await page.goto(PAGES[name])
        await expect(page).to_have_title(f"(!) 5.0 % failed · {name.title()} · LMArena Bridge")


async def test_a_lost_connection_is_shown_and_no_state_is_called_well_meanwhile(
    browser: Browser, bridge: RunningBridge
) -> None:
    async with await bridge.post(bridge.chat("/say hi")):
        pass
    await bridge.app[STATS].flush()
    context = await browser.new_context(base_url=bridge.origin)
    page = await context.new_page()
    await page.clock.install()
    await log_in(page)
    for name in ("overview", "accounts", "activity"):
        await page.goto(PAGES[name])
        await page.clock.run_for(2500)
        heading = await page.get_by_role("heading", level=1).inner_text()
        await context.set_offline(True)
        await page.clock.run_for(3000)
        await expect(page.get_by_role("alert")).to_be_hidden()  # one late answer is not reported
        await page.clock.run_for(5000)
        await expect(page.get_by_role("alert")).to_contain_text("No connection to the bridge since ")
        await expect(page).to_have_title(f"(!) No connection · {name.title()} · LMArena Bridge")
        assert await icon(page) == "icon-alert.svg"
        text = await page.get_by_role("main").inner_text()
        assert "well" not in text
        assert "nothing for you to do" not in text
        await context.set_offline(False)
        await page.clock.run_for(4000)
        await expect(page.get_by_role("alert")).to_be_hidden()
        await expect(page.get_by_role("heading", level=1)).to_have_text(heading)
        await expect(page).to_have_title(f"{name.title()} · LMArena Bridge")
    await context.close()


async def test_a_paused_page_does_not_change_until_it_is_resumed(page: Page, bridge: RunningBridge) -> None:
    await page.goto(PAGES["activity"])
    await page.get_by_role("button", name="Pause").click()
    async with await bridge.post(bridge.chat("hello", model="no-such-model")):
        pass
    async with page.expect_response(lambda answer: answer.url.endswith("/dashboard/activity")):
        await expect(page.get_by_role("row", name="no-such-model")).to_have_count(0)
        await page.get_by_role("button", name="Resume").click()
    await expect(page.get_by_role("row", name="no-such-model")).to_be_visible()
