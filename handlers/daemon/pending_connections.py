"""Pending connections: accepted connections without a complete head of a request. Each is a socket and its first bytes.

An aiohttp connection is far more expensive: a transport, a parser, a task, timers. It is made only when the head is
complete, and only a few in each iteration of the event loop, round-robin over one queue per key and one queue for all
callers without a key. So callers with a key wait neither for those without one nor for another key's burst.

    kernel's queue ──accept──▶ pending ────head complete──▶ one queue per key    ──8 per iteration──▶ aiohttp's
                                   │                        one without a key    ──2 per iteration──▶ connections
                                   └── evicted, disconnected, or silent for too long: one close()

With TLS nothing can be read before the handshake: at its first byte, each joins the queue of those without a key.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from handlers.daemon.connection_limits import ConnectionLimits, Evictable
from handlers.daemon.first_bytes import is_unfinished, secret_in

#: How many pending connections are read in one iteration of the event loop, and the size of a read.
_READS_PER_ITERATION: Final = 64
READ_BYTES: Final = 4 * 1024
#: How many connections are made in one iteration of the event loop, and how many of them without a key.
CONNECTIONS_PER_ITERATION: Final = 8
UNAUTHENTICATED_PER_ITERATION: Final = 2
#: How often pending connections whose heads have not come in time are closed, in seconds.
_SWEEP_SECONDS: Final = 5.0


class PendingConnection(Evictable):
    """An accepted socket and what was read from it. `owner` is the id of the key in its head, None without a key."""

    __slots__ = ("_close", "accepted_at", "first_bytes", "owner", "sock")

    def __init__(self, sock: socket.socket, accepted_at: float, close: Callable[[PendingConnection], None]) -> None:
        self.sock = sock
        self.accepted_at = accepted_at
        self.first_bytes = b""
        self.owner: str | None = None
        self._close = close

    def evict(self) -> None:
        """Close the socket to make room for others."""
        self._close(self)


class PendingConnections:
    """The pending connections of one listening socket; `connect` makes the connection of a queued one.

    `owner_of` returns the id of the key with a given secret. `timeout` bounds the time to a complete head, in seconds.
    """

    def __init__(
        self,
        connection_limits: ConnectionLimits,
        owner_of: Callable[[str], str | None],
        connect: Callable[[PendingConnection], None],
        *,
        tls: bool,
        timeout: float,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection_limits = connection_limits
        self._owner_of = owner_of
        self._connect = connect
        self._tls = tls
        self._timeout = timeout
        self._incomplete: OrderedDict[int, PendingConnection] = OrderedDict()  # by descriptor, the oldest first
        #: By owner; the queue that is served next comes first.
        self._queues: OrderedDict[str | None, OrderedDict[PendingConnection, None]] = OrderedDict()
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._scheduled: asyncio.Handle | None = None
        # A separate epoll inside the loop's: one system call per connection, and a bounded number per iteration.
        self._poll = select.epoll()
        self._loop.add_reader(self._poll.fileno(), self._read_some)

    def __len__(self) -> int:
        return len(self._incomplete) + sum(map(len, self._queues.values()))

    def add(self, sock: socket.socket) -> None:
        """Add an accepted socket. Call `connect_some` after the last one of this iteration of the loop."""
        pending = PendingConnection(sock, self._loop.time(), self._close)
        self._connection_limits.add(pending)
        if not self._tls and self._read(pending):  # its head may have arrived already
            return
        self._incomplete[sock.fileno()] = pending
        self._poll.register(sock, select.EPOLLIN)
        if self._sweep_timer is None:
            self._sweep_timer = self._loop.call_later(_SWEEP_SECONDS, self._sweep)

    def connect_some(self) -> None:
        """Make a few connections of queued ones, unless some were made in this iteration of the loop."""
        if self._queues and self._scheduled is None:
            self._connect_few()

    def close(self) -> None:
        """Close every pending connection."""
        if self._poll.closed:
            return
        for pending in (*self._incomplete.values(), *(each for queue in self._queues.values() for each in queue)):
            self._connection_limits.remove(pending)
            pending.sock.close()
        self._incomplete.clear()
        self._queues.clear()
        self._loop.remove_reader(self._poll.fileno())
        self._poll.close()
        for handle in (self._sweep_timer, self._scheduled):
            if handle is not None:
                handle.cancel()

    def _read_some(self) -> None:
        for number, _ in self._poll.poll(0, _READS_PER_ITERATION):
            pending = self._incomplete.get(number)
            if pending is None or not (self._tls or self._read(pending)):
                continue  # evicted, or its head is incomplete
            self._incomplete.pop(number, None)
            if pending.sock.fileno() != -1:
                self._poll.unregister(number)
                if self._tls:
                    self._enqueue(pending)
        self.connect_some()

    def _read(self, pending: PendingConnection) -> bool:
        """Read what has arrived; return whether the connection is queued or closed now, and needs no more reading."""
        try:
            data = pending.sock.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            data = b""
        if not data:
            self._connection_limits.remove(pending)
            pending.sock.close()
            return True
        pending.first_bytes += data
        self._connection_limits.count_bytes(pending, len(data))
        if pending.sock.fileno() == -1:  # evicted, as it has sent the most bytes
            return True
        if is_unfinished(pending.first_bytes):
            return False
        secret = secret_in(pending.first_bytes)
        pending.owner = self._owner_of(secret) if secret is not None else None
        self._enqueue(pending)
        return True

    def _enqueue(self, pending: PendingConnection) -> None:
        self._queues.setdefault(pending.owner, OrderedDict())[pending] = None

    def _connect_few(self) -> None:
        """Make a few connections, round-robin over the queues; go on in the next iteration of the loop."""
        self._scheduled = self._loop.call_soon(self._connect_few) if self._queues else None
        without_key = 0 if self._connection_limits.is_busy else UNAUTHENTICATED_PER_ITERATION
        for _ in range(CONNECTIONS_PER_ITERATION):
            owner = next((each for each in self._queues if each is not None or without_key), None)
            queue = self._queues.pop(owner, None) if owner is not None or without_key else None
            if queue is None:
                break
            pending, _none = queue.popitem(last=False)
            if queue:
                self._queues[owner] = queue  # behind all others
            without_key -= owner is None
            self._connect(pending)

    def _close(self, pending: PendingConnection) -> None:
        """Close a pending connection, after `ConnectionLimits` has removed it."""
        queue = self._queues.get(pending.owner)
        if self._incomplete.pop(pending.sock.fileno(), None) is None and queue is not None and pending in queue:
            del queue[pending]
            if not queue:
                del self._queues[pending.owner]
        pending.sock.close()  # which also removes it from the poll

    def _sweep(self) -> None:
        """Close the connections whose heads have not come in time."""
        self._sweep_timer = None
        since = self._loop.time() - self._timeout
        while self._incomplete and (oldest := next(iter(self._incomplete.values()))).accepted_at <= since:
            self._connection_limits.remove(oldest)
            self._close(oldest)
        if self._incomplete:
            self._sweep_timer = self._loop.call_later(_SWEEP_SECONDS, self._sweep)
