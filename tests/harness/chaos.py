"""Fault injection for a small cluster, with callers and a fake site that detect wrong behaviour."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count

import aiohttp
import psutil
from machines import Machines
from witness import JsonMessage, assistant, marks_of, read, shown, user

from upstream.arena import Arena, Line, Pause, Session, Step, Turn

#: The longest time for which a process or Redis is frozen, in seconds.
LONGEST_FREEZE = 2.5
#: How long a call that a process has sent may take to arrive at the site, in seconds.
ARRIVAL_SECONDS = 0.5
#: The time limit of a request, in seconds, whatever happens to processes and Redis; generous for busy machines.
PATIENCE = 120.0


class Site:
    """Checks the calls to the arena: models see only histories that were sent; turns of an evaluation never overlap."""

    def __init__(self, arena: Arena, chance: random.Random) -> None:
        self.wrong: list[str] = []
        self.sent: set[tuple[str, ...]] = set()
        self.turns: dict[str, list[tuple[str, ...]]] = {}
        self._arena = arena
        self._chance = chance
        self._numbers = count(1)
        self._open: Counter[str] = Counter()
        arena.script = self._answer

    def text(self) -> str:
        """A unique text."""
        return f"«{next(self._numbers)}»"

    def all_wrong(self) -> list[str]:
        """Descriptions of everything wrong that was observed."""
        at_once = [call.refusal for call in self._arena.chats if "still answering" in (call.refusal or "")]
        return [*self.wrong, *map(str, at_once)]

    async def _answer(self, turn: Turn) -> AsyncIterator[Step]:
        seen, evaluation = tuple(shown(turn)), turn.evaluation.id
        self.turns.setdefault(evaluation, []).append(seen)
        if seen not in self.sent:
            self.wrong.append(f"a model was shown {seen}, which nobody has sent")
        if self._open[evaluation]:
            self.wrong.append(f"{evaluation} has two turns at once")
        self._open[evaluation] += 1
        try:
            yield Line("a0", self.text())
            for _ in range(self._chance.randrange(6)):
                yield Pause(0.05)
                yield Line("a0", " and so on")
            yield Line("ad", {"finishReason": "stop"})
        finally:
            self._open[evaluation] -= 1


@dataclass(frozen=True, slots=True)
class Failure:
    """A request without a complete answer, with its start and end on the monotonic clock."""

    began: float
    ended: float
    what: str


@dataclass
class Callers:
    """Callers that converse until `over`; they retry after a failure, and sometimes send a request twice at once."""

    machines: Machines
    site: Site
    keys: tuple[str, ...]
    chance: random.Random
    over: asyncio.Event = field(default_factory=asyncio.Event)
    failures: list[Failure] = field(default_factory=list)
    places: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0

    async def converse(self) -> None:
        """Hold one conversation after another."""
        while not self.over.is_set():
            messages: list[JsonMessage] = []
            key = self.chance.choice(self.keys)
            for _ in range(self.chance.randrange(1, 7)):
                messages = [*messages, user(self.site.text())]
                text, *_ = await asyncio.gather(
                    *(self.ask(messages, key) for _ in range(1 if self.chance.random() < 0.8 else 2))
                )
                text = text or await self.ask(messages, key)
                if text is None:
                    break
                messages = [*messages, assistant(text)]

    async def ask(self, messages: list[JsonMessage], key: str) -> str | None:
        """Send a request; return the text of the answer, or None if it is not complete."""
        sent = tuple(marks_of(messages))
        self.site.sent.add(sent)
        body = self.machines.chat(messages=messages, stream=self.chance.random() < 0.5)
        began = time.monotonic()
        try:
            async with (
                asyncio.timeout(PATIENCE),
                await self.machines.post(body, headers={"Authorization": f"Bearer {key}"}) as response,
            ):
                data = await response.read()
                reply = read(response, data) if response.content_type in _OURS else None
        except (aiohttp.ClientError, TimeoutError, json.JSONDecodeError) as error:
            self._failed(began, repr(error))
            return None
        self.slowest = max(self.slowest, time.monotonic() - began)
        if reply is None or reply.status != 200 or reply.code is not None:
            self._failed(began, f"{response.status} {data[:500]!r}")
            return None
        self.places[f"{reply.kind}; {reply.why}"] += 1
        # A stream whose headers went out with a keep-alive, during a freeze, does not name its evaluation.
        turns = [self.site.turns[reply.evaluation]] if reply.evaluation else self.site.turns.values()
        if not any(sent in seen for seen in turns):
            self.site.wrong.append(f"{reply.evaluation} answered {sent} without having seen it")
        return reply.text

    def _failed(self, began: float, what: str) -> None:
        self.failures.append(Failure(began, time.monotonic(), what))


_OURS = ("application/json", "text/event-stream")


@dataclass
class Monkey:
    """Freezes and restarts Redis and, with `processes`, freezes and kills workers; `kills` has the times of kills.

    Nothing is killed that may hold the only copy of a cookie that the site has just issued: no process while it renews
    a login, and neither Redis nor a process until the copy on each machine has the newest cookies of all `sessions`.
    Otherwise the login would be lost.
    """

    machines: Machines
    chance: random.Random
    sessions: Sequence[Session]
    processes: bool = False
    kills: list[float] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    _redis: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def play(self, seconds: float) -> None:
        """Inject faults for this long; each is repaired before the next."""
        tricks: list[Callable[[], Awaitable[None]]] = [self._freeze_redis, self._freeze_redis, self._restart_redis]
        if self.processes:
            tricks += [self._freeze_worker] * 3 + [self._kill_worker] * 2
        end = time.monotonic() + seconds
        async with asyncio.TaskGroup() as tasks:
            for _ in range(2 if self.processes else 1):
                tasks.create_task(self._play(tricks, end))

    async def _play(self, tricks: list[Callable[[], Awaitable[None]]], end: float) -> None:
        while time.monotonic() < end:
            await asyncio.sleep(self.chance.uniform(0.1, 1.0))
            await self.chance.choice(tricks)()

    async def _freeze_redis(self) -> None:
        async with self._redis:
            self.done["redis frozen"] += 1
            self.machines.redis.freeze()
            await asyncio.sleep(self.chance.uniform(0.1, LONGEST_FREEZE))
            self.machines.redis.thaw()

    async def _restart_redis(self) -> None:
        async with self._redis:
            if not self.machines.have_cookies(self.sessions):
                return
            self.done["redis restarted, empty"] += 1
            await self.machines.redis.kill()
            await asyncio.sleep(self.chance.uniform(0.0, 1.0))
            await self.machines.redis.start()

    async def _freeze_worker(self) -> None:
        with suppress(psutil.NoSuchProcess, IndexError):
            worker = self.chance.choice(self.machines.workers())
            self.done["worker frozen"] += 1
            worker.send_signal(signal.SIGSTOP)
            await asyncio.sleep(self.chance.uniform(0.1, LONGEST_FREEZE))
            worker.send_signal(signal.SIGCONT)

    async def _kill_worker(self) -> None:
        with suppress(psutil.NoSuchProcess, IndexError):
            worker = self.chance.choice(self.machines.workers())
            worker.send_signal(signal.SIGSTOP)
            await asyncio.sleep(ARRIVAL_SECONDS)
            if not self.machines.have_cookies(self.sessions):
                self.done["worker spared"] += 1
                worker.send_signal(signal.SIGCONT)
                return
            self.done["worker killed"] += 1
            self.kills.append(time.monotonic())
            worker.kill()
