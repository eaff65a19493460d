"""The pictures in docs/screenshots: every page, light and dark, of a bridge with a made-up history.

`make screenshots` takes them again. It needs Chromium, but neither an account nor the network.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from browsing import PAGES, chromium, log_in, set_password, visiting
from daemon import ROOT
from playwright.async_api import Browser, Page
from running import RunningBridge, running_bridge

from bridge.state.documents import StateFolder
from bridge.tasks import TaskOwner
from handlers.commands.demo_history import DAY, TOOLS, live_in
from upstream.arena import Arena, Line, Pause, Step, Turn, Until

FOLDER: Final = ROOT / "docs" / "screenshots"
DESKTOP: Final = {"viewport": {"width": 1280, "height": 860}}
PHONE: Final = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}
#: The heights of the pictures that do not show exactly one screen, in pixels.
HEIGHTS: Final = {"login": 560, "overview": 1240, "keys": 960, "accounts": 1000}

ANSWERS: Final = {
    "Which bird stands in the shallows, and waits?": "A **heron**. It can stand there for the better part of an hour"
    " without moving anything but its eyes.",
    "How fast is it, in Python?": "The neck unfolds in *a few hundredths of a second*:\n\n"
    "```python\ndef strike(fish: Fish) -> bool:\n    # it takes the heron's legs for reeds\n"
    "    return fish.seconds_to_react > 0.04\n```\n\nThen the heron stands as before.",
}

ACCOUNTS: Final = ("ada@example.org", "office@example.org")
DAYS: Final = 60


async def main() -> None:
    """Take every picture."""
    program = shutil.which("chromium")
    if program is None:
        raise SystemExit("chromium is not installed")
    FOLDER.mkdir(parents=True, exist_ok=True)
    async with chromium(program) as browser, _lived_in() as bridge:
        for scheme in ("light", "dark"):
            async with visiting(browser, bridge.origin, color_scheme=scheme, **DESKTOP) as page:
                await _take_pages(page, scheme)
        await _take_phone(browser, bridge.origin)


async def _take_pages(page: Page, scheme: str) -> None:
    await page.goto("/dashboard/login")
    await _take(page, "login", scheme)
    await log_in(page)
    for name, address in PAGES.items():
        if name == "settings":
            continue  # it shows facts about this machine
        await page.goto(address)
        if name == "playground":
            await _chat(page)
            await page.screenshot(path=FOLDER / f"{name}-{scheme}.png")  # one screen: the form stays at its bottom
        else:
            await _take(page, name, scheme)
        if name == "activity":
            await page.get_by_role("row", name="2 attempts").get_by_role("link", name="Details of ").first.click()
            await page.locator(".timeline").wait_for()
            await _take(page, "request", scheme)


async def _take(page: Page, name: str, scheme: str) -> None:
    width, height = DESKTOP["viewport"].values()
    clip: Any = {"x": 0, "y": 0, "width": width, "height": HEIGHTS.get(name, height)}
    await page.screenshot(path=FOLDER / f"{name}-{scheme}.png", full_page=True, clip=clip)


async def _take_phone(browser: Browser, origin: str) -> None:
    async with visiting(browser, origin, color_scheme="light", **PHONE) as page:
        await log_in(page)
        await page.goto(PAGES["overview"])
        await page.screenshot(path=FOLDER / "phone.png")


async def _chat(page: Page) -> None:
    for question in ANSWERS:
        await page.get_by_label("Message").fill(question)
        await page.get_by_role("button", name="Send").click()
        await page.get_by_role("button", name="Stop").wait_for(state="hidden")
    await page.mouse.click(0, 0)  # removes the focus


@asynccontextmanager
async def _lived_in() -> AsyncIterator[RunningBridge]:
    """A bridge with two accounts, keys and a history; some requests have just been answered, and two are running."""
    with TemporaryDirectory() as name:
        path = Path(name)
        await set_password(path)
        async with Arena() as arena:
            models = [model.public_name for model in arena.models if model.organization][:14]
            sessions = tuple(arena.sign_in(email) for email in ACCOUNTS)
            await live_in(StateFolder(path), models, ACCOUNTS, now=time.time(), days=DAYS)
            async with running_bridge(arena, path, sessions=sessions) as bridge, _used(bridge, models):
                yield bridge


@asynccontextmanager
async def _used(bridge: RunningBridge, models: Sequence[str]) -> AsyncIterator[None]:
    """Give each tool its key, send their requests, and keep two answers running within the context."""
    chance = random.Random(8)
    made = [tool.key(at=time.time() - DAYS * DAY) for tool in TOOLS]
    await bridge.state.update_keys(lambda _: tuple(key for _, key in made))
    secrets = {key.name: secret for secret, key in made}
    closing = asyncio.Event()
    begun = asyncio.Semaphore(0)

    def write(turn: Turn) -> Iterator[Step]:
        yield Pause(chance.uniform(0.2, 0.9))
        for word in ANSWERS.get(turn.prompt, "word " * chance.randint(20, 90)).split(" "):
            yield Line("a0", f"{word} ")
            yield Pause(0.01)
        if turn.prompt == "Go on":
            begun.release()
            yield Until(closing)
        yield Line("ad", {"finishReason": "stop"})

    async def ask(model: str, text: str = "Hello!") -> None:
        (tool,) = chance.choices(TOOLS[:3], [tool.share for tool in TOOLS[:3]])
        headers = {"Authorization": f"Bearer {secrets[tool.name]}", "User-Agent": tool.agent}
        async with await bridge.post(bridge.chat(text, model=model, stream=True), headers=headers) as answer:
            await answer.read()

    bridge.arena.script = write
    async with TaskOwner() as tasks:
        asked = []
        for model in (*chance.choices(models[:9], k=6), "gpt-7", *chance.choices(models[:9], k=8)):
            if model == "gpt-7":
                bridge.arena.faults.arm("model_failed_middle")  # for the next request
                bridge.arena.faults.arm("server_error", status=503)  # for the one after it
            asked.append(tasks.spawn(ask(model), name="ask"))
            await asyncio.sleep(chance.uniform(0.1, 0.4))
        await asyncio.gather(*asked)
        for model in models[:2]:
            tasks.spawn(ask(model, "Go on"), name="ask")
            await begun.acquire()
        yield
        closing.set()


if __name__ == "__main__":
    asyncio.run(main())
