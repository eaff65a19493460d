"""Connections that are used again and again, and the count of them all: this pool is the only one that keeps it."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from time import monotonic  # the loop's own clock
from typing import Final, Protocol

from upstream.http.connection import CLOSED_AT_ONCE, Connection
from upstream.http.exchange_types import NotSent
from upstream.loop.timers import Timers

#: Below the site's own keep-alive, so that a call does not meet a dying connection, in seconds.
KEEPALIVE_SECONDS: Final = 15.0


class Connects(Protocol):
    """What makes the connections of a pool."""

    async def connect(self, origin: str) -> Connection:
        """Connect to an origin. Raises NotSent."""

    def way(self, origin: str) -> str:
        """Which proxy that goes through, such as ` through the SOCKS5 proxy at …`; '' directly."""


class Lease:
    """A connection that belongs to one exchange until `release` or `close`, which are idempotent."""

    __slots__ = ("_lent", "_origin", "_pool", "connection")

    def __init__(self, connection: Connection, origin: str, pool: Pool) -> None:
        self.connection = connection
        self._lent = True
        self._origin = origin
        self._pool = pool

    def release(self) -> None:
        """Give the connection back if its response is complete, or else close it."""
        if self._lent:
            self._lent = False
            self.connection.cancel_timer()
            self._pool.take_back(self.connection, self._origin)

    def close(self) -> None:
        """Close the connection."""
        if self._lent:
            self._lent = False
            self.connection.cancel_timer()
            self._pool.close_one(self.connection)


class Pool:
    """At most `limit` connections.

    `connect_timeout` is in seconds, and bounds the wait for a place too. With `keep` false no connection is used twice.
    """

    def __init__(
        self,
        connector: Connects,
        limit: int,
        connect_timeout: float,
        timers: Timers,
        *,
        keep: bool = True,
    ) -> None:
        self._connector = connector
        self._limit = limit
        self._connect_timeout = connect_timeout
        self._timers = timers
        self._keep = keep
        self._taken = 0  # places: lent, at rest or being made
        self._waiters: deque[asyncio.Future[None]] = deque()  # for a place, or for a connection that is given back
        # Since when each rests; the oldest first.
        self._resting: defaultdict[str, deque[tuple[float, Connection]]] = defaultdict(deque)
        self._watched = False

    def __len__(self) -> int:
        """How many are at rest."""
        return sum(map(len, self._resting.values()))

    @property
    def busy(self) -> int:
        """How many are lent or being made."""
        return self._taken - len(self)

    async def lend(self, origin: str) -> Lease:
        """Take the connection that was used last, or make a new one. Raises NotSent."""
        connection = self._rested(origin)
        if connection is None:
            try:
                async with asyncio.timeout(self._connect_timeout):
                    connection = await self._wait_or_make(origin)
            except TimeoutError:
                raise NotSent(f"connecting{self._connector.way(origin)} took too long") from None
        return Lease(connection, origin, self)

    def _rested(self, origin: str) -> Connection | None:
        resting = self._resting.get(origin)
        while resting:
            _, connection = resting.pop()
            if connection.fit:
                return connection
            self.close_one(connection)
        return None

    async def _wait_or_make(self, origin: str) -> Connection:
        waited = False
        while self._taken >= self._limit and not self._make_room():
            await self._wait(first=waited)
            waited = True
            if (connection := self._rested(origin)) is not None:
                return connection
        self._taken += 1
        try:
            return await self._connector.connect(origin)
        except BaseException:  # cancelled too: what was not made takes no place
            self._free_place()
            raise

    async def _wait(self, *, first: bool) -> None:
        """Wait for a turn, as the first where another caller has used ours.

        A turn that comes too late for a cancelled caller goes to the next.
        """
        waiter = asyncio.get_running_loop().create_future()
        if first:
            self._waiters.appendleft(waiter)
        else:
            self._waiters.append(waiter)
        try:
            await waiter
        except BaseException:
            if waiter.cancelled():
                self._waiters.remove(waiter)
            else:
                self._wake_next()
            raise

    def _wake_next(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _free_place(self) -> None:
        self._taken -= 1
        self._wake_next()

    def _make_room(self) -> bool:
        """Close the connection of any origin that has rested longest; False where none rests."""
        oldest = min((resting for resting in self._resting.values() if resting), key=lambda it: it[0][0], default=None)
        if oldest is None:
            return False
        _, connection = oldest.popleft()
        connection.close()
        self._taken -= 1  # the caller takes the place itself, so no waiter is woken
        return True

    def close_one(self, connection: Connection) -> None:
        """Close a connection, and let another be made."""
        connection.close()
        self._free_place()

    def take_back(self, connection: Connection, origin: str) -> None:
        """Let a connection rest, or close it if it cannot be used again."""
        if not self._keep or not connection.fit:
            self.close_one(connection)
            return
        now = monotonic()
        self._resting[origin].append((now, connection))
        if not self._watched:
            self._watched = True
            self._timers.set(self, now + KEEPALIVE_SECONDS)
        self._wake_next()

    def on_timer(self) -> None:
        """Close what has rested for long enough, some at a time: thousands at once would hold the loop."""
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
