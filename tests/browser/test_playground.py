"""The playground: a chat with any model, streamed, with pictures in questions and answers."""

from __future__ import annotations

import asyncio
import os
import re
from asyncio.subprocess import PIPE
from collections.abc import Iterator
from typing import Any

from browsing import IN_BROWSER, PAGES, PASSWORD
from pictures import png
from playwright.async_api import Page, Route, expect
from programs import need_program
from running import RunningBridge

from upstream.arena import Arena, Line, Step, Turn, Until

pytestmark = IN_BROWSER


async def say(page: Page, text: str) -> None:
    """Write a message and send it with the keyboard."""
    await page.get_by_label("Message").fill(text)
    await page.get_by_label("Message").press("Enter")


async def choose(page: Page, name: str, label: str = "Model") -> None:
    """Choose a model with the keyboard."""
    await page.get_by_label(label, exact=True).fill(name)
    await page.get_by_label(label, exact=True).press("Enter")
    await expect(page.get_by_label(label, exact=True)).to_have_value(name)


async def test_an_answer_is_shown_while_it_arrives(page: Page, arena: Arena) -> None:
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
    await expect(page.get_by_role("article").last).to_contain_text("so <b>it</b> is")  # the model got the whole chat
    await page.get_by_role("button", name="New chat").click()
    await expect(page.get_by_role("article")).to_have_count(0)
    await say(page, "/echo anew")
    await expect(page.get_by_role("article").last).to_contain_text("first token")
    await expect(page.get_by_role("article").last).not_to_contain_text("it is")


async def test_the_space_between_rendered_and_unrendered_text_is_kept(page: Page, arena: Arena) -> None:
    go_on, end = asyncio.Event(), asyncio.Event()
    arena.script = lambda _: [Line("a0", "so "), Until(go_on), Line("a0", "it is"), Until(end), Line("ad", {})]

    async def hold(route: Route) -> None:
        await end.wait()
        await route.continue_()

    await page.goto(PAGES["playground"])
    await say(page, "hello")
    said = page.get_by_role("article").last.locator(".said")
    await expect(said.locator("p")).to_have_text("so")
    await page.route("**/playground/markdown", hold)
    go_on.set()
    await expect(said.locator(".tail")).to_have_text("it is")
    await expect(said).to_have_text("so it is")
    end.set()
    await expect(page.get_by_role("article").last).to_contain_text("first token")
    await page.unroute("**/playground/markdown")


async def test_stopping_an_answer_ends_the_upstream_call(page: Page, arena: Arena) -> None:
    arena.script = lambda _: [Line("a0", "so "), Until(asyncio.Event())]
    await page.goto(PAGES["playground"])
    await say(page, "go on for ever")
    await expect(page.get_by_role("article").last).to_contain_text("so ")
    await page.get_by_role("button", name="Stop").click()
    await expect(page.get_by_role("article").last).to_contain_text("Stopped.")
    await asyncio.wait_for(arena.chats[-1].closed.wait(), 10)
    await expect(page.get_by_role("button", name="Send")).to_be_enabled()


async def test_a_picture_is_sent_with_the_message(page: Page, arena: Arena) -> None:
    await page.goto(PAGES["playground"])
    await page.locator("#file").set_input_files({"name": "heron.png", "mimeType": "image/png", "buffer": png(7)})
    await expect(page.get_by_role("img", name="heron.png")).to_be_visible()
    await say(page, "what is it?")
    await expect(page.get_by_role("article").last).to_contain_text("first token")
    await expect(page.get_by_role("img", name="Your picture")).to_be_visible()
    assert [stored.data for stored in arena.storage.objects.values()] == [png(7)]


async def test_a_picture_drawn_by_an_image_model_is_shown(page: Page, bridge: RunningBridge, arena: Arena) -> None:
    await page.set_viewport_size({"width": 390, "height": 520})
    await page.goto(f"{PAGES['playground']}?model={bridge.model(output='image')}")
    await expect(page.get_by_text("Add a picture")).to_be_hidden()
    await say(page, "a heron at dusk")
    picture = page.get_by_role("img", name="A picture by the model")
    await expect(picture).to_be_visible()
    assert await picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 64
    await expect(
        page.get_by_text(re.compile(r" · (\d+ ms|\d+\.\d s)$"))
    ).to_be_in_viewport()  # the note below the picture, once that has loaded

    await choose(page, bridge.model())
    await say(page, "/echo what now?")
    await expect(page.get_by_role("article").last).to_contain_text("first token")
    assert [len(turn.messages) for turn in list(arena.evaluations.values())[-1:]] == [2]  # without the picture's turn


