"""Measures the longest callback that blocks the bridge's loop: in every scenario, and in the heaviest cases."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import aiohttp

from bench.load import Lost
from bench.measure import Warm, warm
from bench.report import Section, Target
from bench.requests import KEY
from bench.scenarios import SCENARIOS, Play, Scenario
from bench.stored_state import FULL, USED, StoredState
from bench.subjects import our_bridge
from handlers.dashboard.pages import PAGES

_MILLISECONDS: Final = 20.0
_PASSWORD: Final = secrets.token_urlsafe()


@dataclass(frozen=True, slots=True)
class _Case:
    name: str
    about: str
    run: Callable[[Warm], Awaitable[object]]
    stored: StoredState = USED
    milliseconds: float = _MILLISECONDS  # the longest that a callback may take


def _of(scenario: Scenario, stored: StoredState = USED, milliseconds: float = _MILLISECONDS) -> _Case:
    async def run(bridge: Warm) -> None:
        await bridge.measure(scenario)

    return _Case(scenario.name, scenario.about, run, stored, milliseconds)


def _pictures(name: str, about: str, number: int, size: int) -> Scenario:
    return Scenario(name, about, "request", Play(20, 0), 5, 1, pictures=number, picture_bytes=size)


async def _refused(body: bytes, bridge: Warm) -> None:
    """Send a body that must be answered with 400. Raises Lost."""
    reader, writer = await asyncio.open_connection("127.0.0.1", bridge.running.port)
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    status = await reader.readline()
    writer.transport.abort()  # the bridge may not have read all of it
    if not status.startswith(b"HTTP/1.1 400 "):
        raise Lost(f"not 400 but {status!r}")


async def _visited(bridge: Warm) -> None:
    """Log in, and load every page of the dashboard twice. Raises Lost."""
    jar = aiohttp.CookieJar(unsafe=True)  # accepts cookies from an IP address
    async with aiohttp.ClientSession(f"http://127.0.0.1:{bridge.running.port}", cookie_jar=jar) as browser:
        await browser.post("/dashboard/login", data={"password": _PASSWORD})
        for path, _, _ in PAGES * 2:
            async with browser.get(path) as page:
                if page.status != 200 or page.url.path != path:
                    raise Lost(f"not {path} but {page.url.path} with {page.status}")
                await page.read()


#: orjson holds the GIL even in a thread, so that parsing a body of that size cannot be split.
_CASES: Final = (
    _of(_pictures("picture-10MB", "5 requests with a picture of 10 MiB, a body of 14 MB", 1, 10 * 2**20), USED, 25.0),
    _of(_pictures("body-32MiB", "5 requests with three pictures, 32 MiB together", 3, 8_388_000), USED, 60.0),
    _Case("bomb", "20 MB of `[]`, answered with 400", partial(_refused, b"[]" * 10_000_000)),
    _of(
        Scenario(
            "full", "4,000 requests, 32 at once, while every table and file is full", "request", Play(20, 0), 4000, 32
        ),
        FULL,
    ),
    _Case(
        "dashboard",
        "each of its pages twice, while every table and file is full",
        _visited,
        replace(FULL, password=_PASSWORD),
    ),
)


async def longest(scenarios: Sequence[Scenario], upstream_port: int, say: Callable[[str], None]) -> Section:
    """Measure the given scenarios and, if these are all that exist, the heavy cases too."""
    cases = [_of(scenario) for scenario in scenarios]
    if len(cases) == len(SCENARIOS):
        cases += _CASES
    table = [("in", "CPU time, ms", "target", "callback")]
    for case in cases:
        say(f"callbacks: {case.name}, {case.about}")
        seconds, name = await _longest_of(case, upstream_port)
        target = Target(at_most=case.milliseconds, unit="ms")
        table.append((case.name, f"{seconds * 1e3:.3g}", target.judged(seconds * 1e3), f"`{name}`"))
    notes = [
        "CPU time of the loop's thread in one callback (a task's step is one); each scenario in a separate run",
        "from the first request to the end of the process, including the saving of its state",
        f"the bridge has two full years of statistics, {USED.keys} keys and {USED.conversations:,} conversations",
        f"full: {FULL.keys:,} keys and {FULL.conversations:,} conversations",
        *(f"{case.name}: {case.about}" for case in cases if case in _CASES),
    ]
    return Section("The longest callback", table, notes)


async def _longest_of(case: _Case, upstream_port: int) -> tuple[float, str]:
    with tempfile.TemporaryDirectory(prefix="bench-callbacks-") as folder:
        out = Path(folder) / "longest.json"
        async with _timed(out, case.stored, upstream_port) as bridge:
            await case.run(bridge)
        (seconds, name), *_ = json.loads(out.read_text())
    return seconds, name


@asynccontextmanager
async def _timed(out: Path, stored: StoredState, upstream_port: int) -> AsyncIterator[Warm]:
    """A bridge whose callbacks are timed from now until it exits."""
    runner = (sys.executable, "-m", "bench.callbacks", str(out))
    async with warm(our_bridge(runner=runner, stored=stored), upstream_port) as bridge:
        for process in bridge.running.processes:
            process.send_signal(signal.SIGUSR2)
        yield bridge
