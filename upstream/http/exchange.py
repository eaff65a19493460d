"""One request and the response to it, over pooled connections: the request leaves at once, and in one write.

aiohttp's `ClientSession` takes longer for a short answer, and more memory for an open stream (bench/DECISIONS.md): it
provides for cookies, redirects and tracing, which these calls do without, and starts a task to send the body.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from time import monotonic  # the loop's own clock
from typing import Final

from aiohappyeyeballs import SocketFactoryType
from multidict import CIMultiDict
from yarl import URL

from upstream.http.connection import READ_BYTES, Connection, Head, close_all
from upstream.http.connector import Connector, Reach
from upstream.http.exchange_types import NoAnswerInTime
from upstream.http.pool import Lease, Pool
from upstream.http.proxies import DIRECT, Proxies
from upstream.http.resolver import Names, Resolver
from upstream.loop.timers import Timers

#: Names that are looked up at the same time, where callers say nothing else: the site's, and those it may move to.
LOOKUPS_AT_ONCE: Final = 4
#: How long the addresses of a name are remembered, in seconds.
NAMES_KEPT_SECONDS: Final = 300.0

#: How long the head of an answer is waited for that nobody waits for any more, in seconds: it may replace the session
#: cookie. No call outlives its caller by more than a second; timers expire a little late.
OUTLIVE_SECONDS: Final = 0.85
#: The same, when everything ends: a daemon without a stream ends within a second.
FINISH_SECONDS: Final = 0.6


class PooledResponse:
    """A Response over a connection of the pool."""

    __slots__ = ("_lease", "connection", "headers", "origin", "status")

    def __init__(self, head: Head, origin: str, lease: Lease) -> None:
        self.status, self.headers = head
        self.origin = origin
        self.connection = lease.connection
        self._lease = lease

    @property
    def content_type(self) -> str:
        """The media type in lower case, without parameters."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    @property
    def on_data(self) -> Callable[[], None] | None:
        """What is called after each read from the socket."""
        return self.connection.on_data

    @on_data.setter
    def on_data(self, call: Callable[[], None] | None) -> None:
        self.connection.on_data = call

    @property
    def deadline(self) -> float:
        """When the response fails, on the loop's clock."""
        return self.connection.deadline

    @deadline.setter
    def deadline(self, at: float) -> None:
        self.connection.deadline = at

    @property
    def over(self) -> bool:
        """Whether no more will come than can be taken now."""
        return self.connection.over

    async def read(self) -> bytes:
        """Wait for more of the body; b"" at its end. Raises HttpError."""
        return await self.connection.read()

    def take(self) -> bytes:
        """What of the body has come and was not taken yet."""
        return self.connection.take()

    def release(self) -> None:
        """Give the connection back if the response is complete, or else close it."""
        self._lease.release()

    def close(self) -> None:
        """Close the connection."""
        self._lease.close()


@asynccontextmanager
async def exchanging(
    connections: int,
    connect_timeout: float,
    timers: Timers,
    *,
    proxies: Proxies = DIRECT,
    reach: Reach = Reach.CONFIGURED,
    names: Names | None = None,
    socket_factory: SocketFactoryType | None = None,
    keep: bool = True,
) -> AsyncIterator[PooledExchanges]:
    """Own a pool of that many connections, which are closed on the way out. `connect_timeout` is in seconds.

    `names` finds addresses in place of the system. With `keep` false no connection is used twice.
    """
    resolver = Resolver(LOOKUPS_AT_ONCE, NAMES_KEPT_SECONDS)
    opened: set[Connection] = set()
    make = partial(Connection, asyncio.get_running_loop(), timers, opened, memoryview(bytearray(READ_BYTES)))
    connector = Connector(make, names or resolver, proxies=proxies, reach=reach, socket_factory=socket_factory)
    pool = Pool(connector, connections, connect_timeout, timers, keep=keep)
    exchanges = PooledExchanges(pool, opened)
    try:
        yield exchanges
    finally:
        await exchanges.finish()
        await close_all(opened)
        await pool.close()
        await resolver.close()


class PooledExchanges:
    """Exchanges over one pool; `opened` holds every connection that is open now, at rest or not."""

    def __init__(self, pool: Pool, opened: set[Connection]) -> None:
        self.pool = pool
        self.opened = opened
        self._abandoned: set[Lease] = set()  # whose heads are waited for, for `on_head` only
        self._quiet = asyncio.Event()

    async def request(
        self,
        method: str,
        origin: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        deadline: float = math.inf,
        patience: float = math.inf,
        on_head: Callable[[CIMultiDict[str]], None] | None = None,
    ) -> PooledResponse:
        """Send a request once, as `Exchanges.request` says.

        `on_head` is told the headers for `OUTLIVE_SECONDS` after the caller was cancelled or the deadline has passed.
        """
        lease = await self.pool.lend(origin)
        lease.connection.on_head = on_head
        try:
            host = origin.partition("://")[2]
            # Not kept in a variable: 4 KiB for each open stream.
            head = await lease.connection.ask(
                encode_head(method, host, target, headers, None if body is None else len(body)),
                body,
                deadline,
                patience,
            )
        except (asyncio.CancelledError, NoAnswerInTime):
            self._abandon(lease)
            raise
        except BaseException:  # a lease that nobody holds would be lost to the pool
            lease.close()
            raise
        return PooledResponse(head, origin, lease)

    def _abandon(self, lease: Lease) -> None:
        """Close a connection whose caller has left, as soon as its answer's head has come, if somebody wants that."""
        connection = lease.connection
        if connection.on_head is None or not connection.outlive(monotonic() + OUTLIVE_SECONDS):
            lease.close()
            return
        self._abandoned.add(lease)
        connection.on_data = partial(self._look_at, lease)

    def _look_at(self, lease: Lease) -> None:
        if lease.connection.awaits_head:
            return
        self._let_go(lease)
        self._abandoned.discard(lease)
        if not self._abandoned:
            self._quiet.set()

    def _let_go(self, lease: Lease) -> None:
        lease.connection.on_data = None
        lease.close()

    async def finish(self) -> None:
        """Wait for the heads that are still listened for, at most `FINISH_SECONDS`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FINISH_SECONDS):
                while self._abandoned:
                    self._quiet.clear()
                    await self._quiet.wait()
        for lease in self._abandoned:
            self._let_go(lease)
        self._abandoned.clear()


def split_url(url: URL) -> tuple[str, str]:
    """The origin and the target of a URL, as `Exchanges.request` takes them; its path and query stay as written."""
    return str(url.origin()), url.raw_path_qs


def encode_head(method: str, host: str, target: str, headers: Mapping[str, str], length: int | None) -> bytes:
    """A request's head in HTTP/1.1's form; `length` is its body's, None where it has none.

    Raises ValueError where a value would end its header and begin another; its text does not quote that.
    """
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *[f"{name}: {value}" for name, value in headers.items()]]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    text = "".join(lines)  # looked through as a whole: line by line takes four times as long
    if "\n" in text or "\r" in text or "\0" in text:
        raise ValueError("A header of a call to LMArena holds a line break.")
    return b"%b\r\n\r\n" % "\r\n".join(lines).encode()
