"""The kinds of storage for state, for tests that apply to all of them: files in a folder, or Redis."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias

from polling import until
from redis_server import RedisServer, redis_server

from bridge.shared.address import RedisAddress
from bridge.shared.availability import Phase
from bridge.shared.documents import SharedDocuments
from bridge.shared.link import Link, LinkSettings, instance_name
from bridge.state.documents import StateFolder
from bridge.state.formats import DocumentSource

PlaceKind: TypeAlias = Literal["files", "redis"]
PLACES: Final[tuple[PlaceKind, ...]] = ("files", "redis")
#: The timeout of a command, in seconds.
TIMEOUT: Final = 1.0


@asynccontextmanager
async def linked(address: RedisAddress, settings: LinkSettings) -> AsyncIterator[Link]:
    """A link that runs while the context lasts."""
    link = Link(address, settings, time.monotonic)
    async with link.running():
        yield link


@dataclass
class SharedProcess:
    """One of several processes that share a Redis: its link, its local copies, and the shared documents."""

    link: Link
    copies: StateFolder
    documents: SharedDocuments


@dataclass
class Redis:
    """A Redis server and the simulated processes that use it."""

    server: RedisServer
    path: Path
    _stack: AsyncExitStack = field(repr=False)
    _made: int = 0

    async def lose(self, *processes: SharedProcess) -> None:
        """Kill the server and restart it empty; wait until these processes have noticed both."""
        await self.server.kill()
        await until(lambda: not any(process.link.usable for process in processes))
        await self.server.start()
        await until(lambda: all(process.link.availability.phase is Phase.UP for process in processes))

    async def process(
        self, *, copies: Path | None = None, timeout: float = TIMEOUT, connect_timeout: float = 10.0
    ) -> SharedProcess:
        """Add a process; `copies` is the folder of another one on the same machine, which it shares."""
        self._made += 1
        name = f"process-{self._made}"
        instance = instance_name(str(copies or self.path / name))
        settings = LinkSettings(instance, "test:", timeout, connect_timeout, settle_seconds=0.5)
        link = await self._stack.enter_async_context(linked(self.server.address, settings))
        folder = StateFolder(copies or self.path / name)
        folder.prepare()
        documents = SharedDocuments(link, folder)
        await link.started()
        return SharedProcess(link, folder, documents)


@asynccontextmanager
async def shared_redis(path: Path) -> AsyncIterator[Redis]:
    """A separate Redis for the test."""
    async with redis_server() as server, AsyncExitStack() as stack:
        yield Redis(server, path, stack)


@dataclass
class Place:
    """Storage of one kind; `source` opens it for one more process."""

    kind: PlaceKind
    source: Callable[[], Awaitable[DocumentSource]]


@asynccontextmanager
async def placed(kind: PlaceKind, path: Path) -> AsyncIterator[Place]:
    """Storage of this kind; its files are in `path`."""
    if kind == "files":

        async def folder() -> DocumentSource:
            found = StateFolder(path / "state")
            found.prepare()
            return found

        yield Place(kind, folder)
        return
    async with shared_redis(path) as redis:

        async def documents() -> DocumentSource:
            return (await redis.process()).documents

        yield Place(kind, documents)
