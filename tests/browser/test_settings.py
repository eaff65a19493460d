"""Settings in a browser: by keyboard alone, with the filter, and the diagnosis as a file."""

from __future__ import annotations

import asyncio
import json

from browsing import IN_BROWSER, PAGES
from playwright.async_api import Page, expect
from running import RunningBridge

from bridge.config.schema import KEYS
from handlers.request.appkeys import SETTINGS

pytestmark = IN_BROWSER


async def test_settings_are_searched_and_the_diagnosis_and_the_log_level_used_by_keyboard(
    page: Page, bridge: RunningBridge
) -> None:
    await page.goto(PAGES["settings"])
    rows = page.locator("#list tr:visible")
    everything = await rows.count()
    await page.get_by_label("Search").focus()
    await page.keyboard.type("KEEP alive")  # in names and descriptions
    await expect(rows).to_have_count(2)
    await page.keyboard.press("ControlOrMeta+a")
    await page.keyboard.press("Delete")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Space")  # only settings that need a restart
    await expect(rows).to_have_count(sum(key.needs_restart for key in KEYS.values()))
    await page.keyboard.press("Space")
    await expect(rows).to_have_count(everything)

    async with page.expect_download() as begun:
        await page.get_by_role("link", name="Download diagnosis").press("Enter")
    download = await begun.value
    assert download.suggested_filename == "lmarena-bridge-diagnosis.json"
    content = await asyncio.to_thread((await download.path()).read_text)
    assert json.loads(content)["versions"]["bridge"]

    await page.get_by_label("Level", exact=True).focus()
    await page.keyboard.type("debug")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("Level debug, prompts and answers not logged")).to_be_visible()
    assert bridge.app[SETTINGS].config.log.level == "debug"
    await page.get_by_role("button", name="Switch back now").press("Enter")
    await expect(page.get_by_role("button", name="Switch back now")).to_have_count(0)

    await page.get_by_role("button", name="Read again").press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("nothing has changed")
