"""A fake site that runs one coroutine for each connection, and HTTP exchanges with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from upstream.capture import CapturingExchanges
from upstream.client import ArenaClient
from upstream.http.exchange import PooledExchanges, PooledResponse, open_exchanges
from upstream.http.pool import Pool
from upstream.loop.timers import Timers
from upstream.responses import read_prefix

Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\nContent-Type: Text/Plain; charset=utf-8\r\nContent-Length: 2\r\n\r\nhi"


@asynccontextmanager
async def listening(peer: Peer) -> AsyncIterator[int]:
    """Run a server that calls `peer` for each connection and closes it afterwards; yield its port."""

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await peer(reader, writer)
        finally:
            writer.close()

    async with await asyncio.start_server(play, "127.0.0.1", 0, backlog=1000) as server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def towards(peer: Peer, *, connections: int = 10) -> AsyncIterator[tuple[PooledExchanges, str]]:
    """Run a server like `listening`; yield exchanges with it, and its origin."""
    timers = Timers()
    async with listening(peer) as port, open_exchanges(connections, connect_timeout=5, timers=timers) as exchanges:
        yield exchanges, f"http://127.0.0.1:{port}"


async def read(response: PooledResponse) -> bytes:
    """Read the whole body, and release the connection."""
    async with asyncio.timeout(5):
        data = await read_prefix(response, 1_000_000)
    response.release()
    return data


def pool_of(client: ArenaClient) -> Pool:
    """The connection pool of a client."""
    capturing = client._exchanges
    assert isinstance(capturing, CapturingExchanges)
    assert isinstance(capturing.exchanges, PooledExchanges)
    return capturing.exchanges.pool