async def test_an_error_is_shown_and_the_message_stays_in_the_input(page: Page, arena: Arena) -> None:
    await page.goto(PAGES["playground"])
    arena.faults.arm("rejected", message="Not today")
    await say(page, "hello there")
    await expect(page.get_by_role("alert")).to_contain_text("Not today")
    await expect(page.get_by_label("Message")).to_have_value("hello there")
    await expect(page.get_by_role("article")).to_have_count(0)

    await page.evaluate("{ window.fetched = fetch; window.fetch = async () => { throw new TypeError('gone') }; null }")
    await say(page, "hello there")
    await expect(page.get_by_role("alert")).to_have_text("No connection to the bridge.")
    await expect(page.get_by_label("Message")).to_have_value("hello there")
    await page.evaluate("{ window.fetch = window.fetched; null }")

    arena.faults.arm("challenge")
    await say(page, "hello there")
    await expect(page.get_by_role("alert")).to_contain_text("paste that into Accounts")
    await expect(page.get_by_role("alert").get_by_role("link", name="Open Accounts")).to_be_visible()


async def test_an_unsent_message_survives_leaving_the_page_and_a_new_login(page: Page) -> None:
    await page.goto(PAGES["playground"])
    await page.get_by_label("Message").fill("half a thought")
    await page.goto(PAGES["overview"])
    await page.goto(PAGES["playground"])
    await expect(page.get_by_label("Message")).to_have_value("half a thought")
    await page.context.clear_cookies()
    await page.get_by_label("Message").press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("your login has ended")
    await page.get_by_role("alert").get_by_role("link", name="Log in").click()
    await page.get_by_label("Password").fill(PASSWORD)
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/playground")
    await expect(page.get_by_label("Message")).to_have_value("half a thought")
    await page.get_by_label("Message").press("Enter")
    await expect(page.get_by_role("article").last).to_contain_text("first token")
    await page.reload()
    await expect(page.get_by_label("Message")).to_have_value("")


async def test_a_failed_edit_leaves_the_earlier_answer(page: Page, arena: Arena) -> None:
    await page.goto(PAGES["playground"])
    await say(page, "/say a heron")
    answer = page.get_by_role("article").last
    await expect(answer).to_contain_text("first token")
    await page.get_by_role("button", name="Edit the question").click()
    arena.faults.arm("rejected", message="Not today")
    await say(page, "/say another")
    await expect(page.get_by_role("alert")).to_contain_text("Not today")
    await expect(page.get_by_label("Message")).to_have_value("/say another")
    await expect(answer).to_contain_text("a heron")
    await say(page, "/say an egret")  # the question is still being edited
    await expect(answer).to_contain_text("an egret")
    await expect(answer).to_contain_text("first token")
    await expect(page.get_by_role("article")).to_have_count(2)


async def test_a_broken_answer_is_marked_and_can_be_requested_again(page: Page, arena: Arena) -> None:
    await page.goto(PAGES["playground"])
    arena.faults.arm("model_failed_middle")
    await say(page, "/count 9")
    answer = page.locator(".broken")
    await expect(answer.get_by_role("alert")).to_contain_text("The model failed")
    await expect(answer.locator(".said")).to_contain_text("1 ")  # what has arrived stays

    await answer.get_by_role("button", name="Ask for this answer again").click()
    await expect(page.get_by_role("article").last.locator(".said")).to_contain_text("8 9")
    await expect(answer).to_have_count(0)
    await expect(page.get_by_role("article")).to_have_count(2)

    arena.faults.arm("model_failed_middle")
    await say(page, "/count 7")
    await expect(answer).to_be_visible()
    await say(page, "/echo at last")
    await expect(page.get_by_role("article").last).to_contain_text("first token")
    await expect(page.get_by_role("article").last).not_to_contain_text("count 7")  # the broken turn is not sent


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


async def test_markdown_of_an_answer_is_rendered_and_can_be_copied(page: Page) -> None:
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


