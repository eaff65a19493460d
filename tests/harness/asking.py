"""An LMArena client connected to an arena, for tests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from upstream import client
from upstream.answer import ArenaAnswer
from upstream.arena import Arena, Line, Session, Step, Turn, Until
from upstream.client import ArenaClient, ClientSettings
from upstream.credentials import Credentials
from upstream.loop.timers import Timers
from upstream.protocol import evaluations
from upstream.protocol.events import Event
from upstream.protocol.ids import Uuid7Source
from upstream.protocol.models import Model


@asynccontextmanager
async def connected(origin: str, *others: str, **settings: object) -> AsyncIterator[ArenaClient]:
    values: dict[str, object] = {
        "base_url": origin,
        "origins": frozenset({origin, *others}),
        "user_agent": "a browser's",
        "cf_clearance": "clear",
        "connect_timeout": 5.0,
        "idle_timeout": 5.0,
        "connections": 10,
        **settings,
    }
    async with client.connect(ClientSettings(**values), Timers()) as connected:  # type: ignore[arg-type]  # a test's table of settings
        yield connected


class Asker:
    """Calls the arena's first chat model with one account."""

    def __init__(self, arena: Arena, arena_client: ArenaClient, session: Session) -> None:
        self.client = arena_client
        self.rotations: list[str] = []
        self.credentials = Credentials(session.cookie_value, self.rotations.append)
        self.new_id = Uuid7Source(time.time)
        (self.mode,) = arena.modes
        model = next(model for model in arena.models if model.modality == "chat")
        self.model = Model(
            model.id, model.public_name, None, None, frozenset({"text"}), frozenset({"text"}), False, None, ()
        )

    def create(self, prompt: str = "/say hello") -> evaluations.Call:
        return evaluations.create(self.model, prompt, (), self.new_id, mode=self.mode)

    async def open(self, call: evaluations.Call | None = None, *, timeout: float = 5.0) -> ArenaAnswer:
        return await self.client.open(call or self.create(), self.credentials, first_byte_timeout=timeout)

    async def ask(self, call: evaluations.Call | None = None, *, timeout: float = 5.0) -> list[Event]:
        answer = await self.open(call, timeout=timeout)
        events: list[Event] = []
        try:
            while not answer.ended:
                events += await answer.read()
        finally:
            await answer.aclose()
        return events


def held(release: asyncio.Event) -> Callable[[Turn], AsyncIterator[Step]]:
    """An answer of two deltas; the second waits for `release`."""

    async def script(_: Turn) -> AsyncIterator[Step]:
        yield Line("a0", "one ")
        yield Until(release)
        yield Line("a0", "two")
        yield Line("ad", {"finishReason": "stop"})

    return script
