"""One request and the answer to it, over pooled connections: the request leaves at once, and in one write.

aiohttp's `ClientSession` takes 250 µs for a short answer that takes 100 here, and more memory for each open stream
(`make bench`, alone and hold): it provides for cookies, redirects, proxies and tracing, which these calls do without,
and starts a task to send the body.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from time import monotonic  # the loop's own clock, in a third of the time
from typing import Final, NamedTuple

import aiohttp
from multidict import CIMultiDict

from upstream.http.connection import READ_BYTES, Connection, close_all
from upstream.http.pool import Lease, Pool
from upstream.http.resolver import Resolver
from upstream.loop.timers import Timers

#: Names that are looked up at the same time: the site's, and those it may move to (`upstream.origins`).
LOOKUPS_AT_ONCE: Final = 4

#: How long the head of an answer is waited for that nobody waits for any more, in seconds: it may replace the session
#: cookie. No call outlives its caller by more than a second; timers expire a little late.
OUTLIVE_SECONDS: Final = 0.85
#: The same, when everything ends: a daemon without a stream ends within a second.
FINISH_SECONDS: Final = 0.6


class Response(NamedTuple):
    """An answer that has begun. Its connection must be let go by `release` or `close`; more than once is no harm."""

    status: int
    headers: CIMultiDict[str]
    origin: str
    connection: Connection
    lease: Lease

    @property
    def content_type(self) -> str:
        """The media type, without parameters."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    def release(self) -> None:
        """Give the connection back if the answer has come to its end, or else close it."""
        self.lease.release()

    def close(self) -> None:
        """Close the connection."""
        self.lease.close()


@asynccontextmanager
async def exchanging(connections: int, connect_timeout: float, timers: Timers) -> AsyncIterator[Exchanges]:
    """Own a pool of that many connections, which are closed on the way out. `connect_timeout` is in seconds."""
    resolver = Resolver(LOOKUPS_AT_ONCE)
    connector = aiohttp.TCPConnector(limit=connections, ttl_dns_cache=300, resolver=resolver)
    opened: set[Connection] = set()
    make = partial(Connection, asyncio.get_running_loop(), timers, opened, memoryview(bytearray(READ_BYTES)))
    connector._factory = make  # type: ignore[assignment] # noqa: SLF001 — it has no public switch
    async with connector:
        pool = Pool(connector, connect_timeout, timers)
        exchanges = Exchanges(pool)
        try:
            yield exchanges
        finally:
            await exchanges.finish()
            await close_all(opened)
            await pool.close()
            await resolver.close()


class Exchanges:
    """Requests over one pool of connections."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
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
    ) -> Response:
        """Send a request, return the answer as soon as its headers have come; it must end by `deadline`.

        That is on the loop's clock, and may be moved, as `Connection.ask` says, where `patience` too is said.
        `on_head` is told the headers, and must not raise: also if the caller is cancelled or `deadline` passes, for
        `OUTLIVE_SECONDS` more.
        Raises what aiohttp's session does, HttpProcessingError instead of ClientResponseError, and ValueError of a
        header that cannot be sent.
        """
        lease = await self.pool.lend(origin)
        lease.connection.on_head = on_head
        try:
            host = origin.partition("://")[2]
            # Not kept in a variable: 4 KiB for each open stream.
            head = await lease.connection.ask(encode(method, host, target, headers, body), deadline, patience)
        except (asyncio.CancelledError, TimeoutError):
            self._abandon(lease)
            raise
        except BaseException:  # a lease that nobody holds would be lost to the pool
            lease.close()
            raise
        return Response(head.status, head.headers, origin, lease.connection, lease)

    def _abandon(self, lease: Lease) -> None:
        """Close a connection whose caller has left, as soon as its answer's head has come, if somebody wants that."""
        connection = lease.connection
        if connection.on_head is None or not connection.outlive(monotonic() + OUTLIVE_SECONDS):
            lease.close()
            return
        self._abandoned.add(lease)
        connection.on_data = partial(self._look_at, lease)

    def _look_at(self, lease: Lease) -> None:
        if lease.connection.awaits_head and lease.connection.error is None:
            return
        lease.connection.on_data = None
        lease.close()
        self._abandoned.discard(lease)
        if not self._abandoned:
            self._quiet.set()

    async def finish(self) -> None:
        """Wait for the heads that are still listened for, at most `FINISH_SECONDS`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FINISH_SECONDS):
                while self._abandoned:
                    self._quiet.clear()
                    await self._quiet.wait()
        for lease in self._abandoned:
            lease.connection.on_data = None
            lease.close()
        self._abandoned.clear()


def encode(method: str, host: str, target: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """A request in HTTP/1.1's form. Raises ValueError where a value would end its header and begin another."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *[f"{name}: {value}" for name, value in headers.items()]]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    text = "".join(lines)  # looked through as a whole: line by line takes four times as long
    if "\n" in text or "\r" in text or "\0" in text:
        raise ValueError("A header of a call to LMArena holds a line break.")
    return b"%b\r\n\r\n%b" % ("\r\n".join(lines).encode(), body or b"")
