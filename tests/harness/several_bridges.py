"""Runs several bridges in this process that share one Redis, like several daemons, and one arena."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from places import linked
from redis_server import RedisServer, redis_server
from running import Overrides, RunningBridge, bridge_for, config_for

from bridge.access import keys
from bridge.config.schema import RedisSection
from bridge.config.values import Secret
from bridge.shared.documents import SharedDocuments
from bridge.shared.link import LinkSettings
from bridge.state.documents import StateFolder
from bridge.state.state import ACCOUNTS, KEYS
from upstream.accounts import Account
from upstream.arena import Arena
from upstream.protocol import cookies

#: The default of `redis.timeout`, in seconds; long, since a busy machine may stall for seconds.
TIMEOUT = 10.0


@dataclass
class SeveralBridges:
    """Bridges with one key and the same accounts."""

    redis: RedisServer
    bridges: list[RunningBridge]

    def __getitem__(self, number: int) -> RunningBridge:
        return self.bridges[number]


@asynccontextmanager
async def several_bridges(
    arena: Arena,
    path: Path,
    number: int = 2,
    overrides: Overrides | None = None,
    *,
    key_options: Mapping[str, Any] | None = None,
    timeout: float = TIMEOUT,
) -> AsyncIterator[SeveralBridges]:
    """Run `number` bridges with one Redis, each with its own state folder."""
    async with redis_server() as redis, AsyncExitStack() as stack:
        secret, key = keys.generate("test", now=time.time(), **{"rpm": 1_000_000, **(key_options or {})})
        session = arena.sign_in()
        account = Account(session.email, cookies.decode(session.cookie_value))
        async with linked(redis.address, LinkSettings("operator", "lmab:", 5.0, 10.0)) as link:
            await link.started()
            folder = StateFolder(path / "operator")
            folder.prepare()
            documents = SharedDocuments(link, folder)
            await documents.open(KEYS).save((key,))
            await documents.open(ACCOUNTS).save((account,))
        section = RedisSection(url=Secret(redis.url), timeout=timeout)
        bridges = []
        for at in range(number):
            folder = StateFolder(path / f"state-{at}")
            folder.prepare()
            config = replace(config_for(arena, folder.path, overrides), redis=section)
            bridges.append(await stack.enter_async_context(bridge_for(arena, config, folder, secret)))
        yield SeveralBridges(redis, bridges)
