"""Activity: the page shows requests begin and end without a reload, and a running one can be ended."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from browsing import IN_BROWSER, PAGES, log_in, visiting
from frames import DONE, frames
from kept_requests import kept
from playwright.async_api import Browser, Page, expect
from running import RunningBridge

from bridge.tasks import TaskOwner
from upstream.arena import Arena, Line, Until

pytestmark = IN_BROWSER


async def ask(bridge: RunningBridge, text: str, **body: object) -> bytes:
    """Send a chat, and return the streamed answer or the refusal."""
    async with await bridge.post(bridge.chat(text, stream=True, **body)) as answer:
        return await answer.read()


def hold(arena: Arena) -> asyncio.Event:
    """Make answers pause after their first delta until the event is set."""
    go_on = asyncio.Event()
    arena.script = lambda _: [
        Line("a0", "so "),
        Until(go_on),
        Line("a0", "it is"),
        Line("ad", {"finishReason": "stop"}),
    ]
    return go_on


async def test_a_request_is_shown_while_it_runs_and_after_it_has_ended(
    page: Page, bridge: RunningBridge, arena: Arena
) -> None:
    await page.goto(PAGES["activity"])
    await page.evaluate("window.unchanged = true")
    await expect(page.get_by_text("No requests yet.")).to_be_visible()
    go_on = hold(arena)
    async with TaskOwner() as tasks:
        asking = tasks.spawn(ask(bridge, "a secret heron"), name="ask")
        row = page.get_by_role("row", name=bridge.model())
        await expect(row).to_contain_text("running")
        await expect(page.get_by_role("status").first).to_have_text("1 running")
        go_on.set()
        assert frames(await asking)[-1] == DONE
    await expect(row).to_contain_text("ok 200")
    await expect(row).to_contain_text("test")
    await expect(page.get_by_role("status").first).to_have_text("0 running")
    assert await page.evaluate("window.unchanged"), "the page was loaded anew"
    assert "a secret heron" not in await page.content()


async def test_ending_a_running_answer_sends_its_caller_an_error(
    page: Page, bridge: RunningBridge, arena: Arena
) -> None:
    hold(arena)
    async with TaskOwner() as tasks:
        asking = tasks.spawn(ask(bridge, "go on for ever"), name="ask")
        await page.goto(PAGES["activity"])
        row = page.get_by_role("row", name=bridge.model())
        await row.get_by_text("End", exact=True).click()
        await row.get_by_role("button", name="Yes, end").click()
        *_, text, error = frames(await asking)
    assert json.loads(text)["choices"][0]["delta"]["content"] == "so "
    assert json.loads(error)["error"]["code"] == "ended_by_owner"
    await expect(row).to_contain_text("truncated")
    await asyncio.wait_for(arena.chats[-1].closed.wait(), 10)


async def test_open_details_and_the_focus_survive_the_arrival_of_new_requests(
    page: Page, bridge: RunningBridge, arena: Arena
) -> None:
    await ask(bridge, "hello", model="no-such-model")
    hold(arena)
    async with TaskOwner() as tasks:
        tasks.spawn(ask(bridge, "go on for ever"), name="ask")
        await page.goto(PAGES["activity"])
        refused, running = page.get_by_role("row", name="no-such-model"), page.get_by_role("row", name=bridge.model())
        await refused.get_by_text("model_not_found").click()
        await running.get_by_text("End", exact=True).focus()
        await page.keyboard.press("Enter")
        await page.keyboard.press("Tab")
        await expect(running.get_by_role("button", name="Yes, end")).to_be_focused()
        for newer in ("one-more", "another-one"):
            await ask(bridge, "hello", model=newer)
            await expect(page.get_by_role("row", name=newer)).to_be_visible()
        await expect(refused.get_by_text("GET /v1/models lists all models")).to_be_visible()
        await expect(running.get_by_role("button", name="Yes, end")).to_be_focused()


async def test_prompts_that_are_not_logged_are_not_shown(page: Page, bridge: RunningBridge) -> None:
    await ask(bridge, "a secret heron")
    await page.goto(PAGES["activity"])
    await expect(page.get_by_text("Prompts are not kept")).to_be_visible()
    assert "heron" not in await page.content()


async def test_searches_of_requests_are_in_the_address(page: Page, bridge: RunningBridge) -> None:
    for model in (bridge.model(), bridge.model(), "no-such-model"):
        await ask(bridge, "/say hello", model=model)
    await page.goto(PAGES["activity"])
    await page.evaluate("window.unchanged = true")
    await page.get_by_role("link", name="refused here 1").click()
    await page.wait_for_url("**/activity?outcome=refused")
    await expect(page.get_by_role("row", name="no-such-model")).to_be_visible()
    await expect(page.get_by_role("row", name=bridge.model())).to_have_count(0)
    await page.get_by_role("link", name="Clear").click()

    await page.get_by_label("Search").fill(bridge.model().upper())
    await page.keyboard.press("Enter")
    await page.wait_for_url(f"**/activity?q={bridge.model().upper()}")  # without the empty fields
    await expect(page.get_by_text("1 to 2 of 2")).to_be_visible()
    await page.get_by_text("Key, model, account, time").click()
    await page.get_by_label("Key", exact=True).select_option("test")
    await page.get_by_label("From", exact=True).fill("2h")
    await page.get_by_role("button", name="Find").click()
    await expect(page.get_by_label("From", exact=True)).to_have_value("2h")
    await expect(page.get_by_text("1 to 2 of 2")).to_be_visible()
    await ask(bridge, "/say hello")
    await expect(page.get_by_text("1 to 3 of 3")).to_be_visible()  # without a reload


async def test_the_page_of_a_request_offers_a_bug_report_without_email_addresses(
    page: Page, bridge: RunningBridge, arena: Arena
) -> None:
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    arena.faults.arm("server_error", status=503)
    await ask(bridge, "/say hello")
    await page.goto(PAGES["activity"])
    await page.get_by_role("link", name="Details of req_").click()
    await expect(page.get_by_role("heading", name=bridge.model())).to_be_visible()
    await expect(page.get_by_role("img", name="1. ada@example.org: upstream error after")).to_be_visible()
    await expect(page.locator(".timeline .bar")).to_have_count(3)
    await page.get_by_role("button", name="Copy request id").click()
    request_id: str = await page.evaluate("navigator.clipboard.readText()")
    assert page.url.endswith(f"/activity/{request_id}")
    await page.get_by_role("button", name="Copy for a bug report").click()
    report = json.loads(await page.evaluate("navigator.clipboard.readText()"))
    assert (report["id"], report["attempts"][0][3]) == (request_id, 503)
    assert "example.org" not in json.dumps(report)
    await page.get_by_role("link", name="Try this model").click()
    await expect(page.get_by_role("heading", name="Playground")).to_be_visible()


async def test_times_are_shown_and_entered_in_the_browsers_time_zone(browser: Browser, bridge: RunningBridge) -> None:
    await ask(bridge, "/say hello")
    async with visiting(browser, bridge.origin, timezone_id="America/Los_Angeles") as page:
        await log_in(page)
        await page.goto(PAGES["activity"])
        await expect(page.get_by_text("America/Los_Angeles, this browser’s")).to_be_visible()
        row = page.get_by_role("row", name=bridge.model())
        (entry,) = await kept(bridge)
        there = datetime.fromtimestamp(entry.at, ZoneInfo("America/Los_Angeles"))
        await expect(row.locator("time")).to_have_text(f"{there:%H:%M:%S}")
        await expect(row.locator("time")).to_have_attribute(
            "title", re.compile(f"{there.year}, {there:%H:%M:%S} GMT-[78]")
        )

        await page.goto(PAGES["accounts"])
        await expect(page.get_by_text("left for the next")).to_contain_text(f"(at {there:%H:%M})")
        await page.goto(PAGES["activity"])

        begins = there - timedelta(hours=1)
        await page.get_by_text("Key, model, account, time").click()
        await page.get_by_label("From", exact=True).fill(f"{begins:%Y-%m-%d %H:%M}")
        await page.get_by_label("To", exact=True).fill(f"{there + timedelta(hours=1):%Y-%m-%dT%H:%M}")
        await page.keyboard.press("Enter")
        await page.wait_for_url(f"**from={begins.astimezone(UTC):%Y-%m-%dT%H}%3A{begins:%M}Z*")
        await expect(row).to_be_visible()
        await expect(page.get_by_label("From", exact=True)).to_have_value(f"{begins:%Y-%m-%dT%H:%M}")