async def test_scrolling_back_stops_the_page_from_following_an_arriving_answer(page: Page, arena: Arena) -> None:
    """The page does not move while its reader looks back, and follows the answer while its reader is at the end."""
    go_on = [asyncio.Event() for _ in range(3)]
    arena.script = lambda _: [
        *(step for event in go_on for step in (Line("a0", "a line\n\n" * 60), Until(event))),
        Line("ad", {}),
    ]
    at_end = """() => new Promise((done) => {  // in the frame after the next: the page follows what has grown in one
      const measure = () => done(document.scrollingElement.scrollHeight - innerHeight - scrollY);
      requestAnimationFrame(() => requestAnimationFrame(measure));
    })"""
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
    assert await page.evaluate(at_end) < 2  # the note has appeared below, in view


async def test_the_last_turn_can_be_answered_again_and_edited(page: Page, arena: Arena) -> None:
    await page.goto(PAGES["playground"])
    await say(page, "/say one")
    last = page.get_by_role("article").last
    await expect(last).to_contain_text("first token")
    arena.script = lambda _: [Line("a0", "two"), Line("ad", {})]
    await last.get_by_role("button", name="Ask for this answer again").click()
    await expect(last.locator(".said")).to_have_text("two")
    await expect(last).to_contain_text("2/2")
    assert len(arena.evaluations) == 1  # the site's own "regenerate"
    await last.get_by_role("button", name="Previous answer").click()
    await expect(last.locator(".said")).to_have_text("one")

    await page.get_by_role("button", name="Edit the question").click()
    await expect(page.get_by_label("Message")).to_have_value("/say one")
    await page.keyboard.press("Escape")
    await expect(page.get_by_label("Message")).to_have_value("")
    arena.script = None
    await page.get_by_role("button", name="Edit the question").click()
    await say(page, "/echo edited")
    await expect(last).to_contain_text("first token")
    await expect(last).not_to_contain_text("one")
    await expect(page.get_by_role("article")).to_have_count(2)


async def test_two_models_answer_side_by_side(page: Page, arena: Arena, bridge: RunningBridge) -> None:
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    first, second = bridge.model(), "gpt-6.1-mini"
    await page.goto(PAGES["playground"])
    await page.get_by_text("System prompt").first.click()
    await page.get_by_label("System prompt").fill("Be brief.")
    await page.get_by_role("button", name="Compare").click()
    await choose(page, first)
    await choose(page, second, "Second model")
    await say(page, "/echo")
    for name in (first, second):
        answer = page.get_by_role("article", name=name)
        await expect(answer).to_contain_text("first token")
        await expect(answer).to_contain_text("Be brief.")
    boxes = [await page.get_by_role("article", name=name).bounding_box() for name in (first, second)]
    assert boxes[0] is not None
    assert boxes[1] is not None
    assert boxes[0]["y"] == boxes[1]["y"]
    assert boxes[0]["x"] < boxes[1]["x"]

    arena.script = lambda _: [Line("a0", "so "), Until(asyncio.Event())]
    await say(page, "go on for ever")
    await expect(page.locator(".said", has_text="so ")).to_have_count(2)
    await page.keyboard.press("Escape")
    await expect(page.get_by_text("Stopped.")).to_have_count(2)
    arena.script = None
    await say(page, "/echo all of it")
    await expect(page.get_by_text("first token")).to_have_count(4)
    await expect(page.get_by_role("article", name=second).last).to_contain_text("so ")  # stopped answers are sent

    await page.locator("summary", has_text="Chats").click()
    await page.get_by_role("button", name="Copy as curl").click()
    await expect(page.locator("#status")).to_have_text("Copied")
    line = await page.evaluate("navigator.clipboard.readText()")
    need_program("curl")
    environment = {**os.environ, "OPENAI_API_KEY": bridge.key}
    process = await asyncio.create_subprocess_shell(line, stdout=PIPE, stderr=PIPE, env=environment)
    out, _ = await process.communicate()
    assert "all of it" in list(arena.evaluations.values())[-1].messages[0].content
    assert out.endswith(b"data: [DONE]\n\n")
    await page.get_by_role("button", name="Copy as Python").click()
    await expect(page.locator("#as-python")).to_have_text("Copied")
    code = await page.evaluate("navigator.clipboard.readText()")
    assert "Be brief." in code
    compile(code, "copied", "exec")


