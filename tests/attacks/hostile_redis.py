"""Corrupts the keys of a Redis that two bridges share: they must keep serving.

python tests/attacks/hostile_redis.py [--only PART-OF-A-KEY|news] [--each]      (loopback only; needs redis-server)

Two bridges answer chats, follow-ups, stored responses and pages, so that Redis has keys of every kind. Then one key of
each kind, or with --each every key, is set in turn to each hostile value: of another type, not JSON, JSON of another
structure, deeply nested, huge, and missing. After each change the same requests are made twice, with the connections to
Redis cut in between, so that the bridges reload everything. The same is done with messages on every channel. Checked
are the status codes, the log (no tracebacks), and the time of each request.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final

from polling import until

ROOT: Final = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/harness")]  # the imports below need it: hence their E402

from dashboard import Dashboard  # noqa: E402 — the path is set above
from several_bridges import SeveralBridges, several_bridges  # noqa: E402 — the path is set above

from bridge.tasks import TaskOwner  # noqa: E402 — the path is set above
from handlers.request.appkeys import SHARING  # noqa: E402 — the path is set above
from upstream.arena import Arena, Line, Step, Turn  # noqa: E402 — the path is set above

#: A request that takes longer than this, in seconds, counts as stalled; `redis.timeout` is 1 s here.
HELD_UP: Final = 5.0
#: The parts that differ between keys of one kind: ids and digests, the prefix of accounts, names of processes.
_ID: Final = re.compile(r"[0-9a-f]{8}[0-9a-f-]*|(?<=:)[^:]*@[0-9a-f]+")
_HUGE: Final = 16 * 1024 * 1024

#: Values that replace the value of a key, by name.
STRINGS: Final[Mapping[str, bytes]] = {
    "empty": b"",
    "no JSON": b"\xff\xfe{",
    "null": b"null",
    "list": b"[]",
    "object": b"{}",
    "list of lists": b"[[],[],[],[],[],[],[],[],[],[]]",
    "list of numbers": b"[1,2,3,4,5,6,7,8,9,10]",
    "list of texts": b'["a","b","c","d","e","f","g","h","i","j"]',
    "huge number": b"9" * 400,
    "negative": b"-1",
    "infinite": b"inf",
    "nested": b"[" * 100_000,
    "control characters": b'"<script>alert(1)</script>\\u0000\\u202e\x1b[2J"',
    "huge": b"x" * _HUGE,
}
PAGES: Final = ("", "/keys", "/accounts", "/models", "/activity", "/settings")


class Trouble(logging.Handler):
    """Collects tracebacks."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Collect the traceback of a record, if it has one."""
        if record.exc_info:
            kind, error, trace = record.exc_info
            where = ""
            while trace is not None:
                where = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
                trace = trace.tb_next
            self.found.append(f"{record.getMessage()[:80]}: {kind and kind.__name__}: {str(error)[:80]} at {where}")


class GivenTime:
    """A clock that does not count the time in which a busy machine keeps this process from running."""

    def __init__(self) -> None:
        self._kept_from_us = 0.0

    def now(self) -> float:
        """The time on this clock, in seconds."""
        return time.monotonic() - self._kept_from_us

    async def watch(self) -> None:
        """Add up the lost time until cancelled: delays of the event loop beyond the process's own CPU time."""
        while True:
            began, worked = time.monotonic(), time.process_time()
            await asyncio.sleep(0.02)
            late = time.monotonic() - began - 0.02
            self._kept_from_us += max(0.0, late - (time.process_time() - worked))


class Attack:
    """The two bridges under attack, and the problems found."""

    def __init__(self, several: SeveralBridges, walker: Dashboard, trouble: Trouble, given: GivenTime) -> None:
        self.several = several
        self.given = given
        self.walker = walker
        self.trouble = trouble
        self.first = ""
        self.found: dict[str, list[str]] = {}

    async def use(self) -> list[str]:
        """Make requests of every kind to both bridges; return the problems with their answers."""
        wrong: list[str] = []
        for bridge in self.several.bridges:
            history: list[dict[str, str]] = []
            for text in ("/say one", "/say two"):
                history.append({"role": "user", "content": text})
                body = {"model": bridge.model(), "messages": history}
                told = await self._ask(bridge, "POST", "/v1/chat/completions", wrong, json=body)
                if told is None or told["choices"][0]["message"]["content"] != text.removeprefix("/say "):
                    wrong.append(f"chat: {str(told)[:100]}")
                    break
                history.append(told["choices"][0]["message"])
            body = {"model": bridge.model(), "input": "/say three"}
            if (told := await self._ask(bridge, "POST", "/v1/responses", wrong, json=body)) is not None:
                await self._ask(bridge, "GET", f"/v1/responses/{told['id']}", wrong, 404)
                follow = {**body, "previous_response_id": told["id"]}
                await self._ask(bridge, "POST", "/v1/responses", wrong, json=follow)
            if self.first:
                follow = {**body, "previous_response_id": self.first}
                await self._ask(bridge, "POST", "/v1/responses", wrong, 400, json=follow)
                await self._ask(bridge, "GET", f"/v1/responses/{self.first}/input_items", wrong, 404)
            elif told is not None:
                self.first = told["id"]
            await self._ask(bridge, "GET", "/v1/health", wrong)
            await self._ask(bridge, "GET", "/metrics", wrong, text=True)
            self.walker.bridge = bridge
            for page in PAGES:
                began = self.given.now()
                answer = await self.walker.get(f"/dashboard{page}")
                if answer.status not in (200, 303, 302):
                    wrong.append(f"page {page}: {answer.status}")
                if self.given.now() - began > HELD_UP:
                    wrong.append(f"page {page} took {self.given.now() - began:.1f} s")
        return wrong

    async def _ask(
        self, bridge: Any, method: str, path: str, wrong: list[str], *also: int, text: bool = False, **sent: Any
    ) -> Any:
        began = self.given.now()
        async with bridge.http.request(method, f"{bridge.origin}{path}", headers=bridge.headers, **sent) as answer:
            body = await answer.text()
        if (took := self.given.now() - began) > HELD_UP:
            wrong.append(f"{path} took {took:.1f} s")
        if answer.status != 200 and answer.status not in also:
            wrong.append(f"{path}: {answer.status} {body[:150]}")
        return (body if text else json.loads(body)) if answer.status == 200 else None

    async def reconnect(self) -> list[str]:
        """Cut all connections to Redis; wait until both bridges use it again; return what is wrong if they do not."""
        await self.several.redis.call("CLIENT", "KILL", "TYPE", "normal")
        try:
            await until(lambda: all(link.usable for link in self.links), within=10)
            await until(lambda: all(link.availability.phase.name == "UP" for link in self.links), within=3)
        except TimeoutError:
            return [f"after a reconnect: {[(x.availability.phase.name, x.availability.why) for x in self.links]}"]
        return []

    @property
    def links(self) -> list[Any]:
        """The bridges' links to Redis."""
        return [sharing.link for each in self.several.bridges if (sharing := each.app[SHARING]) is not None]

    async def judge(self, name: str) -> None:
        """Use the bridges, reconnect them to Redis, and use them again; record all problems under this name."""
        self.trouble.found.clear()
        wrong = [*await self.use(), *await self.reconnect(), *await self.use(), *self.trouble.found]
        if wrong:
            counted = list(dict.fromkeys(wrong))
            print(f"  {name}:", *counted[:6], sep="\n      ", flush=True)
            self.found[name] = counted


