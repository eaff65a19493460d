"""The playground: a chat with any model, streamed, with pictures both ways."""

from __future__ import annotations

import asyncio

import pytest
from browsing import PAGES
from pictures import png
from playwright.async_api import Page, expect
from running import RunningBridge

from upstream.arena import Arena, Line, Until

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def say(page: Page, text: str) -> None:
    """Write a message and send it by the keyboard."""
    await page.get_by_label("Message").fill(text)
    await page.get_by_label("Message").press("Enter")


async def test_an_answer_is_written_while_it_comes(page: Page, arena: Arena) -> None:
    go_on = asyncio.Event()
    arena.script = lambda _: [
        Line("ag", "Hm."),
        Line("a0", "so "),
        Until(go_on),
        Line("a0", "<b>it</b> is"),
        Line("ad", {}),
    ]
    await page.goto(PAGES["playground"])
    await say(page, "hello")
    answer = page.get_by_role("article").last
    await expect(answer.locator(".said")).to_have_text("so ")
    await expect(page.get_by_role("button", name="Stop")).to_be_visible()
    go_on.set()
    await expect(answer.locator(".said")).to_have_text("so <b>it</b> is")
    await expect(answer).to_contain_text("first delta")
    await answer.get_by_text("Thoughts").click()
    await expect(answer.get_by_text("Hm.")).to_be_visible()

    arena.script = None
    await say(page, "/echo again")
    await expect(page.get_by_role("article").last).to_contain_text("so <b>it</b> is")  # the model was shown it all
    await page.get_by_role("button", name="New chat").click()
    await expect(page.get_by_role("article")).to_have_count(0)
    await say(page, "/echo anew")
    await expect(page.get_by_role("article").last).to_contain_text("first delta")
    await expect(page.get_by_role("article").last).not_to_contain_text("it is")


async def test_an_answer_is_stopped_and_upstream_s_call_closed(page: Page, arena: Arena) -> None:
    arena.script = lambda _: [Line("a0", "so "), Until(asyncio.Event())]
    await page.goto(PAGES["playground"])
    await say(page, "go on for ever")
    await expect(page.get_by_role("article").last).to_contain_text("so ")
    await page.get_by_role("button", name="Stop").click()
    await expect(page.get_by_role("article").last).to_contain_text("Stopped.")
    await asyncio.wait_for(arena.chats[-1].closed.wait(), 1)
    await expect(page.get_by_role("button", name="Send")).to_be_enabled()


async def test_a_picture_goes_along(page: Page, arena: Arena) -> None:
    await page.goto(PAGES["playground"])
    await page.locator("#file").set_input_files({"name": "heron.png", "mimeType": "image/png", "buffer": png(7)})
    await expect(page.get_by_role("img", name="heron.png")).to_be_visible()
    await say(page, "what is it?")
    await expect(page.get_by_role("article").last).to_contain_text("first delta")
    await expect(page.get_by_role("img", name="Your picture")).to_be_visible()
    assert [stored.data for stored in arena.storage.objects.values()] == [png(7)]


async def test_an_image_model_s_picture_is_shown(page: Page, bridge: RunningBridge) -> None:
    await page.goto(f"{PAGES['playground']}?model={bridge.model(output='image')}")
    await expect(page.get_by_text("Add a picture")).to_be_hidden()
    await say(page, "a heron at dusk")
    picture = page.get_by_role("img", name="A picture by the model")
    await expect(picture).to_be_visible()
    assert await picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 64


async def test_an_error_is_shown_and_the_message_not_lost(page: Page, arena: Arena) -> None:
    await page.goto(PAGES["playground"])
    arena.faults.arm("rejected", message="Not today")
    await say(page, "hello there")
    await expect(page.get_by_role("alert")).to_contain_text("Not today")
    await expect(page.get_by_label("Message")).to_have_value("hello there")
    await expect(page.get_by_role("article")).to_have_count(0)

    arena.faults.arm("model_failed_middle")
    await say(page, "/count 9")
    await expect(page.get_by_role("alert")).to_contain_text("The model failed")
    await expect(page.get_by_role("article").last).to_contain_text("1 ")  # what came stays

    await say(page, "/say at last")
    await expect(page.get_by_role("article").last).to_contain_text("at last")
    await expect(page.get_by_role("alert")).to_be_hidden()
