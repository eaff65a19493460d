"""Without JavaScript: logging in, keys, accounts and the other pages still work."""

from __future__ import annotations

from browsing import IN_BROWSER, PAGES, PASSWORD, visiting
from playwright.async_api import Browser, expect
from running import RunningBridge

from upstream.arena import Arena

pytestmark = IN_BROWSER


async def test_the_pages_of_the_dashboard_work_without_javascript(
    browser: Browser, bridge: RunningBridge, arena: Arena
) -> None:
    async with visiting(browser, bridge.origin, java_script_enabled=False) as page:
        await page.goto("/")
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_role("button", name="Log in").click()
        await expect(page.get_by_role("heading", name="Ready for the first question")).to_be_visible()

        await page.get_by_role("link", name="Keys").click()
        await page.get_by_label("Name", exact=True).fill("laptop")
        await page.get_by_role("button", name="Make the key").click()
        await expect(page.locator("#secret")).to_contain_text("sk-lmab-")
        await expect(page.locator("#curl")).to_contain_text(f"curl -N {bridge.origin}/v1/")
        await expect(page.get_by_role("button", name="Copy")).to_have_count(0)  # it would do nothing
        row = page.get_by_role("row", name="laptop")
        await row.get_by_text("Revoke", exact=True).click()
        await row.get_by_role("button", name="Yes, revoke").click()
        await expect(row).to_have_count(0)

        assert await page.get_by_label("Only these models").first.get_attribute("list") == "models"
        assert await page.locator("#models option").count() > 20

        await page.goto(PAGES["models"])
        await page.get_by_role("button", name="Favourite glm-5.2").click()
        await expect(page.locator("#list tr").first).to_contain_text("glm-5.2")
        await page.get_by_role("searchbox").fill("google")
        await page.get_by_label("draws").check()
        await page.get_by_label("Order").select_option("name, Z to A")
        await page.get_by_role("button", name="Find").click()
        await expect(page.locator("th[aria-sort=descending]")).to_have_text("Name")
        await expect(page.locator("#list tr:visible").first).to_contain_text("draws")
        await page.get_by_role("searchbox").fill("no such model")
        await page.get_by_role("button", name="Find").click()
        await page.get_by_role("link", name="clear").click()
        await expect(page.locator("#none")).to_be_hidden()
        await page.get_by_role("button", name="Read now").click()
        await expect(page.get_by_text("No models were added or removed.")).to_be_visible()

        await page.get_by_role("link", name="Accounts").click()
        await page.get_by_label("What you copied").fill(arena.sign_in("office@example.org").cookie_value)
        await page.get_by_role("button", name="Add or renew").click()
        await expect(page.get_by_text("Added “office@example.org”")).to_be_visible()

        async with await bridge.post(bridge.chat("/say hello")) as answer:
            request_id = answer.headers["x-request-id"]
        await page.goto(PAGES["activity"])
        await expect(page.get_by_text("the bridge’s")).to_be_visible()  # the time zone
        await page.get_by_label("Search").fill("nothing like that")
        await page.get_by_role("button", name="Find").click()
        await expect(page.get_by_text("No request matches all of these conditions.")).to_be_visible()
        await page.get_by_label("Search").fill(request_id)
        await page.get_by_role("button", name="Find").click()
        await page.get_by_role("link", name=f"Details of {request_id}").click()
        await expect(page.get_by_role("heading", name=bridge.model())).to_be_visible()

        await page.goto(PAGES["settings"])
        await page.get_by_role("button", name="for 15 minutes").click()
        await page.get_by_role("button", name="Switch back now").click()
        await page.get_by_role("button", name="Read again").click()
        await expect(page.get_by_text("nothing has changed")).to_be_visible()
        await page.get_by_label("Search").fill("REDIS prefix")
        await page.get_by_label("needs a restart").check()
        await page.get_by_role("button", name="Find").click()
        await expect(page.locator("#list tr:visible")).to_have_count(1)

        for name in ("overview", "models", "activity"):
            await page.goto(PAGES[name])
            await expect(page.get_by_role("heading", level=1)).to_be_visible()
        await page.get_by_role("button", name="Log out").click()
        await expect(page.get_by_role("heading", name="Log in")).to_be_visible()
