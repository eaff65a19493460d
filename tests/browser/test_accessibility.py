"""axe finds no problem on any page: light and dark, empty and in use, with details closed and open."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Final

import pytest
from browsing import IN_BROWSER, PAGES, log_in, set_password, visiting
from npm import install
from playwright.async_api import Browser, Page, expect
from running import RunningBridge, many_keys, running_bridge

from bridge.tasks import TaskOwner
from handlers.commands.trouble import add_trouble
from handlers.request.appkeys import STATS
from upstream.arena import Arena, Line, Until

pytestmark = IN_BROWSER

SOURCE: Final = Path(__file__).parent / "node"
#: Runs axe with its default rules: WCAG 2.2 up to level AA, and good practice.
RUN: Final = """async () => {
  const { violations } = await axe.run({ resultTypes: ["violations"] });
  return violations.map(({ id, impact, nodes }) => `${impact} ${id}: ${nodes.map((node) => node.html).join("\\n")}`);
}"""


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The script, which is evaluated as if by a debugger, since no page allows it to be loaded."""
    folder = install(SOURCE, tmp_path_factory.mktemp("axe") / "project")
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text()


async def examine(page: Page, axe: str) -> None:
    """Check the page with axe, light and dark."""
    await page.evaluate(axe)
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        assert await page.evaluate(RUN) == [], f"{page.url}, {scheme}"


async def test_the_login_and_setup_pages_are_accessible(
    browser: Browser, arena: Arena, bridge: RunningBridge, tmp_path: Path, axe: str
) -> None:
    async with visiting(browser, bridge.origin) as page:
        await page.goto("/dashboard/login")
        await examine(page, axe)
        await page.get_by_label("Password").fill("a wrong one")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_be_visible()
        await examine(page, axe)
    async with running_bridge(arena, tmp_path / "new") as bridge, visiting(browser, bridge.origin) as page:
        await page.goto("/dashboard/setup")
        await examine(page, axe)


async def test_the_pages_of_an_unused_bridge_are_accessible(
    browser: Browser, arena: Arena, tmp_path: Path, axe: str
) -> None:
    await set_password(tmp_path)
    async with running_bridge(arena, tmp_path, sessions=()) as bridge, visiting(browser, bridge.origin) as page:
        await bridge.state.update_keys(lambda _: ())
        await log_in(page)
        for address in PAGES.values():
            await page.goto(address)
            await examine(page, axe)
        await page.locator("[name=csrf]").first.evaluate("(input) => { input.value = 'forged' }")
        await page.get_by_role("button", name="Log out").click()
        await expect(page.get_by_role("heading", name="That did not work")).to_be_visible()
        await examine(page, axe)


