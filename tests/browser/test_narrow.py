"""Screens of several widths: no page scrolls sideways, however long names are, and what opens stays on the screen."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

import pytest
from browsing import IN_BROWSER, PAGES, log_in, visiting
from kept_requests import kept
from playwright.async_api import Browser, Page, expect
from running import RunningBridge, api_key

from bridge.accounts.enrolment import enrolled
from bridge.tasks import TaskOwner
from handlers.request.appkeys import STATS
from upstream.arena import Arena, Line, Until
from upstream.protocol import cookies

pytestmark = IN_BROWSER

WIDTH, HEIGHT = 360, 740
LONG = "m" * 100


async def overhang(page: Page) -> int:
    """How many pixels the page is wider than the screen."""
    pixels: int = await page.evaluate("document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth")
    return pixels


@pytest.fixture
def arena(arena: Arena) -> Arena:
    """An arena whose first model has a long name."""
    first, *others = arena.models
    arena.models = (replace(first, public_name=LONG), *others)
    return arena


async def test_no_page_is_wider_than_a_phones_screen(browser: Browser, arena: Arena, bridge: RunningBridge) -> None:
    phone = {"viewport": {"width": WIDTH, "height": HEIGHT}, "has_touch": True, "is_mobile": True}
    secret, key = api_key(name="K" * 64, models=("g" * 90, "*"), stealth=True, metrics=True)
    await bridge.state.update_keys(lambda keys: (*keys, key))
    arena.script = lambda _: [Line("a0", "so "), Until(asyncio.Event())]
    async with TaskOwner() as tasks, visiting(browser, bridge.origin, **phone) as page:
        headers = {"Authorization": f"Bearer {secret}", "User-Agent": "U" * 200}
        for model in (LONG, "n" * 200):
            body = bridge.chat("hello", model=model, stream=True)
            tasks.spawn(bridge.post(body, headers=headers), name="ask")
        await page.goto("/dashboard/login")
        assert await overhang(page) == 0
        await log_in(page)
        key_page = f"/dashboard/key/{next(iter(bridge.state.keys)).id}"
        for name, address in {**PAGES, "a key": key_page}.items():
            await page.goto(address)
            await page.evaluate(
                "document.querySelectorAll('details:not(.ask)').forEach((each) => { each.open = true })"
            )
            assert await overhang(page) == 0, name
            for summary in await page.locator(".ask > summary").all():
                await summary.tap()
                box = await page.locator(".ask[open] > .panel").bounding_box()
                assert box is not None
                assert 0 <= box["x"] <= box["x"] + box["width"] <= WIDTH, name
                assert 0 <= box["y"] <= box["y"] + box["height"] <= HEIGHT, name
                await page.touchscreen.tap(5, 5)
                assert await page.locator(".ask[open]").count() == 0, name
        for entry in await kept(bridge):
            await page.goto(f"{PAGES['activity']}/{entry.id}")
            await page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true })")
            assert await overhang(page) == 0, "a request"
        await page.goto(PAGES["keys"])
        await page.get_by_label("Name", exact=True).fill("W" * 64)
        await page.get_by_role("button", name="Make the key").tap()
        await expect(page.locator("#secret")).to_be_visible()
        assert await overhang(page) == 0


@pytest.mark.parametrize("width", [840, 1024, 1440])
async def test_opened_panels_stay_within_wider_screens(
    width: int, page: Page, arena: Arena, bridge: RunningBridge
) -> None:
    _, key = api_key(name="K" * 64, models=("g" * 90, "*"), note="N" * 200)
    await bridge.state.update_keys(lambda keys: (*keys, key))
    other = cookies.decode(arena.sign_in("an-office-with-a-long-name@example.org").cookie_value)
    await bridge.state.update_accounts(partial(enrolled, label=None, session=other))
    async with await bridge.post(bridge.chat("hello", model=LONG)) as answer:
        await answer.read()
    await bridge.app[STATS].flush()
    await page.set_viewport_size({"width": width, "height": 1000})
    await page.goto(PAGES["overview"])
    await page.locator("#models-numbers summary").click()
    numbers = page.get_by_role("region", name="Top models as numbers")
    assert await numbers.evaluate("(region) => region.scrollWidth - region.clientWidth") == 0
    for address in (PAGES["keys"], f"/dashboard/key/{key.id}", PAGES["accounts"]):
        await page.goto(address)
        assert await overhang(page) == 0, address
        for summary in await page.locator(".ask > summary").all():
            await summary.press("Enter")
            box = await page.locator(".ask[open] > .panel").bounding_box()
            assert box is not None
            assert 0 <= box["x"] <= box["x"] + box["width"] <= width, (address, await summary.inner_text())
            await page.keyboard.press("Escape")
