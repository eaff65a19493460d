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
    await expect(answer).to_contain_text("first token")
    await answer.get_by_text("Thoughts").click()
    await expect(answer.get_by_text("Hm.")).to_be_visible()

    arena.script = None
    await say(page, "/echo again")
    await expect(page.get_by_role("article").last).to_contain_text("so <b>it</b> is")  # the model was shown it all
    await page.get_by_role("button", name="New chat").click()
    await expect(page.get_by_role("article")).to_have_count(0)
    await say(page, "/echo anew")
    await expect(page.get_by_role("article").last).to_contain_text("first token")
    await expect(page.get_by_role("article").last).not_to_contain_text("it is")


async def test_an_answer_is_stopped_and_upstream_s_call_closed(page: Page, arena: Arena) -> None:
    arena.script = lambda _: [Line("a0", "so "), Until(asyncio.Event())]
    await page.goto(PAGES["playground"])
    await say(page, "go on for ever")
    await expect(page.get_by_role("article").last).to_contain_text("so ")
    await page.get_by_role("button", name="Stop").click()
    await expect(page.get_by_role("article").last).to_contain_text("Stopped.")
    await asyncio.wait_for(arena.chats[-1].closed.wait(), 10)
    await expect(page.get_by_role("button", name="Send")).to_be_enabled()


async def test_a_picture_goes_along(page: Page, arena: Arena) -> None:
    await page.goto(PAGES["playground"])
    await page.locator("#file").set_input_files({"name": "heron.png", "mimeType": "image/png", "buffer": png(7)})
    await expect(page.get_by_role("img", name="heron.png")).to_be_visible()
    await say(page, "what is it?")
    await expect(page.get_by_role("article").last).to_contain_text("first token")
    await expect(page.get_by_role("img", name="Your picture")).to_be_visible()
    assert [stored.data for stored in arena.storage.objects.values()] == [png(7)]


async def test_an_image_model_s_picture_is_shown(page: Page, bridge: RunningBridge, arena: Arena) -> None:
    await page.goto(f"{PAGES['playground']}?model={bridge.model(output='image')}")
    await expect(page.get_by_text("Add a picture")).to_be_hidden()
    await say(page, "a heron at dusk")
    picture = page.get_by_role("img", name="A picture by the model")
    await expect(picture).to_be_visible()
    assert await picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 64

    await page.get_by_label("Model", exact=True).select_option(bridge.model())
    await say(page, "/echo what now?")
    await expect(page.get_by_role("article").last).to_contain_text("first token")
    assert [len(turn.messages) for turn in list(arena.evaluations.values())[-1:]] == [2]  # no word of the picture


async def test_an_error_is_shown_and_the_message_not_lost(page: Page, arena: Arena) -> None:
    await page.goto(PAGES["playground"])
    arena.faults.arm("rejected", message="Not today")
    await say(page, "hello there")
    await expect(page.get_by_role("alert")).to_contain_text("Not today")
    await expect(page.get_by_label("Message")).to_have_value("hello there")
    await expect(page.get_by_role("article")).to_have_count(0)

    arena.faults.arm("challenge")
    await say(page, "hello there")
    await expect(page.get_by_role("alert")).to_contain_text("paste that into Accounts")
    await expect(page.get_by_role("alert").get_by_role("link", name="Open Accounts")).to_be_visible()


async def test_a_broken_answer_is_marked_and_asked_for_again(page: Page, arena: Arena) -> None:
    await page.goto(PAGES["playground"])
    arena.faults.arm("model_failed_middle")
    await say(page, "/count 9")
    answer = page.locator(".broken")
    await expect(answer.get_by_role("alert")).to_contain_text("The model failed")
    await expect(answer.locator(".said")).to_contain_text("1 ")  # what came stays

    await say(page, "/echo at last")
    await expect(page.get_by_role("article").last).to_contain_text("first token")
    await expect(page.get_by_role("article").last).not_to_contain_text("count 9")  # the broken turn is not sent

    await answer.get_by_role("button", name="Ask for this answer again").click()
    await expect(page.get_by_role("article").last.locator(".said")).to_contain_text("8 9")
    await expect(page.locator(".broken")).to_have_count(0)
    await expect(page.get_by_role("article")).to_have_count(4)


MARKDOWN = """## Weir

A *heron* at https://weir.example/ <b onclick="boo()">waits</b>.

| a | b |
|---|--:|
| 1 | 2 |

```python
def strike():
    return "fish"
```
"""