async def test_the_pages_of_a_bridge_in_use_are_accessible(
    page: Page, bridge: RunningBridge, arena: Arena, axe: str
) -> None:
    async with TaskOwner() as tasks:
        for model in (bridge.model(), "no-such-model"):
            async with await bridge.post(bridge.chat("hello", model=model)) as answer:
                await answer.read()
        arena.script = lambda _: [Line("a0", "so "), Until(asyncio.Event())]
        tasks.spawn(bridge.post(bridge.chat("hello")), name="ask")
        await page.goto(PAGES["playground"])
        await page.get_by_role("button", name="Compare").click()
        await page.get_by_label("Message").fill("hello")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("article").last).to_contain_text("so ")
        await examine(page, axe)
        await page.get_by_label("Model", exact=True).click()
        await expect(page.get_by_role("option").first).to_be_visible()
        await examine(page, axe)
        await page.keyboard.press("Escape")

        arena.script = None
        await page.get_by_role("button", name="New chat").click()
        for said in ("/cite /say # a\n\n| b |\n|---|\n| `c` |\n\n```py\ndef f(): return 1  # d\n```", "kept"):
            await page.get_by_label("Message").fill(said)
            await page.keyboard.press("Enter")
            await expect(page.get_by_role("button", name="Stop")).to_be_hidden()
        await page.get_by_role("button", name="Ask for this answer again").first.click()
        await expect(page.get_by_text("2/2")).to_be_visible()
        await page.locator("summary", has_text="Chats").click()
        await examine(page, axe)
        await page.keyboard.press("Escape")

        arena.clearance = "expected"  # so that the request fails
        await page.get_by_role("button", name="New chat").click()
        await page.get_by_label("Message").fill("hello")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_be_visible()
        await examine(page, axe)

        await bridge.app[STATS].flush()
        for name in ("overview", "accounts", "models", "activity", "keys"):
            await page.goto(PAGES[name])
            if name == "keys":
                await page.get_by_label("Name", exact=True).fill("laptop")
                await page.keyboard.press("Enter")
                await expect(page.locator("#secret")).to_be_visible()
            if name == "activity":
                await page.goto(f"{PAGES[name]}?outcome=refused&from=15m&key=test")
                await page.get_by_role("link", name="Details of ").first.click()
                await expect(page.get_by_role("heading", name="no-such-model")).to_be_visible()
                await page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true })")
                await examine(page, axe)
                await page.goto(f"{PAGES[name]}?key=test")
            await page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true })")
            await examine(page, axe)
        await page.goto(f"/dashboard/key/{next(iter(bridge.state.keys)).id}")
        await examine(page, axe)
        await page.goto(PAGES["settings"])
        await page.get_by_role("button", name="for 15 minutes").click()
        await page.get_by_role("button", name="Read again").click()
        await expect(page.get_by_text("nothing has changed")).to_be_visible()
        await page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true })")
        await examine(page, axe)


async def test_further_pages_and_searches_of_keys_are_accessible(page: Page, bridge: RunningBridge, axe: str) -> None:
    await bridge.state.update_keys(lambda known: (*known, *many_keys(250)))
    for query in ("?page=2", "?search=nobody"):
        await page.goto(PAGES["keys"] + query)
        await examine(page, axe)


async def test_the_api_documentation_is_accessible_without_login_or_scripts(
    browser: Browser, bridge: RunningBridge, axe: str
) -> None:
    """/docs needs no login and has no script; it is no wider than a narrow screen."""
    async with visiting(browser, bridge.origin) as page:
        await page.goto("/docs")
        await expect(page.get_by_role("heading", name="POST /v1/chat/completions")).to_be_visible()
        await expect(page.locator("#createMessage pre")).to_contain_text(f"curl -N {bridge.origin}/v1/messages")
        assert await page.evaluate("document.scripts.length") == 0
        await page.evaluate(
            "document.querySelectorAll('#createMessage details').forEach((each) => { each.open = true })"
        )
        await examine(page, axe)
        await page.set_viewport_size({"width": 390, "height": 844})
        await page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true })")
        width = "document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth"
        assert await page.evaluate(width) == 0
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await expect(page.locator("#main")).to_be_focused()


async def test_the_trouble_page_of_the_demo_arms_faults_and_is_accessible(
    browser: Browser, arena: Arena, tmp_path: Path, axe: str
) -> None:
    """A click arms a fault, the page shows changes in what is armed, and another click ends the fault."""
    await set_password(tmp_path)
    extend = partial(add_trouble, arena=arena)
    async with running_bridge(arena, tmp_path, extend=extend) as bridge, visiting(browser, bridge.origin) as page:
        await log_in(page)
        await page.goto("/dashboard")
        await page.get_by_role("link", name="Trouble").click()
        await page.get_by_role("button", name="Every time: Rate limited").click()
        await expect(page.get_by_role("listitem").filter(has_text="Rate limited every time")).to_be_visible()
        assert [fault.name for fault in arena.faults.armed()] == ["rate_limited"]
        await examine(page, axe)
        arena.faults.arm("crlf", 2)  # not on the page
        await expect(page.get_by_role("listitem").filter(has_text="crlf 2 times")).to_be_visible()
        await page.set_viewport_size({"width": 390, "height": 844})
        width = "document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth"
        assert await page.evaluate(width) == 0
        await page.get_by_role("button", name="All off").click()
        await expect(page.get_by_text("Nothing is armed: the arena answers as the site does.")).to_be_visible()
        assert arena.faults.armed() == ()
