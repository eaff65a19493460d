"""Use by keyboard: the focus is always visible and moves as expected, and Escape closes what has been opened."""

from __future__ import annotations

import json

from browsing import IN_BROWSER, PAGES, PASSWORD, visiting
from playwright.async_api import Browser, Page, expect
from running import RunningBridge

pytestmark = IN_BROWSER

#: The name of the focused element, and whether its focus is visible, which it may also be on its label.
FOCUS = """() => {
  const element = document.activeElement;
  const outlined = (each) => getComputedStyle(each).outlineStyle !== "none" && each.getBoundingClientRect().width > 1;
  const name = element.getAttribute("aria-label") ?? element.labels?.[0]?.textContent ?? element.textContent;
  return [name.trim(), [element, ...(element.labels ?? [])].some(outlined)];
}"""


async def tab_to(page: Page, name: str) -> None:
    """Press Tab until the element with this name has the focus, which must be visible at each step."""
    for _ in range(60):
        await page.keyboard.press("Tab")
        here, seen = await page.evaluate(FOCUS)
        assert seen, here
        if here == name:
            return
    raise AssertionError(f"no way to {name}")


async def test_a_key_is_created_and_revoked_by_keyboard_alone(browser: Browser, bridge: RunningBridge) -> None:
    async with visiting(browser, bridge.origin) as page:
        await page.goto("/")
        await expect(page.get_by_label("Password")).to_be_focused()
        await page.keyboard.type(PASSWORD)
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/dashboard")
        await tab_to(page, "Keys")
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/keys")
        await tab_to(page, "Name")
        await page.keyboard.type("laptop")
        await tab_to(page, "Allow stealth models")
        await page.keyboard.press("Space")
        await tab_to(page, "Make the key")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="Key “laptop” created")).to_be_visible()
        assert [key.stealth for key in bridge.state.keys if key.name == "laptop"] == [True]

        question = page.get_by_text("Revoke “laptop”?")
        await tab_to(page, "Revoke laptop")
        await page.keyboard.press("Enter")
        await expect(question).to_be_visible()
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("button", name="Yes, revoke")).to_be_focused()
        await page.keyboard.press("Escape")
        await expect(question).to_be_hidden()
        assert (await page.evaluate(FOCUS))[0] == "Revoke laptop"
        await page.keyboard.press("Enter")
        await tab_to(page, "Yes, revoke")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("row", name="laptop")).to_have_count(0)
        assert [key.name for key in bridge.state.keys] == ["test"]
        await tab_to(page, "Log out")
        await page.keyboard.press("Enter")
        await expect(page.get_by_label("Password")).to_be_focused()


async def test_the_focus_is_visible_on_every_element_of_every_page(page: Page, bridge: RunningBridge) -> None:
    async with await bridge.post(bridge.chat("hello", model="no-such-model")) as answer:
        await answer.read()
        request_id = answer.headers["x-request-id"]
    for address in (*PAGES.values(), f"{PAGES['activity']}/{request_id}"):
        await page.goto(address)
        await page.keyboard.press("Tab")
        assert await page.evaluate(FOCUS) == ["Skip to the content", True]
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("main")).to_be_focused()
        names: list[str] = []
        while True:
            await page.keyboard.press("Tab")
            here, seen = await page.evaluate(FOCUS)
            if here == "Skip to the content" or await page.evaluate("document.activeElement === document.body"):
                break  # that was the whole page
            names.append(here)
            assert seen, (address, names)
        assert names, address
        assert "Log out" not in names, "the link has not skipped the menu"


async def test_keyboard_shortcuts_open_pages_and_focus_the_search(page: Page) -> None:
    await page.goto(PAGES["overview"])
    await page.keyboard.press("?")
    shortcuts = page.get_by_role("dialog", name="Keyboard shortcuts")
    await expect(shortcuts).to_contain_text("g y")
    await page.keyboard.press("Escape")
    await expect(shortcuts).to_be_hidden()
    await page.keyboard.press("g")
    await page.keyboard.press("y")
    await page.wait_for_url("**/dashboard/activity")
    await page.keyboard.press("/")
    search = page.get_by_role("searchbox")
    await expect(search).to_be_focused()
    await page.keyboard.type("gk?/")
    await expect(search).to_have_value("gk?/")  # text in a field triggers no shortcut
    assert page.url.endswith("/dashboard/activity")


async def test_the_dashboard_can_be_installed_as_an_app(page: Page) -> None:
    await page.goto(PAGES["overview"])
    client = await page.context.new_cdp_session(page)
    found = await client.send("Page.getAppManifest")
    assert (found["errors"], json.loads(found["data"])["start_url"]) == ([], "/dashboard")
    errors = (await client.send("Page.getInstallabilityErrors"))["installabilityErrors"]
    assert [each["errorId"] for each in errors] == ["in-incognito"]  # like every page in these tests
