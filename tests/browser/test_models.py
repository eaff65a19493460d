"""Models: searched, filtered, copied, tried."""

from __future__ import annotations

from browsing import IN_BROWSER, PAGES
from playwright.async_api import Page, expect
from running import RunningBridge

pytestmark = IN_BROWSER


async def test_models_are_searched_filtered_and_sorted_and_a_name_is_copied(page: Page, bridge: RunningBridge) -> None:
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await page.goto(PAGES["models"])
    rows, found = page.locator("#list tr:visible"), page.locator("output")
    everything = await rows.count()
    await expect(found).to_have_text(f"{everything} found")

    await page.get_by_role("searchbox").fill("Anthropic THINKING")
    await expect(rows).to_have_count(1)
    await expect(found).to_have_text("1 found")
    await rows.get_by_role("button", name="Copy").click()
    await expect(rows.get_by_role("button", name="Copy")).to_have_text("Copied")
    name = "claude-opus-5-1-20260114-thinking-32k"
    assert await page.evaluate("navigator.clipboard.readText()") == name
    async with await bridge.post(bridge.chat("hello", model=name)) as answer:
        assert answer.status == 200

    await page.get_by_role("searchbox").fill("")
    await page.get_by_label("draws").check()
    drawing = await rows.count()
    await page.get_by_label("sees pictures").check()
    assert 0 < await rows.count() < drawing < everything
    for row in await rows.all():
        await expect(row).to_contain_text("draws")
        await expect(row).to_contain_text("sees pictures")
    await page.get_by_label("Order").focus()
    await page.get_by_label("Order").select_option("name, A to Z")
    await expect(page.locator("th[aria-sort]")).to_have_text("Name")
    await expect(page.get_by_label("Order")).to_be_focused()
    assert await rows.count() < drawing  # the filters still apply
    await page.reload()  # they are in the address
    await expect(page.get_by_label("draws")).to_be_checked()
    assert await rows.count() < drawing
    await page.get_by_role("searchbox").fill("no such model")
    await expect(found).to_have_text("0 found")
    await page.get_by_role("link", name="clear").click()
    await expect(rows).to_have_count(everything)
    await expect(page).to_have_url(f"{bridge.origin}{PAGES['models']}?sort=name")

    await page.get_by_role("searchbox").fill("gemini")
    await page.get_by_role("columnheader", name="Name").get_by_role("link").focus()
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(f"{bridge.origin}{PAGES['models']}?q=gemini&sort=-name")
    await expect(page.locator("th[aria-sort=descending]")).to_have_text("Name")
    await page.get_by_role("button", name="Read now").click()
    await expect(page.get_by_role("status").filter(has_text="The site lists")).to_contain_text("No models were added")
    await expect(page.get_by_role("searchbox")).to_have_value("gemini")


async def test_a_favourite_is_marked_without_reloading_the_page(page: Page, bridge: RunningBridge) -> None:
    await page.goto(PAGES["models"])
    await page.evaluate("window.unchanged = true")
    button = page.locator("#list tr").last.get_by_role("button", name="Favourite ")
    for favourite in (True, False):
        await button.press("Enter")
        await expect(button).to_have_attribute("aria-pressed", str(favourite).lower())
        await expect(button).to_be_focused()
        assert len(bridge.state.admin.favourites) == favourite
    assert await page.evaluate("window.unchanged")
    await page.locator("form#star [name=csrf]").evaluate("(input) => { input.value = 'of an earlier login' }")
    await button.click()
    await expect(page.get_by_role("alert")).to_contain_text("Nothing was changed")
    await page.reload()
    await expect(page.get_by_role("heading", name="Models")).to_be_visible()


async def test_a_name_is_copied_where_the_browser_offers_no_clipboard(page: Page) -> None:
    await page.goto(PAGES["models"])
    await page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    copy = page.get_by_role("button", name="Copy glm-5.2")
    await copy.press("Enter")
    await expect(copy).to_have_text("Copied")
    await expect(copy).to_be_focused()
    await page.get_by_role("searchbox").focus()
    await page.keyboard.press("ControlOrMeta+v")
    await expect(page.get_by_role("searchbox")).to_have_value("glm-5.2")


async def test_the_try_link_of_a_model_selects_it_in_the_playground(page: Page) -> None:
    await page.goto(PAGES["models"])
    await page.get_by_role("link", name="Try gemini-4-pro-image-preview-2k (nano-mango-pro)").click()
    await expect(page.get_by_label("Model", exact=True)).to_have_value("gemini-4-pro-image-preview-2k (nano-mango-pro)")
