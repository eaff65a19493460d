"""Keys: a user makes one, gives it to a tool, changes its rights, and revokes it."""

from __future__ import annotations

import asyncio
import re
from asyncio.subprocess import PIPE

import pytest
from browsing import IN_BROWSER, PAGES
from playwright.async_api import Page, expect
from programs import need_program
from running import RunningBridge, many_keys

pytestmark = IN_BROWSER


async def ask(bridge: RunningBridge, secret: str, model: str | None = None) -> tuple[int, str | None]:
    """The API's status and error code for a chat with this key."""
    body = bridge.chat("/say yes", model=model or bridge.model())
    async with await bridge.post(body, headers={"Authorization": f"Bearer {secret}"}) as answer:
        error = (await answer.json()).get("error")
        return answer.status, error and error["code"]


async def make_key(page: Page, name: str) -> str:
    """Make a key on the Keys page, and return the secret that the page shows."""
    await page.goto(PAGES["keys"])
    await page.get_by_label("Name", exact=True).fill(name)
    await page.get_by_role("button", name="Make the key").click()
    await expect(page.get_by_role("heading", name=f"Key “{name}” created")).to_be_visible()
    return await page.locator("#secret").inner_text()


async def copied(page: Page, element: str) -> str:
    """Click the copy button of this element, and return the text of the clipboard."""
    await page.locator(f"[data-copy={element}]").click()
    await expect(page.locator(f"[data-copy={element}]")).to_have_text("Copied")
    text: str = await page.evaluate("navigator.clipboard.readText()")
    return text


async def test_a_new_key_is_shown_only_once_and_is_accepted(page: Page, bridge: RunningBridge) -> None:
    secret = await make_key(page, "laptop")
    assert await ask(bridge, secret) == (200, None)
    for visit in (page.goto(PAGES["keys"]), page.reload()):
        await visit
        assert secret not in await page.content()
        await expect(page.get_by_role("row", name="laptop")).to_contain_text(f"sk-lmab-…{secret[-4:]}")


async def test_the_copied_examples_beside_a_new_key_run_unchanged(
    page: Page, bridge: RunningBridge, capsys: pytest.CaptureFixture[str]
) -> None:
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    secret = await make_key(page, "laptop")
    assert await copied(page, "secret") == secret

    need_program("curl")
    line = await copied(page, "curl")
    assert f"{bridge.origin}/v1/" in line
    process = await asyncio.create_subprocess_shell(line, stdout=PIPE, stderr=PIPE)
    out, _ = await process.communicate()
    assert out.endswith(b"data: [DONE]\n\n")

    await asyncio.to_thread(exec, await copied(page, "python"), {})
    assert len(capsys.readouterr().out) > 20


async def test_a_key_is_created_with_the_entered_rights_and_limits(page: Page, bridge: RunningBridge) -> None:
    await page.goto(PAGES["keys"])
    await page.get_by_label("Requests per minute").first.fill("7")
    await page.get_by_label("Concurrent requests").first.fill("2")
    models = page.get_by_label("Only these models").first
    await models.fill("deepseek")
    await models.press("ArrowDown")
    await models.press("Enter")
    await expect(models).to_have_value("deepseek-v4-thinking")
    await expect(page.get_by_text("1 match", exact=True)).to_be_visible()
    await models.fill("gpt-*, claude-*")
    await expect(page.get_by_text(re.compile(r"^\d{1,2} match$"))).to_be_visible()
    await page.get_by_label("May read /metrics").first.check()
    await page.get_by_label("Name", exact=True).fill("phone")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("row", name="phone")).to_contain_text("7/min, 2 at once")
    key = next(key for key in bridge.state.keys if key.name == "phone")
    assert (key.rpm, key.concurrency, key.models, key.stealth, key.metrics) == (
        7,
        2,
        ("gpt-*", "claude-*"),
        False,
        True,
    )


#: Label → a wrong entry, and the error that is shown for it.
WRONG = {
    "Name": ("<b>", "Name: must be"),
    "Requests per minute": ("0", "from 1 to 1\u202f000\u202f000"),
    "Concurrent requests": ("many", "a whole number"),
}


async def test_invalid_values_for_a_new_key_are_refused_with_the_reason(page: Page, bridge: RunningBridge) -> None:
    await page.goto(PAGES["keys"])
    for label, (written, said) in WRONG.items():
        await page.get_by_label("Name", exact=True).fill("laptop")
        await page.get_by_label(label, exact=True).first.fill(written)
        await page.get_by_role("button", name="Make the key").click()
        await expect(page.get_by_role("alert")).to_contain_text(said)
    assert [key.name for key in bridge.state.keys] == ["test"]


async def test_changed_rights_of_a_key_apply_to_its_requests(page: Page, bridge: RunningBridge) -> None:
    secret = await make_key(page, "laptop")
    row = page.get_by_role("row", name="laptop")
    await row.get_by_text("Change", exact=True).click()
    await row.get_by_label("Only these models").fill("claude-*")
    await row.get_by_label("Requests per minute").fill("none")
    await row.get_by_role("button", name="Save").click()
    await expect(row.get_by_role("alert")).to_contain_text("Requests per minute: must be a whole number")
    await expect(row.get_by_role("alert")).to_be_in_viewport()
    await row.get_by_label("Requests per minute").fill("7")
    await row.get_by_role("button", name="Save").click()
    await expect(row).to_contain_text("claude-*")
    assert await ask(bridge, secret) == (403, "model_not_allowed")
    assert await ask(bridge, secret, "claude-opus-5-1-20260114") == (200, None)


async def test_a_key_is_revoked_only_after_confirmation(page: Page, bridge: RunningBridge) -> None:
    secret = await make_key(page, "laptop")
    row = page.get_by_role("row", name="laptop")
    question = row.get_by_text("Tools that use it stop working at once")
    await row.get_by_text("Revoke", exact=True).click()
    await expect(question).to_be_visible()
    await page.mouse.click(5, 5)  # a click elsewhere means no
    await expect(question).to_be_hidden()
    assert await ask(bridge, secret) == (200, None)
    await row.get_by_text("Revoke", exact=True).click()
    await row.get_by_role("button", name="Yes, revoke").click()
    await expect(row).to_have_count(0)
    assert await ask(bridge, secret) == (401, "invalid_api_key")


async def test_keys_are_shown_in_pages_and_found_by_search(page: Page, bridge: RunningBridge) -> None:
    await bridge.state.update_keys(lambda known: (*known, *many_keys(125)))
    await page.goto(PAGES["keys"])
    await expect(page.get_by_text("1 to 50 of 126")).to_be_visible()
    await page.get_by_role("link", name="Older keys").click()
    await expect(page.get_by_text("51 to 100 of 126")).to_be_visible()
    await expect(page.get_by_role("link", name="Newer keys")).to_be_visible()
    await page.get_by_label("Search").fill("tool 0042")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("row", name="Tool 42")).to_contain_text("sk-lmab-…0042")
    await expect(page.get_by_text("1 to 1 of 1 found")).to_be_visible()
    await expect(page.get_by_label("Search")).to_have_value("tool 0042")
