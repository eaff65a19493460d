"""A small cluster: two daemons with several workers each on loopback addresses, one Redis, and nginx in front."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil
from places import linked
from process import DaemonProcess, Home
from proxies import nginx, serving
from redis_server import RedisServer, redis_server
from running import Front
from workers import SERVE

from bridge.access import keys
from bridge.shared.documents import SharedDocuments
from bridge.shared.link import LinkSettings
from bridge.state.documents import StateFolder
from bridge.state.state import ACCOUNTS, KEYS
from upstream.accounts import Account
from upstream.arena import Arena, Session
from upstream.protocol import cookies

HOSTS = ("127.0.0.1", "127.0.0.2")
WORKERS = 2


@dataclass
class Machines(Front):
    """The machines behind nginx; `origin` is that of nginx."""

    arena: Arena
    origin: str
    key: str
    http: aiohttp.ClientSession
    redis: RedisServer
    daemons: list[DaemonProcess]
    _path: Path

    def workers(self) -> list[psutil.Process]:
        """The worker processes of all machines."""
        return [worker for each in self.daemons for worker in psutil.Process(each.process.pid).children()]

    def have_cookies(self, sessions: Iterable[Session]) -> bool:
        """Whether the local copies on all machines have the newest cookies of these sessions."""
        copies = [
            (folder_of(self._path, number) / "state/shared/accounts.json").read_text() for number in range(len(HOSTS))
        ]
        return all(session.cookie_value in copy for session in sessions for copy in copies)

    async def add_key(self, key: keys.ApiKey) -> None:
        """Add a key, like a command that the operator runs on a third machine."""
        async with operating(self.redis, self._path) as documents:
            await documents.open(KEYS).update(lambda kept: (*kept, key))


def folder_of(path: Path, number: int) -> Path:
    """The folder of one machine."""
    return path / f"machine-{number}"


@asynccontextmanager
async def operating(redis: RedisServer, path: Path) -> AsyncIterator[SharedDocuments]:
    """The shared documents as a command opens them."""
    async with linked(redis.address, LinkSettings("operator", "lmab:", 5.0, 10.0)) as link:
        await link.started()
        folder = StateFolder(path / "operator")
        folder.prepare()
        yield SharedDocuments(link, folder)


@asynccontextmanager
async def machines(arena: Arena, path: Path, *sessions: Session) -> AsyncIterator[Machines]:
    """Run the machines, with an account for each session and one key."""
    secret, key = keys.generate("test", now=time.time(), rpm=1_000_000)
    found = tuple(Account(session.email, cookies.decode(session.cookie_value)) for session in sessions)
    async with redis_server() as redis, AsyncExitStack() as stack:
        async with operating(redis, path) as documents:
            await documents.open(KEYS).save((key,))
            await documents.open(ACCOUNTS).save(found)
        daemons = []
        for number, host in enumerate(HOSTS):
            folder = folder_of(path, number)
            folder.mkdir()
            home = Home(arena, folder)
            home.configure({"server": {"host": host, "drain_seconds": 5, "open_metrics": True}})
            environ = {"WORKERS": str(WORKERS), "REDIS_URL": redis.url}
            daemons.append(await stack.enter_async_context(home.launch(program=SERVE, environ=environ)))
        for each in daemons:
            await each.is_ready()
        proxy = nginx(path, *(each.origin.removeprefix("http://") for each in daemons))
        http = await stack.enter_async_context(serving(proxy, path))
        yield Machines(arena, proxy.origin, secret, http, redis, daemons, path)
