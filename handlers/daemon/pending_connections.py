"""Pending connections: accepted connections without a complete head of a request. Each is a socket and its first bytes.

An aiohttp connection is far more expensive: a transport, a parser, a task, timers. It is made only when the head is
complete, and only a few in each iteration of the event loop, round-robin over one queue per key and one queue for all
callers without a key. So callers with a key wait neither for those without one nor for another key's burst.

    kernel's queue ──accept──▶ pending ────head complete──▶ one queue per key    ──8 per iteration──▶ aiohttp's
                                   │                        one without a key    ──2 per iteration──▶ connections
                                   └── evicted, disconnected, or silent for too long: one close()

With TLS nothing can be read before the handshake: all queue with those without a key, at their first byte.
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

#: Pending connections that are read in one iteration of the event loop, and the size of a read.
_TURN_READS: Final = 64
READ_BYTES: Final = 4 * 1024
#: Connections that are made in one iteration of the event loop, and how many of them without a key.
TURN_CONNECTIONS: Final = 8
TURN_UNAUTHENTICATED: Final = 2
#: How often pending connections that have been silent for too long are closed, in seconds.
_SWEEP_SECONDS: Final = 5.0


class PendingConnection(Evictable):
    """A socket and what was read from it. `owner` is the id of the key in its head, None without a key."""

    __slots__ = ("_close", "came", "first", "owner", "sock")

    def __init__(self, sock: socket.socket, came: float, close: Callable[[PendingConnection], None]) -> None:
        self.sock = sock
        self.came = came
        self.first = b""
        self.owner: str | None = None
        self._close = close

    def evict(self) -> None:
        """Close the socket to make room for others."""
        self._close(self)


class PendingConnections:
    """The pending connections of one listening socket; `begin` makes a connection of one.

    `owner_of` returns the id of the key with a secret. `patience` is how long one may be silent, in seconds.
    """

    def __init__(
        self,
        connection_limits: ConnectionLimits,
        owner_of: Callable[[str], str | None],
        begin: Callable[[PendingConnection], None],
        *,
        tls: bool,
        patience: float,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection_limits = connection_limits
        self._owner_of = owner_of
        self._begin = begin
        self._tls = tls
        self._patience = patience
        self._silent: OrderedDict[int, PendingConnection] = OrderedDict()  # by descriptor, the oldest first
        #: By owner, the one that is served next first.
        self._queues: OrderedDict[str | None, OrderedDict[PendingConnection, None]] = OrderedDict()
        self._sweeping: asyncio.TimerHandle | None = None
        self._going_on: asyncio.Handle | None = None
        # A separate epoll inside the loop's: one system call per connection, and a bounded number per iteration.
        self._poll = select.epoll()
        self._loop.add_reader(self._poll.fileno(), self._read_some)

    def __len__(self) -> int:
        return len(self._silent) + sum(map(len, self._queues.values()))

    def add(self, sock: socket.socket) -> None:
        """Add an accepted socket. After the last one of this iteration of the loop, call `begin_some`."""
        pending = PendingConnection(sock, self._loop.time(), self._drop)
        self._connection_limits.add(pending)
        if not self._tls and self._read(pending):  # its head may have arrived already
            return
        self._silent[sock.fileno()] = pending
        self._poll.register(sock, select.EPOLLIN)
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(_SWEEP_SECONDS, self._sweep)

    def begin_some(self) -> None:
        """Make connections of the queued ones, unless some were made in this iteration of the loop."""
        if self._queues and self._going_on is None:
            self._go_on()

    def close(self) -> None:
        """Close every pending connection."""
        if self._poll.closed:
            return
        for pending in (*self._silent.values(), *(each for queue in self._queues.values() for each in queue)):
            self._connection_limits.remove(pending)
            pending.sock.close()
        self._silent.clear()
        self._queues.clear()
        self._loop.remove_reader(self._poll.fileno())
        self._poll.close()
        for handle in (self._sweeping, self._going_on):
            if handle is not None:
                handle.cancel()

    def _read_some(self) -> None:
        for number, _ in self._poll.poll(0, _TURN_READS):
            pending = self._silent.get(number)
            if pending is None or not (self._tls or self._read(pending)):
                continue  # evicted, or its head is incomplete
            self._silent.pop(number, None)
            if pending.sock.fileno() != -1:
                self._poll.unregister(number)
                if self._tls:
                    self._enqueue(pending)
        self.begin_some()

    def _read(self, pending: PendingConnection) -> bool:
        """Read what has arrived; return whether it is finished here: queued, or closed."""
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
        pending.first += data
        self._connection_limits.count_bytes(pending, len(data))
        if pending.sock.fileno() == -1:  # evicted, as it holds the most bytes
            return True
        if is_unfinished(pending.first):
            return False
        secret = secret_in(pending.first)
        pending.owner = self._owner_of(secret) if secret is not None else None
        self._enqueue(pending)
        return True

    def _enqueue(self, pending: PendingConnection) -> None:
        self._queues.setdefault(pending.owner, OrderedDict())[pending] = None

    def _go_on(self) -> None:
        """Make connections of a few pending ones, round-robin over the queues, and of more in the next iteration."""
        self._going_on = self._loop.call_soon(self._go_on) if self._queues else None
        without_key = 0 if self._connection_limits.is_busy else TURN_UNAUTHENTICATED
        for _ in range(TURN_CONNECTIONS):
            owner = next((each for each in self._queues if each is not None or without_key), None)
            queue = self._queues.pop(owner, None) if owner is not None or without_key else None
            if queue is None:
                break
            pending, _none = queue.popitem(last=False)
            if queue:
                self._queues[owner] = queue  # behind all others
            without_key -= owner is None
            self._begin(pending)

    def _drop(self, pending: PendingConnection) -> None:
        """Close a pending connection that `ConnectionLimits` no longer counts."""
        queue = self._queues.get(pending.owner)
        if self._silent.pop(pending.sock.fileno(), None) is not None:
            pass  # closing it takes it out of the poll
        elif queue is not None and pending in queue:
            del queue[pending]
            if not queue:
                del self._queues[pending.owner]
        pending.sock.close()

    def _sweep(self) -> None:
        """Close the connections that have been silent for too long."""
        self._sweeping = None
        since = self._loop.time() - self._patience
        while self._silent and (oldest := next(iter(self._silent.values()))).came <= since:
            self._connection_limits.remove(oldest)
            self._drop(oldest)
        if self._silent:
            self._sweeping = self._loop.call_later(_SWEEP_SECONDS, self._sweep)
