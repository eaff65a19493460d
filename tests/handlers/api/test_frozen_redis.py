"""Redis freezes, dies and comes back empty while answers stream: none breaks, and new requests are answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from frames import DONE, frames
from polling import until
from running import RunningBridge
from several_bridges import SeveralBridges, several_bridges
from streams import Play

from bridge.shared.availability import Phase
from handlers.request.appkeys import SHARING
from upstream.arena import Arena

#: `redis.timeout`, in seconds.
TIMEOUT = 1.0
#: How long the bridges may take to recover, in seconds.
NORMAL_SECONDS = 2.0
#: What the site, a request without Redis, and the start of a server take in addition, in seconds.
USUAL_SECONDS = 1.5


@dataclass
class Starved:
    """How long this process was kept from running, in seconds, which the time limits allow for."""

    seconds: float = 0.0

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[Starved]:
        task = asyncio.get_running_loop().create_task(self._watch())
        try:
            yield self
        finally:
            task.cancel()

    async def _watch(self) -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.01)
            self.seconds += time.monotonic() - began - 0.01


@dataclass
class Stream:
    """One streamed answer; `body` grows as it arrives."""

    bridge: RunningBridge
    prompt: str
    body: bytes = b""
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self, http: aiohttp.ClientSession) -> None:
        async with await ask(http, self.bridge, self.prompt, stream=True) as response:
            assert response.status == 200
            async for data in response.content.iter_any():
                self.body += data
                self.begun.set()

    @property
    def is_whole(self) -> bool:
        found = frames(self.body)
        return found[-1] == DONE and not any(b'"error"' in frame for frame in found)


async def ask(
    http: aiohttp.ClientSession, bridge: RunningBridge, prompt: str, *, stream: bool = False
) -> aiohttp.ClientResponse:
    url = f"{bridge.base_url}/chat/completions"
    return await http.post(url, json=bridge.chat(prompt, stream=stream), headers=bridge.headers)


async def slowest_of_new_ones(http: aiohttp.ClientSession, several: SeveralBridges, *prompts: str) -> float:
    """Ask all at once, on both bridges; return how long the slowest took, in seconds."""

    async def one(number: int, prompt: str) -> float:
        began = time.monotonic()
        async with await ask(http, several[number % 2], prompt) as response:
            assert response.status == 200, await response.text()
            await response.read()
        return time.monotonic() - began

    return max(await asyncio.gather(*(one(*each) for each in enumerate(prompts))))


def is_normal(several: SeveralBridges) -> bool:
    sharings = [bridge.app[SHARING] for bridge in several.bridges]
    return all(each is not None and each.link.availability.phase is Phase.UP for each in sharings)


@pytest.mark.parametrize("number", [16, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(180)])])
async def test_streams_continue_while_redis_freezes_dies_and_restarts_empty(
    number: int, arena: Arena, tmp_path: Path
) -> None:
    arena.script = play = Play(pace=number / 400)
    several_with = several_bridges(arena, tmp_path, key_options={"concurrency": 1000}, timeout=TIMEOUT)
    connector = aiohttp.TCPConnector(limit=0)
    async with several_with as several, aiohttp.ClientSession(connector=connector) as http:
        streams = [Stream(several[at % 2], f"stream-{at}-") for at in range(number)]
        async with asyncio.TaskGroup() as tasks, Starved().watched() as starved:
            for each in streams:
                tasks.create_task(each.read(http))
            await asyncio.gather(*(each.begun.wait() for each in streams))

            several.redis.freeze()
            starved.seconds = 0.0
            slowest = await slowest_of_new_ones(http, several, *(f"brief-{at}-" for at in range(6)))
            assert slowest < TIMEOUT + USUAL_SECONDS + starved.seconds
            said = {each.prompt: len(each.body) for each in streams}
            await until(lambda: all(len(each.body) > said[each.prompt] for each in streams), within=60)
            several.redis.thaw()
            await normal_in_time(several, starved)

            await several.redis.kill()
            assert await slowest_of_new_ones(http, several, *(f"brief-gone-{at}-" for at in range(6)))
            await several.redis.start()  # empty
            await normal_in_time(several, starved)
            play.go.set()
        assert [each.prompt for each in streams if not each.is_whole] == []
        texts = {each.prompt: each.body.count(each.prompt.encode()) for each in streams}
        assert texts == {prompt: len(said) for prompt, said in play.said.items() if prompt.startswith("stream")}


async def normal_in_time(several: SeveralBridges, starved: Starved) -> None:
    began, starved.seconds = time.monotonic(), 0.0
    await until(lambda: is_normal(several), within=60)
    assert time.monotonic() - began < NORMAL_SECONDS + USUAL_SECONDS + starved.seconds
