"""One request and the answer to it, over aiohttp's connections: the request leaves at once, and in one write.

aiohttp's `ClientSession` takes 250 µs for a short answer that takes 100 here, and more memory for each open stream
(`make bench`, alone and hold): it provides for cookies, redirects, proxies and tracing, which these calls do without,
and starts a task to send the body.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, NamedTuple, cast

import aiohttp
from aiohttp.connector import Connection as Lease
from multidict import CIMultiDict
from yarl import URL

from upstream.alarms import Alarms
from upstream.connection import READ_BYTES, Connection, close_all
from upstream.trust import trust

#: Below the site's own keep-alive, so that a call does not meet a dying connection, in seconds.
KEEPALIVE_SECONDS: Final = 15.0


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
        if self.lease.protocol is not None:  # or it may be another request's by now
            self.connection.rest()
            self.lease.release()

    def close(self) -> None:
        """Close the connection."""
        if self.lease.protocol is not None:
            self.connection.rest()
            self.lease.close()


@asynccontextmanager
async def exchanging(connections: int, connect_timeout: float, alarms: Alarms) -> AsyncIterator[Exchanges]:
    """Own a pool of that many connections, which are closed on the way out. `connect_timeout` is in seconds."""
    connector = aiohttp.TCPConnector(limit=connections, keepalive_timeout=KEEPALIVE_SECONDS, ttl_dns_cache=300)
    opened: set[Connection] = set()
    make = partial(Connection, asyncio.get_running_loop(), alarms, opened, memoryview(bytearray(READ_BYTES)))
    connector._factory = make  # type: ignore[assignment] # noqa: SLF001 — it has no public switch
    async with connector:
        try:
            yield Exchanges(connector, connect_timeout)
        finally:
            connector._conns.clear()  # noqa: SLF001 — its own end would close them all at once
            await close_all(opened)


class Exchanges:
    """Requests over one pool of connections."""

    def __init__(self, connector: aiohttp.BaseConnector, connect_timeout: float) -> None:
        self.connector = connector
        self._timeout = aiohttp.ClientTimeout(total=None, connect=connect_timeout, sock_connect=connect_timeout)
        self._peers: dict[str, aiohttp.ClientRequest] = {}  # by origin: what the pool has to know of a request

    async def request(
        self,
        method: str,
        origin: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        deadline: float = math.inf,
        patience: float = math.inf,
    ) -> Response:
        """Send a request, return the answer as soon as its headers have come; it must end by `deadline`.

        That is on the loop's clock, and may be moved, as `Connection.ask` says, where `patience` too is said.
        Raises what aiohttp's session does, HttpProcessingError instead of ClientResponseError, and ValueError of a
        header that cannot be sent.
        """
        peer = self._peers.get(origin) or await self._peer(origin)
        lease, connection = await self._connect(peer)
        try:
            host = peer.headers["Host"]
            # Not kept in a variable: 4 KiB for each open stream.
            head = await connection.ask(encode(method, host, target, headers, body), deadline, patience)
        except BaseException:  # cancellation too: a lease that nobody holds would be lost to the pool
            connection.rest()
            lease.close()
            raise
        return Response(head.status, head.headers, origin, connection, lease)

    async def _peer(self, origin: str) -> aiohttp.ClientRequest:
        url = URL(origin)
        return self._peers.setdefault(origin, aiohttp.ClientRequest("GET", url, ssl=await trust(url)))

    async def _connect(self, peer: aiohttp.ClientRequest) -> tuple[Lease, Connection]:
        """Take a connection that nothing unasked has come over: it would pass for the answer to come."""
        while True:
            try:
                lease = await self.connector.connect(peer, traces=[], timeout=self._timeout)
            except TimeoutError as error:
                raise aiohttp.ConnectionTimeoutError(f"Connecting to {peer.url} took too long.") from error
            connection = cast("Connection", lease.protocol)  # made by our factory
            if not (connection.used and connection.should_close):
                return lease, connection
            lease.close()


def encode(method: str, host: str, target: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """A request in HTTP/1.1's form. Raises ValueError where a value would end its header and begin another."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *[f"{name}: {value}" for name, value in headers.items()]]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    text = "".join(lines)  # looked through as a whole: line by line takes four times as long
    if "\n" in text or "\r" in text or "\0" in text:
        raise ValueError("A header of a call to LMArena holds a line break.")
    return b"%b\r\n\r\n%b" % ("\r\n".join(lines).encode(), body or b"")
