"""The overview: the daemon's health, and numbers and charts that are updated without a reload."""

from __future__ import annotations

from browsing import IN_BROWSER, PAGES
from playwright.async_api import Locator, Page, expect
from running import RunningBridge

from handlers.request.appkeys import STATS
from upstream.arena import Arena

pytestmark = IN_BROWSER


def tile(page: Page, title: str) -> Locator:
    """The number with this title in the first row."""
    return page.locator(".tiles > div").filter(has=page.get_by_text(title, exact=True)).get_by_role("definition")


async def test_numbers_and_charts_follow_new_requests_without_a_reload(page: Page, bridge: RunningBridge) -> None:
    await page.goto(PAGES["overview"])
    await page.evaluate("window.unchanged = true")
    chart = page.get_by_role("img", name="Requests in the last 2 hours")
    await expect(tile(page, "Requests")).to_have_text("0in the last 2 hours")
    await expect(page.get_by_role("img", name="no requests in the last 2 hours")).to_be_visible()

    for model in (bridge.model(), bridge.model(), "no-such-model"):
        async with await bridge.post(bridge.chat("hello", model=model)) as answer:
            await answer.read()
    await bridge.app[STATS].flush()  # as the daemon does every few seconds
    await expect(tile(page, "Requests")).to_have_text("3in the last 2 hours")
    await expect(tile(page, "Failed")).to_contain_text("0 %")
    await expect(tile(page, "Refused here")).to_contain_text("1")
    await expect(chart).to_have_accessible_name("Requests in the last 2 hours: 2 answered, 0 failed, 1 refused.")
    await expect(chart.locator(".bar rect")).to_have_count(2)
    await expect(
        page.get_by_role("img", name=f"Requests by model: {bridge.model()} first, with 2 of 2")
    ).to_be_visible()
    await expect(page.get_by_role("img", name="Requests by key: test first, with 3 of 3 requests.")).to_be_visible()
    await expect(page.get_by_role("row", name="rejected here 1")).to_be_visible()

    await page.locator("#models-numbers summary").click()
    numbers = page.get_by_role("region", name="Top models as numbers")
    await expect(numbers.get_by_role("row", name=f"{bridge.model()} 2 0")).to_be_visible()
    async with await bridge.post(bridge.chat("hello")) as answer:
        await answer.read()
    await bridge.app[STATS].flush()
    await expect(numbers.get_by_role("row", name=f"{bridge.model()} 3 0")).to_be_visible()  # updated, and still open
    assert await page.evaluate("window.unchanged"), "the page was loaded anew"

    for span in ("24 hours", "7 days", "2 weeks", "2 years"):
        await page.get_by_role("link", name=span).click()
        await expect(
            page.get_by_role("img", name=f"Requests in the last {span}: 3 answered, 0 failed, 1 refused.")
        ).to_be_visible()
        await expect(page.get_by_role("link", name=span)).to_have_attribute("aria-current", "true")


async def test_the_headline_shows_a_problem_and_what_to_do_about_it(
    page: Page, bridge: RunningBridge, arena: Arena
) -> None:
    await page.goto(PAGES["overview"])
    await expect(page.get_by_role("heading", name="Ready for the first question")).to_be_visible()
    arena.clearance = "expected"
    async with await bridge.post(bridge.chat("hello")) as answer:
        assert answer.status == 503
    await expect(page.get_by_role("heading", name="Action needed")).to_be_visible()
    await expect(page.get_by_text("What to do now: open the site in your browser")).to_be_visible()
