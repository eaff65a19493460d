"""The pictures in docs/screenshots: every page, light and dark, of a bridge that seems to have run for a year.

`make screenshots` takes them anew. It needs Chromium, and neither an account nor the network.
"""

from __future__ import annotations

import asyncio
import math
import random
import shutil
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from browsing import PAGES, chromium, log_in, set_password, visiting
from counted import Clock
from daemon import ROOT
from playwright.async_api import Browser, Page
from running import RunningBridge, api_key, running_bridge

from bridge.state.documents import StateFolder
from bridge.statistics.counts import Outcome
from bridge.statistics.file import stats_document
from bridge.statistics.stats import Stats
from bridge.tasks import TaskOwner
from upstream.arena import Arena, Line, Pause, Step, Turn, Until
from upstream.protocol.errors import Reason

FOLDER: Final = ROOT / "docs" / "screenshots"
DESKTOP: Final = {"viewport": {"width": 1280, "height": 860}}
PHONE: Final = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}
#: How much of a page is shown, in pixels, where it is not one screen.
HEIGHTS: Final = {"login": 560, "overview": 1240, "keys": 960, "accounts": 1000}

ANSWERS: Final = {
    "Which bird stands in the shallows, and waits?": "A **heron**. It can stand there for the better part of an hour"
    " without moving anything but its eyes.",
    "How fast is it, in Python?": "The neck unfolds in *a few hundredths of a second*:\n\n"
    "```python\ndef strike(fish: Fish) -> bool:\n    # it takes the heron's legs for reeds\n"
    "    return fish.seconds_to_react > 0.04\n```\n\nThen the heron stands as before.",
}

DAY: Final = 86400
DAYS: Final = 60
#: How requests end, and how many of a thousand.
ENDS: Final = {
    (200, Reason.OK): 955,
    (499, Reason.CLIENT_GONE): 22,
    (502, Reason.UPSTREAM_ERROR): 9,
    (400, Reason.REJECTED): 6,
    (504, Reason.TIMEOUT): 5,
    (429, Reason.RATE_LIMITED): 3,
}


@dataclass(frozen=True)
class Tool:
    """A program that calls the bridge: its key's name and rights, what it says it is, its share of all requests."""

    name: str
    agent: str
    share: int
    rights: dict[str, Any] = field(default_factory=dict)


TOOLS: Final = (
    Tool("open-webui", "Python/3.12 aiohttp/3.14.5", 42, {"rpm": 120}),
    Tool("laptop", "AsyncOpenAI/Python 2.11.0", 27),
    Tool("editor", "OpenAI/JS 6.49.0", 18, {"concurrency": 4}),
    Tool("phone", "ktor-client", 9, {"models": ("gpt-*", "claude-*")}),
    Tool("nightly-report", "curl/8.14.1", 4),
)


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
    await page.mouse.click(0, 0)  # nothing has the focus


@asynccontextmanager
async def _lived_in() -> AsyncIterator[RunningBridge]:
    """A bridge with two accounts, keys and a history; answers have just been given, and two are under way."""
    with TemporaryDirectory() as name:
        path = Path(name)
        await set_password(path)
        async with Arena() as arena:
            models = [model.public_name for model in arena.models if model.organization][:14]
            await stats_document(StateFolder(path), time.time).save(_history(models))
            sessions = (arena.sign_in("ada@example.org"), arena.sign_in("office@example.org"))
            async with running_bridge(arena, path, sessions=sessions) as bridge, _used(bridge, models):
                yield bridge


def _history(models: Sequence[str]) -> Stats:
    """More requests at this time of day than at any other, fewer at weekends, and a little more every month."""
    chance = random.Random(5)
    now = time.time()
    clock = Clock(now - DAYS * DAY)
    stats = Stats(clock)
    while clock.now < now:
        busy = (1.1 + math.cos((now - clock.now) / DAY * math.tau)) * (0.4 if (now - clock.now) // DAY % 7 > 4 else 1)
        grown = 1 - 0.7 * (now - clock.now) / (DAYS * DAY)
        clock.now += chance.expovariate(busy * grown / 22)
        ((status, reason),) = chance.choices(list(ENDS), list(ENDS.values()))
        ttft = chance.lognormvariate(0.1, 0.55) if status == 200 else None
        tokens = int(chance.lognormvariate(5.6, 0.8)) if ttft else 0
        outcome = Outcome(
            status,
            reason,
            seconds=(ttft or 1) + tokens / 70,
            model=chance.choices(models, [1 / (rank + 1.5) for rank in range(len(models))])[0],
            key=chance.choices(TOOLS, [tool.share for tool in TOOLS])[0].name,
            ttft=ttft,
            chunks=tokens,
            prompt_tokens=int(chance.lognormvariate(6.3, 1)),
            completion_tokens=tokens,
        )
        stats.record(outcome)
    return stats


@asynccontextmanager
async def _used(bridge: RunningBridge, models: Sequence[str]) -> AsyncIterator[None]:
    """Give each tool its key, let them ask, and leave two answers unfinished meanwhile."""
    chance = random.Random(8)
    made = [api_key(**{"name": tool.name, "rpm": None, **tool.rights}) for tool in TOOLS]
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
                bridge.arena.faults.arm("model_failed_middle")  # meets the next one
                bridge.arena.faults.arm("server_error", status=503)  # and the one after that
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
