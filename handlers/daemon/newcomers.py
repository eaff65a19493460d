"""Newcomers: accepted connections without a complete head of a request. Each is only a socket and its first bytes.

An aiohttp connection is far more expensive: a transport, a parser, a task, timers. It is made only when the head is
complete, and only a few in each iteration of the event loop, round-robin over one queue per key and one queue for all
callers without a key. So callers with a key wait neither for those without one nor for another key's burst.

    kernel's queue ──accept──▶ newcomers ──head complete──▶ one queue per key    ──8 per iteration──▶ aiohttp's
                                   │                        one without a key    ──2 per iteration──▶ connections
                                   └── evicted, disconnected, or silent for too long: one close()

With TLS nothing can be read before the handshake: all newcomers queue with those without a key, at their first byte.
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

#: Newcomers that are read in one iteration of the event loop, and the size of a read.
_TURN_READS: Final = 64
READ_BYTES: Final = 4 * 1024
#: Connections that are made in one iteration of the event loop, and how many of them without a key.
TURN_CONNECTIONS: Final = 8
TURN_UNAUTHENTICATED: Final = 2
#: How often newcomers that have been silent for too long are closed, in seconds.
_SWEEP_SECONDS: Final = 5.0


class Newcomer(Evictable):
    """A socket and what was read from it. `owner` is the id of the key in its head, None without a key."""

    __slots__ = ("_close", "came", "first", "owner", "sock")

    def __init__(self, sock: socket.socket, came: float, close: Callable[[Newcomer], None]) -> None:
        self.sock = sock
        self.came = came
        self.first = b""
        self.owner: str | None = None
        self._close = close

    def evict(self) -> None:
        """Close the socket to make room for others."""
        self._close(self)


class Newcomers:
    """The newcomers of one listening socket; `begin` makes a connection of one.

    `owner_of` returns the id of the key with a secret. `patience` is how long one may be silent, in seconds.
    """

    def __init__(
        self,
        connection_limits: ConnectionLimits,
        owner_of: Callable[[str], str | None],
        begin: Callable[[Newcomer], None],
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
        self._silent: OrderedDict[int, Newcomer] = OrderedDict()  # by descriptor, the oldest first
        self._queues: OrderedDict[str | None, OrderedDict[Newcomer, None]] = OrderedDict()  # by owner, the next first
        self._sweeping: asyncio.TimerHandle | None = None
        self._going_on: asyncio.Handle | None = None
        # A separate epoll inside the loop's: one system call per newcomer, and a bounded number per iteration.
        self._poll = select.epoll()
        self._loop.add_reader(self._poll.fileno(), self._read_some)

    def __len__(self) -> int:
        return len(self._silent) + sum(map(len, self._queues.values()))

    def add(self, sock: socket.socket) -> None:
        """Add an accepted socket. After the last one of this iteration of the loop, call `begin_some`."""
        newcomer = Newcomer(sock, self._loop.time(), self._drop)
        self._connection_limits.add(newcomer)
        if not self._tls and self._read(newcomer):  # its head may have arrived already
            return
        self._silent[sock.fileno()] = newcomer
        self._poll.register(sock, select.EPOLLIN)
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(_SWEEP_SECONDS, self._sweep)

    def begin_some(self) -> None:
        """Make connections of those that have been queued, unless some were made in this iteration of the loop."""
        if self._queues and self._going_on is None:
            self._go_on()

    def close(self) -> None:
        """Close every newcomer."""
        if self._poll.closed:
            return
        for newcomer in (*self._silent.values(), *(each for queue in self._queues.values() for each in queue)):
            self._connection_limits.remove(newcomer)
            newcomer.sock.close()
        self._silent.clear()
        self._queues.clear()
        self._loop.remove_reader(self._poll.fileno())
        self._poll.close()
        for handle in (self._sweeping, self._going_on):
            if handle is not None:
                handle.cancel()

    def _read_some(self) -> None:
        for number, _ in self._poll.poll(0, _TURN_READS):
            newcomer = self._silent.get(number)
            if newcomer is None or not (self._tls or self._read(newcomer)):
                continue  # evicted, or its head is incomplete
            self._silent.pop(number, None)
            if newcomer.sock.fileno() != -1:
                self._poll.unregister(number)
                if self._tls:
                    self._enqueue(newcomer)
        self.begin_some()

    def _read(self, newcomer: Newcomer) -> bool:
        """Read what has arrived; return whether the newcomer is finished here: queued, or closed."""
        try:
            data = newcomer.sock.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            data = b""
        if not data:
            self._connection_limits.remove(newcomer)
            newcomer.sock.close()
            return True
        newcomer.first += data
        self._connection_limits.hold(newcomer, len(data))
        if newcomer.sock.fileno() == -1:  # evicted, as it holds the most bytes
            return True
        if is_unfinished(newcomer.first):
            return False
        secret = secret_in(newcomer.first)
        newcomer.owner = self._owner_of(secret) if secret is not None else None
        self._enqueue(newcomer)
        return True

    def _enqueue(self, newcomer: Newcomer) -> None:
        self._queues.setdefault(newcomer.owner, OrderedDict())[newcomer] = None

    def _go_on(self) -> None:
        """Make connections of a few newcomers, round-robin over the queues, and of more in the next iteration."""
        self._going_on = self._loop.call_soon(self._go_on) if self._queues else None
        without_key = 0 if self._connection_limits.is_busy else TURN_UNAUTHENTICATED
        for _ in range(TURN_CONNECTIONS):
            owner = next((each for each in self._queues if each is not None or without_key), None)
            queue = self._queues.pop(owner, None) if owner is not None or without_key else None
            if queue is None:
                break
            newcomer, _none = queue.popitem(last=False)
            if queue:
                self._queues[owner] = queue  # behind all others
            without_key -= owner is None
            self._begin(newcomer)

    def _drop(self, newcomer: Newcomer) -> None:
        """Close a newcomer that `ConnectionLimits` no longer counts."""
        queue = self._queues.get(newcomer.owner)
        if self._silent.pop(newcomer.sock.fileno(), None) is not None:
            pass  # closing it takes it out of the poll
        elif queue is not None and newcomer in queue:
            del queue[newcomer]
            if not queue:
                del self._queues[newcomer.owner]
        newcomer.sock.close()

    def _sweep(self) -> None:
        """Close those that have been silent for too long."""
        self._sweeping = None
        since = self._loop.time() - self._patience
        while self._silent and (oldest := next(iter(self._silent.values()))).came <= since:
            self._connection_limits.remove(oldest)
            self._drop(oldest)
        if self._silent:
            self._sweeping = self._loop.call_later(_SWEEP_SECONDS, self._sweep)
