"""A pool of reusable connections: the only limit on their number."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from contextlib import suppress
from time import monotonic  # the loop's own clock
from typing import Final

from upstream.http.connection import CLOSED_AT_ONCE, Connection
from upstream.http.connector import Connector
from upstream.http.exchange_types import NotSent
from upstream.loop.timers import Timers

#: Shorter than the site's keep-alive, so that a call does not get a connection that is being closed, in seconds.
KEEPALIVE_SECONDS: Final = 15.0


class Lease:
    """Exclusive use of a connection until `release` or `close`, which are idempotent."""

    __slots__ = ("_active", "_origin", "_pool", "connection")

    def __init__(self, connection: Connection, origin: str, pool: Pool) -> None:
        self.connection = connection
        self._active = True
        self._origin = origin
        self._pool = pool

    def release(self) -> None:
        """Return the connection to the pool if its response is complete, or else close it."""
        if self._active:
            self._active = False
            self.connection.cancel_timer()
            self._pool.give_back(self.connection, self._origin)

    def close(self) -> None:
        """Close the connection."""
        if self._active:
            self._active = False
            self.connection.cancel_timer()
            self._pool.close_one(self.connection)


class Pool:
    """At most `limit` connections at a time.

    `connect_timeout` is in seconds and includes the wait for a free slot. With `keep` false no connection is reused.
    """

    def __init__(
        self,
        connector: Connector,
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
        self._taken = 0  # slots, by connections in use, idle or being made
        self._waiters: deque[asyncio.Future[None]] = deque()  # for a free slot or an idle connection
        # By origin: since when each connection has been idle, the longest first.
        self._idle: defaultdict[str, deque[tuple[float, Connection]]] = defaultdict(deque)
        self._timer_set = False

    def __len__(self) -> int:
        """The number of idle connections."""
        return sum(map(len, self._idle.values()))

    @property
    def busy(self) -> int:
        """The number of connections in use or being made."""
        return self._taken - len(self)

    async def acquire(self, origin: str) -> Lease:
        """Reuse the most recently used idle connection, or make a new one. Raises NotSent."""
        connection = self._pop_idle(origin)
        if connection is None:
            try:
                async with asyncio.timeout(self._connect_timeout):
                    connection = await self._wait_or_connect(origin)
            except TimeoutError:
                raise NotSent(f"connecting{self._connector.describe_proxy(origin)} took too long") from None
        return Lease(connection, origin, self)

    def _pop_idle(self, origin: str) -> Connection | None:
        idle = self._idle.get(origin)
        while idle:
            _, connection = idle.pop()
            if connection.reusable:
                return connection
            self.close_one(connection)
        return None

    async def _wait_or_connect(self, origin: str) -> Connection:
        waited = False
        while self._taken >= self._limit and not self._make_room():
            await self._wait(first=waited)
            waited = True
            if (connection := self._pop_idle(origin)) is not None:
                return connection
        self._taken += 1
        try:
            return await self._connector.connect(origin)
        except BaseException:  # reraised; a cancelled caller must free its slot too
            self._free_slot()
            raise

    async def _wait(self, *, first: bool) -> None:
        """Wait to be woken; `first`: at the head of the queue, since another caller was faster the last time.

        If this caller is cancelled after it was woken, the next one is woken instead.
        """
        waiter = asyncio.get_running_loop().create_future()
        if first:
            self._waiters.appendleft(waiter)
        else:
            self._waiters.append(waiter)
        try:
            await waiter
        except BaseException:  # reraised; a cancelled waiter leaves the queue, or passes its turn on
            if waiter.cancelled():
                with suppress(ValueError):  # `_wake_next` may have passed it over, and removed it
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

    def _free_slot(self) -> None:
        self._taken -= 1
        self._wake_next()

    def _make_room(self) -> bool:
        """Evict the connection that has been idle longest, of any origin; False if none is idle."""
        oldest = min((idle for idle in self._idle.values() if idle), key=lambda it: it[0][0], default=None)
        if oldest is None:
            return False
        _, connection = oldest.popleft()
        connection.close()
        self._taken -= 1  # the caller takes the slot, so no waiter is woken
        return True

    def close_one(self, connection: Connection) -> None:
        """Close a connection and free its slot."""
        connection.close()
        self._free_slot()

    def give_back(self, connection: Connection, origin: str) -> None:
        """Keep a connection for reuse, or close it if it cannot be reused."""
        if not self._keep or not connection.reusable:
            self.close_one(connection)
            return
        now = monotonic()
        self._idle[origin].append((now, connection))
        if not self._timer_set:
            self._timer_set = True
            self._timers.set(self, now + KEEPALIVE_SECONDS)
        self._wake_next()

    def on_timer(self) -> None:
        """Close connections whose keep-alive has expired, some at a time: thousands at once would block the loop."""
        too_old = monotonic() - KEEPALIVE_SECONDS
        closed = 0
        for idle in self._idle.values():
            while idle and idle[0][0] <= too_old and closed < CLOSED_AT_ONCE:
                self.close_one(idle.popleft()[1])
                closed += 1
        oldest = min((idle[0][0] for idle in self._idle.values() if idle), default=None)
        self._timer_set = oldest is not None
        if oldest is not None:
            self._timers.set(self, oldest + KEEPALIVE_SECONDS)

    async def close(self) -> None:
        """Close all idle connections."""
        self._timers.cancel(self)
        for idle in self._idle.values():
            while idle:
                for _ in range(min(len(idle), CLOSED_AT_ONCE)):
                    self.close_one(idle.pop()[1])
                await asyncio.sleep(0)
