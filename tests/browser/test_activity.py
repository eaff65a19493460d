"""Activity: requests come and go on it by themselves, and a running one can be ended."""

from __future__ import annotations

import asyncio
import json

import pytest
from browsing import PAGES
from frames import DONE, frames
from playwright.async_api import Page, expect
from running import RunningBridge

from bridge.tasks import TaskOwner
from upstream.arena import Arena, Line, Until

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def ask(bridge: RunningBridge, text: str, **body: object) -> bytes:
    """A streamed answer, or a refusal."""
    async with await bridge.post(bridge.chat(text, stream=True, **body)) as answer:
        return await answer.read()


def hold(arena: Arena) -> asyncio.Event:
    """Let answers stand still behind their first delta until the event is set."""
    go_on = asyncio.Event()
    arena.script = lambda _: [
        Line("a0", "so "),
        Until(go_on),
        Line("a0", "it is"),
        Line("ad", {"finishReason": "stop"}),
    ]
    return go_on


async def test_a_request_is_seen_while_it_runs_and_when_it_has_ended(
    page: Page, bridge: RunningBridge, arena: Arena
) -> None:
    await page.goto(PAGES["activity"])
    await page.evaluate("window.unchanged = true")
    await expect(page.get_by_text("No requests since")).to_be_visible()
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


async def test_a_running_answer_is_ended_and_its_caller_told(page: Page, bridge: RunningBridge, arena: Arena) -> None:
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
    await asyncio.wait_for(arena.chats[-1].closed.wait(), 1)


async def test_what_is_open_and_has_the_focus_stays_so_while_others_come(
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
        await expect(refused.get_by_text("GET /v1/models lists them all")).to_be_visible()
        await expect(running.get_by_role("button", name="Yes, end")).to_be_focused()


async def test_prompts_are_shown_only_where_they_are_logged(page: Page, bridge: RunningBridge) -> None:
    await ask(bridge, "a secret heron")
    await page.goto(PAGES["activity"])
    await expect(page.get_by_text("Prompts are not kept")).to_be_visible()
    assert "heron" not in await page.content()