async def test_both_columns_share_one_request_while_their_histories_are_equal(
    page: Page, arena: Arena, bridge: RunningBridge
) -> None:
    first, second = bridge.model(), "gpt-6.1-mini"
    failing, go_on = {second}, asyncio.Event()
    asked: list[Any] = []

    def script(turn: Turn) -> Iterator[Step]:
        yield Line("a0", f"I am {turn.model.public_name}")
        if turn.model.public_name in failing:
            yield Line("a3", "no more")
            return
        yield Until(go_on)
        yield Line("a0", ", and go on.")
        yield Line("ad", {})

    arena.script = script
    page.on("request", lambda request: asked.append(request.post_data_json) if request.url.endswith("/chat") else None)
    await page.goto(PAGES["playground"])
    await page.get_by_role("button", name="Compare").click()
    await choose(page, first)
    await choose(page, second, "Second model")
    await say(page, "Who are you?")
    left = page.get_by_role("article", name=first)
    right = page.get_by_role("article", name=second)
    await expect(right.get_by_role("alert")).to_contain_text("The model failed")
    await expect(right).to_contain_text(f"I am {second}")
    await expect(left).to_have_attribute("aria-busy", "true")
    go_on.set()
    await expect(left.locator(".said")).to_have_text(f"I am {first}, and go on.")
    await expect(left).to_contain_text(re.compile(r"first token .* in total · about [1-9]\d* tokens"))
    assert [body["model"] for body in asked] == [f"{first}+{second}"]
    recent = await page.evaluate("JSON.parse(localStorage.getItem('lmarena-bridge.recent-models'))")
    assert recent == [first, second]  # the next chat begins with the first column's model
    assert await page.evaluate("Object.keys(localStorage).some((key) => key.includes('chat.'))")

    failing.clear()
    third = "gemini-4-pro"
    await right.get_by_role("button", name="Ask for this answer again").click()  # in this column only
    await expect(right).to_contain_text("and go on.")
    await choose(page, third, "Second model")
    await say(page, "Are you sure?")  # each column has its own history now
    await expect(page.get_by_role("article", name=third)).to_contain_text("in total")
    await expect(left.last).to_contain_text("in total")
    assert sorted(body["model"] for body in asked[1:]) == sorted([second, third, first])
    told = {body["model"]: [message["content"] for message in body["messages"]] for body in asked[2:]}
    assert told[first][1] == f"I am {first}, and go on."
    assert told[third][1] == f"I am {second}, and go on."

    await page.get_by_role("button", name="New chat").click()
    failing |= {first, third}
    arena.faults.arm("challenge", times=2)
    await say(page, "Who are you?")
    await expect(page.get_by_role("alert").get_by_role("link", name="Open Accounts")).to_be_visible()  # both failed
    await expect(page.get_by_label("Message")).to_have_value("Who are you?")
    await expect(page.get_by_role("article")).to_have_count(0)
    assert asked[-1]["model"] == f"{first}+{third}"


async def test_a_model_that_no_longer_exists_fails_only_its_own_column(page: Page) -> None:
    gone, second = "no-such-model", "gpt-6.1-mini"
    await page.goto(PAGES["playground"])
    await page.evaluate("(name) => localStorage.setItem('lmarena-bridge.recent-models', JSON.stringify([name]))", gone)
    await page.reload()
    await page.get_by_role("button", name="Compare").click()
    await choose(page, second, "Second model")
    await say(page, "/say a heron")
    await expect(page.get_by_role("article", name=second)).to_contain_text("a heron")
    await expect(page.get_by_role("article", name=gone).get_by_role("alert")).to_contain_text(gone)


