"""Limits for callers without a key: on their connections, buffered bytes and time of the event loop.

A connection is unauthenticated until it carries a request with a key or a login; while that runs, it is never evicted.
Once the request has been answered, the connection is idle, and evicted only if no unauthenticated one can be.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Final, Protocol

#: Up to this many unauthenticated connections are not evicted. Beyond, the oldest are evicted once they are
#: `GRACE_SECONDS` old: a caller with a key has sent it by then.
UNAUTHENTICATED_CONNECTIONS: Final = 512
GRACE_SECONDS: Final = 1.0
#: Younger connections are not evicted, even if there is no room: new ones then wait in the kernel's queue. A TLS
#: handshake takes two more round trips.
MIN_AGE_SECONDS: Final = 0.03
MIN_TLS_AGE_SECONDS: Final = 1.0
#: Nor are those of the last rounds of accepting: in a slow iteration of the loop, their requests may be unread.
MIN_AGE_ROUNDS: Final = 4
#: The limit for the unanswered data of all unauthenticated connections. Each may send a head of 128 KiB.
MAX_UNANSWERED_BYTES: Final = 16 * 1024 * 1024
#: Unauthenticated requests, and closings of unauthenticated connections, that are handled in one iteration of the loop.
REQUESTS_PER_ITERATION: Final = 4
CLOSINGS_PER_ITERATION: Final = 8
#: While more requests or closings are pending, no connection is accepted.
MAX_WAITING_REQUESTS: Final = 64
MAX_PENDING_CLOSINGS: Final = 1024
#: The one with most data among so many of the oldest is evicted.
_OLDEST: Final = 16
#: The shortest interval between log lines about evictions, in seconds.
LOG_INTERVAL_SECONDS: Final = 60.0

_logger = logging.getLogger(__name__)


class Evictable(Protocol):
    """A connection that can be evicted."""

    def evict(self) -> None:
        """Close it at once."""


class ConnectionLimits:
    """Counts the connections of the daemon, and evicts some when there are too many."""

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        #: The limit of open files for connections: an authenticated or idle one counts twice, for its call to the site.
        self.limit = limit
        #: Called with the number of connections after each that was removed.
        self.on_removed: Callable[[int], object] | None = None
        self._clock = clock
        # With the time and round of accepting; the oldest first.
        self._unauthenticated: dict[Evictable, tuple[float, int]] = {}
        self._round = 0
        self._idle: dict[Evictable, None] = {}
        self._authenticated: set[Evictable] = set()
        self._bytes_of: dict[Evictable, int] = {}
        self._unanswered_bytes = 0
        self._log_again_at = -math.inf
        self._begun = 0  # requests in this iteration of the loop
        self._closed = 0  # connections, likewise
        self._is_scheduled = False
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._closings: deque[Callable[[], None]] = deque()

    @property
    def open_files(self) -> int:
        """The open files of all connections, including those to the site."""
        return len(self._unauthenticated) + 2 * (len(self._idle) + len(self._authenticated))

    @property
    def connections(self) -> int:
        """The number of all connections."""
        return len(self._unauthenticated) + len(self._idle) + len(self._authenticated)

    @property
    def unanswered_bytes(self) -> int:
        """The bytes that unauthenticated connections have sent and that are not answered yet."""
        return self._unanswered_bytes

    @property
    def is_busy(self) -> bool:
        """Whether so many requests or closings are pending that new connections should wait in the kernel's queue."""
        return len(self._waiting) > MAX_WAITING_REQUESTS or len(self._closings) > MAX_PENDING_CLOSINGS

    def has_room(self, min_age: float = MIN_AGE_SECONDS) -> bool:
        """Make room for one more connection if possible; return whether there is room.

        Evicts unauthenticated connections that are at least `min_age` seconds old; else idle ones, if the
        unauthenticated use less than half of the room.
        """
        now = self._clock()
        for _ in range(2):  # not all at once: closing takes as long as a request
            too_many = len(self._unauthenticated) >= UNAUTHENTICATED_CONNECTIONS
            if not (too_many and self._oldest_accepted_by(now - GRACE_SECONDS)):
                break
            self._evict(next(iter(self._unauthenticated)))
        while self.open_files >= self.limit:
            if self._unauthenticated and self._oldest_accepted_by(now - min_age):
                self._evict(next(iter(self._unauthenticated)))
            elif self._idle and 2 * len(self._unauthenticated) < self.limit:
                self._evict(next(iter(self._idle)))
            else:
                return not self._unauthenticated
        return True

    def add(self, connection: Evictable) -> None:
        """Add an accepted connection."""
        self._unauthenticated[connection] = self._clock(), self._round

    def next_round(self) -> None:
        """Begin another round of accepting."""
        self._round += 1

    def _oldest_accepted_by(self, time: float) -> bool:
        """Whether the oldest unauthenticated connection was accepted at `time` or before, and MIN_AGE_ROUNDS ago."""
        came, in_round = next(iter(self._unauthenticated.values()))
        return came <= time and in_round + MIN_AGE_ROUNDS <= self._round

    def evict_some(self, connections: int) -> None:
        """Evict up to `connections`, because descriptors have run out."""
        for _ in range(min(connections, len(self._unauthenticated) + len(self._idle))):
            self._evict(next(iter(self._unauthenticated or self._idle)))

    def mark_authenticated(self, connection: Evictable) -> None:
        """Mark a connection as authenticated until `request_done`: it carries a request with a key or a login."""
        self._forget(connection)
        self._authenticated.add(connection)

    def is_authenticated(self, connection: Evictable) -> bool:
        """Whether the connection carries an authenticated request."""
        return connection in self._authenticated

    def request_done(self, connection: Evictable) -> None:
        """Note that a connection's request has been answered: it is idle, or unauthenticated and young again."""
        if connection in self._authenticated:
            self._authenticated.remove(connection)
            self._idle[connection] = None
        elif connection in self._unauthenticated:
            self._forget(connection)
            self._unauthenticated[connection] = self._clock(), self._round

    def remove(self, connection: Evictable) -> None:
        """Remove a closed connection."""
        self._forget(connection)
        self._authenticated.discard(connection)
        if self.on_removed is not None:
            self.on_removed(self.connections)

    def count_bytes(self, connection: Evictable, size: int) -> None:
        """Count `size` bytes read from a connection, if it is unauthenticated.

        Beyond the limit for all of them, evict the one of the oldest that has sent most.
        """
        if connection not in self._unauthenticated:
            return
        self._bytes_of[connection] = self._bytes_of.get(connection, 0) + size
        self._unanswered_bytes += size
        while self._unanswered_bytes > MAX_UNANSWERED_BYTES:
            self._evict(max(islice(self._bytes_of, _OLDEST), key=self._bytes_of.__getitem__))

    async def wait_for_turn(self) -> None:
        """Wait until an unauthenticated request may be handled: in order, a few in each iteration of the loop."""
        if self._begun < REQUESTS_PER_ITERATION and not self._waiting:
            self._begun += 1
            self._schedule()
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn

    def close_soon(self, close: Callable[[], None]) -> None:
        """Call `close` for a lost unauthenticated connection, now or soon: a few in each iteration of the loop."""
        if self._closed < CLOSINGS_PER_ITERATION and not self._closings:
            self._closed += 1
            self._schedule()
            close()
        else:
            self._closings.append(close)

    def _schedule(self) -> None:
        """Schedule `_next_iteration`."""
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._next_iteration)

    def _next_iteration(self) -> None:
        self._is_scheduled = False
        self._begun = min(REQUESTS_PER_ITERATION, len(self._waiting))
        self._closed = min(CLOSINGS_PER_ITERATION, len(self._closings))
        if self._begun or self._closed:
            self._schedule()
        for _ in range(self._begun):
            turn = self._waiting.popleft()
            if not turn.done():  # it may have been cancelled
                turn.set_result(None)
        for _ in range(self._closed):
            self._closings.popleft()()

    def _forget(self, connection: Evictable) -> None:
        self._unauthenticated.pop(connection, None)
        self._idle.pop(connection, None)
        self._unanswered_bytes -= self._bytes_of.pop(connection, 0)

    def _evict(self, connection: Evictable) -> None:
        now = self._clock()
        if now >= self._log_again_at:
            self._log_again_at = now + LOG_INTERVAL_SECONDS
            _logger.warning(
                "too many connections without an API key: the oldest are closed (%d without, %d in all)",
                len(self._unauthenticated),
                self.connections,
            )
        self._forget(connection)
        connection.evict()
