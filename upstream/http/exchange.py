"""One request and its response over a pooled connection; the request is sent in one write.

aiohttp's `ClientSession` takes longer for a short answer and more memory for an open stream (bench/DECISIONS.md): it
supports cookies, redirects and tracing, which these calls do not need, and starts a task to send the body.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from time import monotonic  # the loop's own clock
from typing import Final

from aiohappyeyeballs import SocketFactoryType
from multidict import CIMultiDict
from yarl import URL

from upstream.http.connection import READ_BYTES, Connection, Head, close_all
from upstream.http.connector import Connector, Reach
from upstream.http.exchange_types import NoAnswerInTime, NotSent
from upstream.http.pool import Lease, Pool
from upstream.http.proxies import DIRECT, Proxies
from upstream.http.resolver import NameResolver, Resolver
from upstream.loop.timers import Timers

#: Concurrent DNS lookups by default: the site's name, and those it may move to.
LOOKUPS_AT_ONCE: Final = 4
#: How long the addresses of a name are cached, in seconds.
DNS_CACHE_SECONDS: Final = 300.0

#: How long to wait for a response's head after its caller has left, in seconds: it may replace the session cookie. No
#: call outlives its caller by more than a second; timers expire a little late.
OUTLIVE_SECONDS: Final = 0.85
#: The same during shutdown: a daemon without open streams exits within a second.
FINISH_SECONDS: Final = 0.6


class PooledResponse:
    """A `Response` on a pooled connection."""

    __slots__ = ("_lease", "connection", "headers", "origin", "status", "take")

    def __init__(self, head: Head, origin: str, lease: Lease) -> None:
        self.status, self.headers = head
        self.origin = origin
        self.connection = lease.connection
        #: As `Response.take`. An attribute, so that a delta passes no method in between.
        self.take = lease.connection.take
        self._lease = lease

    @property
    def content_type(self) -> str:
        """The media type in lower case, without parameters."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    async def read(self) -> bytes:
        """Wait for more of the body; b"" at its end. Raises HttpError."""
        return await self.connection.read()

    def release(self) -> None:
        """Return the connection to the pool if the response is complete, or else close it."""
        self._lease.release()

    def close(self) -> None:
        """Close the connection."""
        self._lease.close()


@asynccontextmanager
async def open_exchanges(
    connections: int,
    connect_timeout: float,
    timers: Timers,
    *,
    proxies: Proxies = DIRECT,
    reach: Reach = Reach.CONFIGURED,
    names: NameResolver | None = None,
    socket_factory: SocketFactoryType | None = None,
    keep: bool = True,
) -> AsyncIterator[PooledExchanges]:
    """Own a pool of up to `connections` connections, closed on exit. `connect_timeout` is in seconds.

    `names` replaces the system's resolver. With `keep` false no connection is reused.
    """
    resolver = Resolver(LOOKUPS_AT_ONCE, DNS_CACHE_SECONDS)
    opened: set[Connection] = set()
    new_connection = partial(Connection, asyncio.get_running_loop(), timers, opened, memoryview(bytearray(READ_BYTES)))
    connector = Connector(
        new_connection, names or resolver, proxies=proxies, reach=reach, socket_factory=socket_factory
    )
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
    """Exchanges over one pool; `opened` holds every open connection, idle or in use."""

    def __init__(self, pool: Pool, opened: set[Connection]) -> None:
        self.pool = pool
        self.opened = opened
        self._abandoned: set[Lease] = set()  # their callers have left, but `on_head` waits for the heads
        self._none_abandoned = asyncio.Event()

    async def request(
        self,
        method: str,
        origin: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        deadline: float = math.inf,
        min_extension: float = math.inf,
        on_head: Callable[[CIMultiDict[str]], None] | None = None,
    ) -> PooledResponse:
        """Send a request once; see `Exchanges.request`.

        `on_head` gets the headers up to `OUTLIVE_SECONDS` after the caller was cancelled or the deadline has passed.
        """
        lease = await self.pool.acquire(origin)
        if monotonic() >= deadline:  # the site would do work whose result nobody awaits
            lease.release()
            raise NotSent("connecting took too long")
        lease.connection.on_head = on_head
        try:
            host = origin.partition("://")[2]
            # Not kept in a variable, which would take 4 KiB for each open stream.
            head = await lease.connection.send(
                encode_head(method, host, target, headers, None if body is None else len(body)),
                body,
                deadline,
                min_extension,
            )
        except (asyncio.CancelledError, NoAnswerInTime):
            self._abandon(lease)
            raise
        except BaseException:  # a lease that is never closed would occupy a slot of the pool forever
            lease.close()
            raise
        return PooledResponse(head, origin, lease)

    def awaited_heads(self) -> Iterator[Callable[[CIMultiDict[str]], None]]:
        """The `on_head` of each request that has been sent, and whose response may still begin."""
        for connection in self.opened:
            if connection.awaits_head and connection.on_head is not None:
                yield connection.on_head

    def _abandon(self, lease: Lease) -> None:
        """Close a connection whose caller has left; if `on_head` is set, only after the response's head has arrived."""
        connection = lease.connection
        if connection.on_head is None or not connection.keep_waiting(monotonic() + OUTLIVE_SECONDS):
            lease.close()
            return
        self._abandoned.add(lease)
        connection.on_data = partial(self._close_after_head, lease)

    def _close_after_head(self, lease: Lease) -> None:
        if lease.connection.awaits_head:
            return
        self._close(lease)
        self._abandoned.discard(lease)
        if not self._abandoned:
            self._none_abandoned.set()

    def _close(self, lease: Lease) -> None:
        lease.connection.on_data = None
        lease.close()

    async def finish(self) -> None:
        """Wait for the heads of abandoned requests, at most `FINISH_SECONDS`, and close their connections."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FINISH_SECONDS):
                while self._abandoned:
                    self._none_abandoned.clear()
                    await self._none_abandoned.wait()
        for lease in self._abandoned:
            self._close(lease)
        self._abandoned.clear()


def split_url(url: URL) -> tuple[str, str]:
    """Split a URL into origin and target for `Exchanges.request`; path and query stay as written."""
    return str(url.origin()), url.raw_path_qs


def encode_head(method: str, host: str, target: str, headers: Mapping[str, str], length: int | None) -> bytes:
    """Encode a request's head for HTTP/1.1; `length` is its body's, None without a body.

    Raises ValueError for a value that would inject another header; the text does not quote it.
    """
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *map(": ".join, headers.items())]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    text = "".join(lines)  # checked as a whole: line by line takes four times as long
    if "\n" in text or "\r" in text or "\0" in text:
        raise ValueError("A header of a call to LMArena contains a line break.")
    return b"%b\r\n\r\n" % "\r\n".join(lines).encode()
