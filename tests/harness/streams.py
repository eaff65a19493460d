"""Many concurrent streams: answers that continue until they are released, and callers that read them."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import aiohttp
from frames import DONE, frames
from process import DaemonProcess, Home

from upstream.arena import Line, Pause, Step, Turn


@dataclass
class Play:
    """Answers that continue until `go` is set; to prompts `stuck…` they never end, to `brief…` they have one delta."""

    pace: float = 0.05
    go: asyncio.Event = field(default_factory=asyncio.Event)
    said: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    async def __call__(self, turn: Turn) -> AsyncIterator[Step]:
        said = self.said[turn.prompt]
        stuck, brief = turn.prompt.startswith("stuck"), turn.prompt.startswith("brief")
        while stuck or not (said if brief else self.go.is_set()):
            said.append(f"{turn.prompt} {len(said)} 👋\n")
            yield Line("a0", said[-1])
            yield Pause(self.pace)
        yield Line("ad", {"finishReason": "stop"})


@dataclass
class StreamCaller:
    """One streamed call; `begun` is set when its first text has arrived."""

    prompt: str
    body: bytes = b""
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    async def call(self, http: aiohttp.ClientSession, daemon: DaemonProcess, home: Home) -> None:
        async with await post(http, daemon, home, self.prompt, stream=True) as response:
            assert response.status == 200
            async for data in response.content.iter_any():
                self.body += data
                if self.prompt.encode() in self.body:
                    self.begun.set()

    @property
    def texts(self) -> list[str]:
        """The deltas of the answer, without the last frame."""
        chunks = [json.loads(frame) for frame in frames(self.body)[:-1]]
        return [text for chunk in chunks if (text := chunk["choices"][0]["delta"].get("content"))]

    @property
    def error(self) -> dict[str, Any] | None:
        """The error event that ended the answer, if any; a successful end is `[DONE]` after a finish reason."""
        *chunks, last = frames(self.body)
        assert not any(b'"error"' in chunk for chunk in chunks)
        if last == DONE:
            assert json.loads(chunks[-1])["choices"][0]["finish_reason"] == "stop"
            return None
        error: dict[str, Any] = json.loads(last)["error"]
        return error


def chat_model(home: Home) -> str:
    return next(model.public_name for model in home.arena.models if model.organization and model.modality == "chat")


async def post(
    http: aiohttp.ClientSession, daemon: DaemonProcess, home: Home, prompt: str, **more: object
) -> aiohttp.ClientResponse:
    body = {"model": chat_model(home), "messages": [{"role": "user", "content": prompt}], **more}
    return await http.post(f"{daemon.origin}/v1/chat/completions", json=body, headers=home.headers)


async def begin(
    tasks: asyncio.TaskGroup, http: aiohttp.ClientSession, daemon: DaemonProcess, home: Home, *prompts: str
) -> list[StreamCaller]:
    """Start a stream for each prompt, and wait until all of them have begun."""
    callers = [StreamCaller(prompt) for prompt in prompts]
    for caller in callers:
        tasks.create_task(caller.call(http, daemon, home))
    async with asyncio.timeout(30):
        await asyncio.gather(*(caller.begun.wait() for caller in callers))
    return callers


@dataclass
class NewCallers:
    """Sends `pace` requests per second, each on a new connection, until `over`; `outcomes` counts their results."""

    home: Home
    daemon: DaemonProcess
    pace: float
    outcomes: Counter[int | str] = field(default_factory=Counter)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    _numbers: Iterator[int] = field(default_factory=count)

    async def come(self) -> None:
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with aiohttp.ClientSession(connector=connector) as http, asyncio.TaskGroup() as requests:
            while not self.over.is_set():
                requests.create_task(self.ask(http, f"brief-{next(self._numbers)}-"))
                await asyncio.sleep(1 / self.pace)

    async def ask(self, http: aiohttp.ClientSession, prompt: str) -> None:
        try:
            async with await post(http, self.daemon, self.home, prompt) as response:
                body = await response.read()
                self.outcomes[response.status if response.status == 200 else body.decode()] += 1
        except aiohttp.ClientError as error:
            self.outcomes[repr(error)] += 1