async def test_markdown_is_shown_and_copied(page: Page) -> None:
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await page.goto(PAGES["playground"])
    await say(page, f"/cite /say {MARKDOWN}")
    answer = page.get_by_role("article").last
    await expect(answer).to_contain_text("first token")
    await expect(answer.get_by_role("heading", name="Weir")).to_be_visible()
    await expect(answer.get_by_role("cell", name="2")).to_be_visible()
    await expect(answer.locator(".code .k").first).to_have_text("def")
    await expect(answer.locator(".said")).to_contain_text('<b onclick="boo()">waits</b>')
    await expect(answer.get_by_role("link", name="https://weir.example/")).to_have_attribute("target", "_blank")
    await expect(answer.get_by_role("list", name="Sources").get_by_role("listitem")).to_have_count(2)

    for name, copied in (
        ("Copy the code", 'def strike():\n    return "fish"\n'),
        ("Copy the answer as Markdown", MARKDOWN),
    ):
        await answer.get_by_role("button", name=name).click()
        await expect(page.get_by_role("status")).to_have_text("Copied")
        assert (await page.evaluate("navigator.clipboard.readText()")).strip() == copied.strip()
        await page.locator("#status").evaluate("status => { status.textContent = '' }")


async def test_one_reads_back_while_an_answer_comes(page: Page, arena: Arena) -> None:
    """The page stays where its reader is, and follows who is at the end."""
    go_on = [asyncio.Event() for _ in range(3)]
    arena.script = lambda _: [
        *(step for event in go_on for step in (Line("a0", "a line\n\n" * 60), Until(event))),
        Line("ad", {}),
    ]
    at_end = "() => document.scrollingElement.scrollHeight - innerHeight - scrollY"
    newest = page.get_by_role("button", name="↓ newest")
    await page.goto(PAGES["playground"])
    await say(page, "hello")
    paragraphs = page.locator(".said p")
    await expect(paragraphs).to_have_count(60)
    assert await page.evaluate(at_end) < 2
    await expect(page.get_by_label("Message")).to_be_in_viewport()
    go_on[0].set()
    await expect(paragraphs).to_have_count(120)
    assert await page.evaluate(at_end) < 2

    await page.mouse.wheel(0, -900)
    await expect(newest).to_be_visible()
    place = await page.evaluate("scrollY")
    go_on[1].set()
    await expect(paragraphs).to_have_count(180)
    assert await page.evaluate("scrollY") == place
    await newest.click()
    await expect(newest).to_be_hidden()
    assert await page.evaluate(at_end) < 2
    go_on[2].set()
    await expect(page.get_by_role("article").last).to_contain_text("first token")
    assert await page.evaluate(at_end) < 2  # the note came below, and is seen


#: What no page may make an element of, follow, or freeze at.
HOSTILE = {
    "markup": '<script>boo()</script><img src="https://evil.example" onerror="boo()"><iframe src="//evil.example">',
    "links": "[a](javascript:boo()) [b](data:text/html,boo) ![c](https://evil.example/c.png) <javascript:boo()>",
    "nested lists": "".join(f"{'  ' * depth}- a\n" for depth in range(1000)),
    "a line of 1 MB": "a" * 1_000_000,
    "1 MB of quotes": "> " * 500_000,
}


async def test_hostile_markdown_is_text(page: Page, arena: Arena) -> None:
    """The page's watch sees requests elsewhere and violations of its policy (browsing.py)."""
    elements = "script, iframe, img, [onerror], a:not([href^='https://evil.example'])"
    await page.goto(PAGES["playground"])
    await page.evaluate("() => { window.boo = () => { document.title = 'boo' } }")
    for name, text in HOSTILE.items():
        deltas = [Line("a0", text[at : at + 50_000]) for at in range(0, len(text), 50_000)]
        arena.script = lambda _, deltas=deltas: [*deltas, Line("ad", {})]
        await say(page, "hello")
        answer = page.get_by_role("article").last
        await expect(answer).to_contain_text("first token")
        assert await answer.locator(elements).count() == 0, name
        await page.get_by_role("button", name="New chat").click(timeout=2000)  # the page is not frozen
        await expect(page.get_by_role("article")).to_have_count(0, timeout=2000)
    assert "boo" not in await page.title()
