"""Connections that are asked again and again: aiohttp's connector makes them, and here they rest between two requests.

Its own pool takes twelve calls to hand one out and to take it back, which is 4 % of a short request (`make bench`).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from time import monotonic  # the loop's own clock, in a third of the time
from typing import Final, cast

import aiohttp
from aiohttp.connector import Connection as Made
from yarl import URL

from upstream.http.connection import CLOSED_AT_ONCE, Connection
from upstream.http.trust import trust
from upstream.loop.timers import Timers

#: Below the site's own keep-alive, so that a call does not meet a dying connection, in seconds.
KEEPALIVE_SECONDS: Final = 15.0


class Lease:
    """A connection that is one exchange's until it is let go, by `release` or `close`; more than once is no harm."""

    __slots__ = ("_made", "_origin", "_pool", "connection")

    def __init__(self, made: Made, origin: str, pool: Pool) -> None:
        self.connection = cast("Connection", made.protocol)  # by the connector's factory
        self._made: Made | None = made
        self._origin = origin
        self._pool = pool

    def release(self) -> None:
        """Give the connection back if its answer has come to its end, or else close it."""
        if self._made is not None:
            self.connection.rest()
            self._pool.take_back(self._made, self._origin)
            self._made = None

    def close(self) -> None:
        """Close the connection."""
        if self._made is not None:
            self.connection.rest()
            self._pool.close_one(self._made)
            self._made = None


class Pool:
    """The connections, those at rest by their origin. `connect_timeout` is in seconds."""

    def __init__(self, connector: aiohttp.BaseConnector, connect_timeout: float, timers: Timers) -> None:
        self.connector = connector
        self._taken = 0  # of what the connector may make: lent, at rest, being made or waited for
        self._timeout = aiohttp.ClientTimeout(total=None, connect=connect_timeout, sock_connect=connect_timeout)
        self._timers = timers
        self._peers: dict[str, aiohttp.ClientRequest] = {}  # what the connector has to know of a request
        self._resting: defaultdict[str, deque[tuple[float, Made]]] = defaultdict(deque)  # the longest first, since when
        self._watched = False

    def __len__(self) -> int:
        """How many are at rest."""
        return sum(map(len, self._resting.values()))

    async def lend(self, origin: str) -> Lease:
        """Take the connection that was used last, or a new one. Raises what the connector raises."""
        resting = self._resting[origin]
        while resting:
            _, made = resting.pop()
            if _is_fit(made):
                return Lease(made, origin, self)
            self.close_one(made)
        peer = self._peers.get(origin) or await self._peer(origin)
        if self._taken >= self.connector.limit:
            self._make_room()
        self._taken += 1
        try:
            made = await self.connector.connect(peer, traces=[], timeout=self._timeout)
        except BaseException as error:  # cancelled too: what was not made takes no place
            self._taken -= 1
            if isinstance(error, TimeoutError):
                raise aiohttp.ConnectionTimeoutError(f"Connecting to {origin} took too long.") from error
            raise
        return Lease(made, origin, self)

    async def _peer(self, origin: str) -> aiohttp.ClientRequest:
        url = URL(origin)
        return self._peers.setdefault(origin, aiohttp.ClientRequest("GET", url, ssl=await trust(url)))

    def _make_room(self) -> None:
        """Close one that rests, of whatever origin: the connector would wait for it."""
        for resting in self._resting.values():
            if resting:
                self.close_one(resting.popleft()[1])
                return

    def close_one(self, made: Made) -> None:
        """Close a connection, and let another be made."""
        made.close()
        self._taken -= 1

    def take_back(self, made: Made, origin: str) -> None:
        """Let a connection rest, or close it if it cannot be asked again, or somebody waits for its place."""
        if not _is_fit(made) or self._taken > self.connector.limit:
            self.close_one(made)
            return
        now = monotonic()
        self._resting[origin].append((now, made))
        if not self._watched:
            self._watched = True
            self._timers.set(self, now + KEEPALIVE_SECONDS)

    def on_timer(self) -> None:
        """Close what has rested for long enough, some at a time: thousands at once would hold the loop for 70 ms."""
        too_old = monotonic() - KEEPALIVE_SECONDS
        closed = 0
        for resting in self._resting.values():
            while resting and resting[0][0] <= too_old and closed < CLOSED_AT_ONCE:
                self.close_one(resting.popleft()[1])
                closed += 1
        oldest = min((resting[0][0] for resting in self._resting.values() if resting), default=None)
        self._watched = oldest is not None
        if oldest is not None:
            self._timers.set(self, oldest + KEEPALIVE_SECONDS)

    async def close(self) -> None:
        """Close all that are at rest."""
        self._timers.cancel(self)
        for resting in self._resting.values():
            while resting:
                for _ in range(min(len(resting), CLOSED_AT_ONCE)):
                    self.close_one(resting.pop()[1])
                await asyncio.sleep(0)


def _is_fit(made: Made) -> bool:
    """Whether a connection can be asked: what has come unasked would pass for the next answer."""
    connection = cast("Connection", made.protocol)
    return connection.is_connected() and not connection.should_close