async def test_chats_are_stored_in_the_browser_and_can_be_reopened_and_deleted(page: Page) -> None:
    await page.goto(PAGES["playground"])
    await say(page, "/say **a heron**")
    await expect(page.get_by_role("article").last).to_contain_text("first token")
    await page.reload()
    await expect(page.get_by_role("article").last.locator("strong")).to_have_text("a heron")
    await expect(page.get_by_role("article").last).to_contain_text("first token")
    await say(page, "/echo")
    await expect(page.get_by_role("article").last).to_contain_text("a heron")
    await page.get_by_role("button", name="New chat").click()
    await page.reload()
    await expect(page.get_by_role("article")).to_have_count(0)

    await page.locator("summary", has_text="Chats").click()
    await page.get_by_role("button", name="Open the chat “/say **a heron**”").click()
    await expect(page.get_by_role("article")).to_have_count(4)
    await page.locator("summary", has_text="Chats").click()
    await page.get_by_role("button", name="Forget all").click()
    await expect(page.get_by_role("button", name="Open the chat")).to_have_count(1)
    await page.get_by_role("button", name="Yes, forget all chats").click()
    await expect(page.get_by_role("button", name="Open the chat")).to_have_count(0)
    await page.get_by_label("Keep chats in this browser").uncheck()
    await page.keyboard.press("Escape")
    await say(page, "/say this is not kept")
    await expect(page.get_by_role("article")).to_have_count(6)
    await expect(page.get_by_role("article").last).to_contain_text("first token")
    assert await page.evaluate("Object.keys(localStorage).filter((key) => key.includes('chat.'))") == []


async def test_pictures_can_be_pasted_dropped_and_removed(page: Page, arena: Arena) -> None:
    bring = """([kind, name, data]) => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([Uint8Array.from(data)], name, { type: "image/png" }));
      const target = document.getElementById(kind === "paste" ? "text" : "talk");
      const event = kind === "paste"
        ? new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true })
        : new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true });
      target.dispatchEvent(event);
    }"""
    await page.goto(PAGES["playground"])
    for kind, name, number in (("paste", "pasted.png", 1), ("drop", "dropped.png", 2)):
        await page.evaluate(bring, [kind, name, list(png(number))])
        await expect(page.get_by_role("img", name=name)).to_be_visible()
    await page.get_by_role("button", name="Remove pasted.png").click()
    await expect(page.get_by_role("img", name="pasted.png")).to_have_count(0)
    await say(page, "what is it?")
    await expect(page.get_by_role("article").last).to_contain_text("first token")
    assert [stored.data for stored in arena.storage.objects.values()] == [png(2)]


async def test_the_model_menu_finds_models_and_lists_favourites(page: Page, bridge: RunningBridge) -> None:
    await page.goto(PAGES["playground"])
    field = page.get_by_label("Model", exact=True)
    options = page.get_by_role("option")
    await field.click()
    assert await options.count() == len(await page.locator("#models option").all())
    await page.keyboard.type("anthropic thinking")
    await expect(options).to_have_count(1)
    await page.keyboard.press("Enter")
    name = "claude-opus-5-1-20260114-thinking-32k"
    await expect(field).to_have_value(name)
    await expect(options).to_have_count(0)
    await page.get_by_role("button", name="Favourite", exact=True).click()
    await expect(page.get_by_role("button", name="Favourite", exact=True)).to_have_attribute("aria-pressed", "true")
    assert bridge.state.admin.favourites == (name,)

    await page.reload()
    await field.click()
    await expect(page.get_by_role("group", name="Favourites").get_by_role("option")).to_have_text(re.compile(name))
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Enter")
    await expect(field).not_to_have_value(name)
    await field.fill("no such model")
    await expect(page.get_by_text("No model matches all of these conditions.")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(field).not_to_have_value("no such model")


#: Texts that must not become elements, cause requests, or freeze the page.
HOSTILE = {
    "markup": '<script>boo()</script><img src="https://evil.example" onerror="boo()"><iframe src="//evil.example">',
    "links": "[a](javascript:boo()) [b](data:text/html,boo) ![c](https://evil.example/c.png) <javascript:boo()>",
    "nested lists": "".join(f"{'  ' * depth}- a\n" for depth in range(1000)),
    "a line of 1 MB": "a" * 1_000_000,
    "1 MB of quotes": "> " * 500_000,
}


async def test_hostile_markdown_is_shown_as_text(page: Page, arena: Arena) -> None:
    """The fixture `page` fails on requests to other sites and on violations of the policy (browsing.py)."""
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
        await page.get_by_role("button", name="New chat").click()  # the page is not frozen
        await expect(page.get_by_role("article")).to_have_count(0)
    assert "boo" not in await page.title()