async def main(only: str, *, each: bool) -> bool:
    """Run all attacks; return whether no problem was found."""
    trouble = Trouble()
    logging.getLogger().addHandler(trouble)
    logging.getLogger().setLevel(logging.WARNING)
    given = GivenTime()
    with tempfile.TemporaryDirectory() as path:
        async with Arena() as arena, _bridges(arena, Path(path)) as several, TaskOwner() as tasks:
            tasks.spawn(given.watch(), name="given time")
            arena.script = _last_said
            walker = Dashboard(several[0])
            await walker.set_up()
            attack = Attack(several, walker, trouble, given)
            print("before:", await attack.use(), await attack.use())
            keys = sorted(await several.redis.call("KEYS", "*"))
            if not each:
                keys = list({_ID.sub("*", key.decode()): key for key in keys}.values())
            for key in keys:
                if only.encode() in key:
                    await _replace(attack, key)
            if only in ("", "news"):
                await _news(attack)
            print("keys:", len(keys), "troubles:", len(attack.found))
            return not attack.found


def _bridges(arena: Arena, path: Path) -> AbstractAsyncContextManager[SeveralBridges]:
    return several_bridges(arena, path, timeout=1.0, key_options={"metrics": True})


def _last_said(turn: Turn) -> Iterator[Step]:
    yield Line("a0", re.findall(r"/say (\w+)", turn.prompt)[-1])
    yield Line("ad", {"finishReason": "stop"})


async def _replace(attack: Attack, key: bytes) -> None:
    redis = attack.several.redis
    kind = (await redis.call("TYPE", key)).decode()
    print(key.decode()[:90], kind, flush=True)
    for name, value in STRINGS.items():
        kept = await redis.call("DUMP", key)
        fields = (await redis.call("HKEYS", key))[:3] if kind == "hash" else []
        if kind == "string":
            await redis.call("SET", key, value)
        elif kind == "hash":
            for each in fields:
                await redis.call("HSET", key, each, value)
            await redis.call("HSET", key, value[:1000], value)
        elif kind == "list":
            await redis.call("DEL", key)
            await redis.call("RPUSH", key, value)
        else:
            await redis.call("DEL", key)
            await redis.call("ZADD", key, 1, value)
        await attack.judge(f"{key.decode()[:60]} {name}")
        await redis.call("DEL", key)
        if kept is not None:
            await redis.call("RESTORE", key, 0, kept)
    for name, command in (("a set", ("SADD", "member")), ("a list", ("RPUSH", "x")), ("a string", ("SET", "x"))):
        kept = await redis.call("DUMP", key)
        await redis.call("DEL", key)
        await redis.call(command[0], key, command[1])
        await attack.judge(f"{key.decode()[:60]} is {name}")
        await redis.call("DEL", key)
        if kept is not None:
            await redis.call("RESTORE", key, 0, kept)
    kept = await redis.call("DUMP", key)
    await redis.call("DEL", key)
    await attack.judge(f"{key.decode()[:60]} is missing")
    if kept is not None:
        await redis.call("DEL", key)
        await redis.call("RESTORE", key, 0, kept)


async def _news(attack: Attack) -> None:
    redis = attack.several.redis
    channels = await redis.call("PUBSUB", "CHANNELS", "*")
    for channel in channels:
        for topic in ("document", "gate", "asked", "told", "do", "", "unknown", "login"):
            for value in STRINGS.values():
                for text in (b"%s %s", b"%s x %s", b"%s x 1 %s", b"%s keys %s"):
                    await redis.call("PUBLISH", channel, text % (topic.encode(), value))
            await attack.judge(f"news on {channel.decode()[:30]} about {topic}")


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", default="")
    options.add_argument("--each", action="store_true", help="every key, not one of each kind")
    chosen = options.parse_args()
    sys.exit(0 if asyncio.run(main(chosen.only, each=chosen.each)) else 1)
