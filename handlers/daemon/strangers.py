"""What callers without a key may take of the daemon: connections, bytes, and the loop's time.

A connection is a stranger's until a request with a key, or of a login, runs over it. Once that has been answered it is
kept, and gives way only when no stranger is left to do so.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Final, Protocol

#: So many strangers stay for as long as they like. Of more, those give way to newcomers that have been there for
#: `GRACE_SECONDS`: a caller that has a key has long shown it by then.
STRANGER_CONNECTIONS: Final = 512
GRACE_SECONDS: Final = 1.0
#: So long everybody stays, even if there is no room: newcomers wait in the kernel's queue meanwhile. A TLS handshake
#: takes two round trips more.
LEAST_SECONDS: Final = 0.03
LEAST_TLS_SECONDS: Final = 1.0
#: And for so many rounds of accepting: when a turn of the loop takes long, what a caller has sent lies unread.
LEAST_ROUNDS: Final = 4
#: What all strangers have sent and is not answered yet. One can hold a head of 128 KiB.
HELD_BYTES: Final = 16 * 1024 * 1024
#: Requests of strangers, and ends of their connections, that are handled in one turn of the loop.
TURN_REQUESTS: Final = 4
TURN_ENDS: Final = 8
#: While more wait for their turn or their end, nobody is accepted.
MAX_WAITING: Final = 64
MAX_PARTING: Final = 1024
_OLDEST: Final = 16  # among whom who holds the most gives way
#: Connections that give way are logged once in so many seconds.
SILENT_SECONDS: Final = 60.0

_logger = logging.getLogger(__name__)


class Visitor(Protocol):
    """A connection."""

    def turn_away(self) -> None:
        """End it at once."""


class Strangers:
    """Every connection of the daemon, and who gives way when there are too many."""

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        #: Open files that connections may take: one that is known, or was, counts for two, the site's beside it.
        self.limit = limit
        self._clock = clock
        self._strangers: dict[Visitor, tuple[float, int]] = {}  # since when, and which round; the oldest first
        self._round = 0
        self._kept: dict[Visitor, None] = {}
        self._known: set[Visitor] = set()
        self._held: dict[Visitor, int] = {}
        self._held_in_all = 0
        self._silent_until = -math.inf  # in the log
        self._passed = 0  # in this turn of the loop
        self._parted = 0
        self._going_on = False
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._parting: deque[Callable[[], None]] = deque()

    @property
    def open_files(self) -> int:
        """What all connections take, those to the site included."""
        return len(self._strangers) + 2 * (len(self._kept) + len(self._known))

    @property
    def held(self) -> int:
        """Bytes that strangers hold."""
        return self._held_in_all

    @property
    def is_busy(self) -> bool:
        """So many wait for their turn that newcomers had better wait in the kernel's queue."""
        return len(self._waiting) > MAX_WAITING or len(self._parting) > MAX_PARTING

    def has_room(self, least: float = LEAST_SECONDS) -> bool:
        """Whether one more may come; whoever must give way for it is turned away.

        Strangers do who have been there for `least` seconds, else a kept connection as long as strangers take less
        than half of the room. Otherwise it must wait.
        """
        now = self._clock()
        for _ in range(2):  # not all at once: an end takes as long as a request
            if len(self._strangers) < STRANGER_CONNECTIONS or not self._oldest_is(now - GRACE_SECONDS):
                break
            self._turn_away(next(iter(self._strangers)))
        while self.open_files >= self.limit:
            if self._strangers and self._oldest_is(now - least):
                self._turn_away(next(iter(self._strangers)))
            elif self._kept and 2 * len(self._strangers) < self.limit:
                self._turn_away(next(iter(self._kept)))
            else:
                return not self._strangers
        return True

    def come(self, visitor: Visitor) -> None:
        """A connection was accepted."""
        self._strangers[visitor] = self._clock(), self._round

    def next_round(self) -> None:
        """Somebody else may be accepted."""
        self._round += 1

    def _oldest_is(self, since: float) -> bool:
        """Whether the oldest stranger has been there since then, and for some rounds."""
        came, in_round = next(iter(self._strangers.values()))
        return came <= since and in_round + LEAST_ROUNDS <= self._round

    def make_room(self, connections: int) -> None:
        """Open files have run out all the same: end so many connections of those who give way."""
        for _ in range(min(connections, len(self._strangers) + len(self._kept))):
            self._turn_away(next(iter(self._strangers or self._kept)))

    def know(self, visitor: Visitor) -> None:
        """A request of somebody whom we know runs over it, until it rests."""
        self._forget(visitor)
        self._known.add(visitor)

    def knows(self, visitor: Visitor) -> bool:
        """Whether a request of somebody whom we know runs over it."""
        return visitor in self._known

    def rest(self, visitor: Visitor) -> None:
        """Its request has been answered."""
        if visitor in self._known:
            self._known.remove(visitor)
            self._kept[visitor] = None
        elif visitor in self._strangers:
            self._forget(visitor)
            self._strangers[visitor] = self._clock(), self._round

    def gone(self, visitor: Visitor) -> None:
        """It has been closed."""
        self._forget(visitor)
        self._known.discard(visitor)

    def hold(self, visitor: Visitor, size: int) -> None:
        """So many bytes more have come over it; when it is too much, who holds the most of the oldest gives way."""
        if visitor not in self._strangers:
            return
        self._held[visitor] = self._held.get(visitor, 0) + size
        self._held_in_all += size
        while self._held_in_all > HELD_BYTES:
            self._turn_away(max(islice(self._held, _OLDEST), key=self._held.__getitem__))

    async def turn(self) -> None:
        """Wait until a stranger's request may be handled: a few are in each turn of the loop, as they came."""
        if self._passed < TURN_REQUESTS and not self._waiting:
            self._passed += 1
            self._begin()
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn

    def part(self, end: Callable[[], None]) -> None:
        """End what is left of a stranger's connection, now or soon: many may leave at once."""
        if self._parted < TURN_ENDS and not self._parting:
            self._parted += 1
            self._begin()
            end()
        else:
            self._parting.append(end)

    def _begin(self) -> None:
        """See to it that another turn of the loop goes on with this."""
        if not self._going_on:
            self._going_on = True
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        self._going_on = False
        self._passed = min(TURN_REQUESTS, len(self._waiting))
        self._parted = min(TURN_ENDS, len(self._parting))
        if self._passed or self._parted:
            self._begin()
        for _ in range(self._passed):
            turn = self._waiting.popleft()
            if not turn.done():  # it may have left
                turn.set_result(None)
        for _ in range(self._parted):
            self._parting.popleft()()

    def _forget(self, visitor: Visitor) -> None:
        self._strangers.pop(visitor, None)
        self._kept.pop(visitor, None)
        self._held_in_all -= self._held.pop(visitor, 0)

    def _turn_away(self, visitor: Visitor) -> None:
        now = self._clock()
        if now >= self._silent_until:
            self._silent_until = now + SILENT_SECONDS
            _logger.warning(
                "too many connections over which nobody shows a key: the oldest give way (%d strangers, %d in all)",
                len(self._strangers),
                len(self._strangers) + len(self._kept) + len(self._known),
            )
        self._forget(visitor)
        visitor.turn_away()
