"""Limits for callers without a key, on connections, buffered bytes and time of the event loop.

A connection is unauthenticated until a request with a key or a login runs over it ("known"). When that request has
been answered, the connection is "kept", and evicted only if no unauthenticated one can be evicted.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Final, Protocol

#: Up to this many unauthenticated connections are not evicted. Of more, the oldest are, once they are `GRACE_SECONDS`
#: old: a caller with a key has sent it by then.
UNAUTHENTICATED_CONNECTIONS: Final = 512
GRACE_SECONDS: Final = 1.0
#: Younger connections are never evicted, even if there is no room: new ones then wait in the kernel's queue. A TLS
#: handshake takes two more round trips.
LEAST_SECONDS: Final = 0.03
LEAST_TLS_SECONDS: Final = 1.0
#: Nor within this many rounds of accepting: in a slow iteration of the loop, a caller's request may be unread.
LEAST_ROUNDS: Final = 4
#: The limit for unanswered data of all unauthenticated connections. One of them may send a head of 128 KiB.
HELD_BYTES: Final = 16 * 1024 * 1024
#: Unauthenticated requests, and closings of unauthenticated connections, that are handled in one iteration of the loop.
TURN_REQUESTS: Final = 4
TURN_ENDS: Final = 8
#: While more requests or closings are pending, no connection is accepted.
MAX_WAITING: Final = 64
MAX_PENDING_ENDS: Final = 1024
_OLDEST: Final = 16  # the number of oldest among which the one with most data is evicted
#: The interval between log lines about evictions, in seconds.
SILENT_SECONDS: Final = 60.0

_logger = logging.getLogger(__name__)


class Evictable(Protocol):
    """A connection, as far as its eviction is concerned."""

    def evict(self) -> None:
        """Close it at once."""


class ConnectionLimits:
    """Counts the connections of the daemon, and evicts some when there are too many."""

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        #: The limit of open files for connections: a known or kept one counts twice, with its connection to the site.
        self.limit = limit
        #: Called with the number of connections after each that was removed.
        self.on_fewer: Callable[[int], object] | None = None
        self._clock = clock
        self._unauthenticated: dict[
            Evictable, tuple[float, int]
        ] = {}  # its time and round of accepting; the oldest first
        self._round = 0
        self._kept: dict[Evictable, None] = {}
        self._known: set[Evictable] = set()
        self._held: dict[Evictable, int] = {}
        self._held_in_all = 0
        self._silent_until = -math.inf  # in the log
        self._passed = 0  # in this iteration of the loop
        self._ended = 0
        self._going_on = False
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._ends: deque[Callable[[], None]] = deque()

    @property
    def open_files(self) -> int:
        """The open files of all connections, including those to the site."""
        return len(self._unauthenticated) + 2 * (len(self._kept) + len(self._known))

    @property
    def connections(self) -> int:
        """The connections of all callers."""
        return len(self._unauthenticated) + len(self._kept) + len(self._known)

    @property
    def held(self) -> int:
        """The unanswered bytes of all unauthenticated connections."""
        return self._held_in_all

    @property
    def is_busy(self) -> bool:
        """Whether so much is pending that new connections should wait in the kernel's queue."""
        return len(self._waiting) > MAX_WAITING or len(self._ends) > MAX_PENDING_ENDS

    def has_room(self, least: float = LEAST_SECONDS) -> bool:
        """Make room for one more connection if possible; return whether there is room.

        Evicts unauthenticated connections that are at least `least` seconds old, else kept ones if the unauthenticated
        use less than half of the room.
        """
        now = self._clock()
        for _ in range(2):  # not all at once: closing takes as long as a request
            if len(self._unauthenticated) < UNAUTHENTICATED_CONNECTIONS or not self._oldest_is(now - GRACE_SECONDS):
                break
            self._evict(next(iter(self._unauthenticated)))
        while self.open_files >= self.limit:
            if self._unauthenticated and self._oldest_is(now - least):
                self._evict(next(iter(self._unauthenticated)))
            elif self._kept and 2 * len(self._unauthenticated) < self.limit:
                self._evict(next(iter(self._kept)))
            else:
                return not self._unauthenticated
        return True

    def add(self, connection: Evictable) -> None:
        """Add an accepted connection."""
        self._unauthenticated[connection] = self._clock(), self._round

    def next_round(self) -> None:
        """Begin another round of accepting."""
        self._round += 1

    def _oldest_is(self, since: float) -> bool:
        """Whether the oldest unauthenticated connection was accepted at `since` or before, and LEAST_ROUNDS ago."""
        came, in_round = next(iter(self._unauthenticated.values()))
        return came <= since and in_round + LEAST_ROUNDS <= self._round

    def make_room(self, connections: int) -> None:
        """Evict up to `connections`, because descriptors have run out."""
        for _ in range(min(connections, len(self._unauthenticated) + len(self._kept))):
            self._evict(next(iter(self._unauthenticated or self._kept)))

    def know(self, connection: Evictable) -> None:
        """Mark a connection as known: an authenticated request runs over it, until `request_done`."""
        self._forget(connection)
        self._known.add(connection)

    def knows(self, connection: Evictable) -> bool:
        """Whether an authenticated request runs over it."""
        return connection in self._known

    def request_done(self, connection: Evictable) -> None:
        """Mark a connection as idle: its request has been answered."""
        if connection in self._known:
            self._known.remove(connection)
            self._kept[connection] = None
        elif connection in self._unauthenticated:
            self._forget(connection)
            self._unauthenticated[connection] = self._clock(), self._round

    def remove(self, connection: Evictable) -> None:
        """Remove a closed connection."""
        self._forget(connection)
        self._known.discard(connection)
        if self.on_fewer is not None:
            self.on_fewer(self.connections)

    def hold(self, connection: Evictable, size: int) -> None:
        """Count `size` bytes read from a connection, if it is unauthenticated.

        Beyond the limit for all of them, evict whichever of the oldest has sent most.
        """
        if connection not in self._unauthenticated:
            return
        self._held[connection] = self._held.get(connection, 0) + size
        self._held_in_all += size
        while self._held_in_all > HELD_BYTES:
            self._evict(max(islice(self._held, _OLDEST), key=self._held.__getitem__))

    async def turn(self) -> None:
        """Wait until an unauthenticated request may be handled: in order, a few in each iteration of the loop."""
        if self._passed < TURN_REQUESTS and not self._waiting:
            self._passed += 1
            self._begin()
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn

    def end_soon(self, end: Callable[[], None]) -> None:
        """Call `end` for a lost unauthenticated connection, now or soon: a few in each iteration of the loop."""
        if self._ended < TURN_ENDS and not self._ends:
            self._ended += 1
            self._begin()
            end()
        else:
            self._ends.append(end)

    def _begin(self) -> None:
        """Schedule `_go_on` in the next iteration of the loop."""
        if not self._going_on:
            self._going_on = True
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        self._going_on = False
        self._passed = min(TURN_REQUESTS, len(self._waiting))
        self._ended = min(TURN_ENDS, len(self._ends))
        if self._passed or self._ended:
            self._begin()
        for _ in range(self._passed):
            turn = self._waiting.popleft()
            if not turn.done():  # it may have been cancelled
                turn.set_result(None)
        for _ in range(self._ended):
            self._ends.popleft()()

    def _forget(self, connection: Evictable) -> None:
        self._unauthenticated.pop(connection, None)
        self._kept.pop(connection, None)
        self._held_in_all -= self._held.pop(connection, 0)

    def _evict(self, connection: Evictable) -> None:
        now = self._clock()
        if now >= self._silent_until:
            self._silent_until = now + SILENT_SECONDS
            _logger.warning(
                "too many connections without an API key: the oldest are closed (%d without, %d in all)",
                len(self._unauthenticated),
                len(self._unauthenticated) + len(self._kept) + len(self._known),
            )
        self._forget(connection)
        connection.evict()
