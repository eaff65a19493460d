"""Accepted connections over which nothing has been asked yet. Each is a socket and its first bytes, and costs 30 µs.

A connection of aiohttp's costs 0.5 ms: a transport, a parser, a task, timers. One is made only of a newcomer whose
head is there, a few in each turn of the loop: one queue for each key and one for all strangers take turns, so that
nobody with a key waits behind those without one, nor behind another key's storm of connections.

    kernel's queue ──accept──▶ newcomers ──head is there──▶ a queue for each key ──8 a turn──▶ connections of aiohttp
                                   │                        one for strangers    ──2 a turn──▶
                                   └── gives way, leaves, or says nothing for too long: one close()

Over TLS nothing can be read before the handshake: all newcomers are strangers, whose first byte is awaited.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from handlers.daemon.first_bytes import is_unfinished, secret_in
from handlers.daemon.strangers import Strangers, Visitor

#: Newcomers that are read in one turn of the loop, and how much of each: it takes some 10 µs.
_TURN_READS: Final = 64
READ_BYTES: Final = 4 * 1024
#: Connections that are made in one turn of the loop, and how many of them of strangers.
TURN_CONNECTIONS: Final = 8
TURN_STRANGERS: Final = 2
#: How often newcomers are looked for that have said nothing for too long, in seconds.
_SWEEP_SECONDS: Final = 5.0


class Newcomer(Visitor):
    """A socket, and what has come over it. `owner` is the key whose secret is in its head, None for a stranger."""

    __slots__ = ("_leave", "came", "first", "owner", "sock")

    def __init__(self, sock: socket.socket, came: float, leave: Callable[[Newcomer], None]) -> None:
        self.sock = sock
        self.came = came
        self.first = b""
        self.owner: str | None = None
        self._leave = leave

    def turn_away(self) -> None:
        """Close it: others need the room."""
        self._leave(self)


class Newcomers:
    """Newcomers of one listening socket, until they ask something; `begin` makes a connection of one.

    `owner_of` tells whose secret this is. `patience` is how long one may say nothing, in seconds.
    """

    def __init__(
        self,
        strangers: Strangers,
        owner_of: Callable[[str], str | None],
        begin: Callable[[Newcomer], None],
        *,
        tls: bool,
        patience: float,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._strangers = strangers
        self._owner_of = owner_of
        self._begin = begin
        self._tls = tls
        self._patience = patience
        self._silent: OrderedDict[int, Newcomer] = OrderedDict()  # by descriptor, the oldest first
        self._queues: OrderedDict[str | None, OrderedDict[Newcomer, None]] = OrderedDict()  # by owner, the next first
        self._sweeping: asyncio.TimerHandle | None = None
        self._going_on: asyncio.Handle | None = None
        # A poll of its own, within the loop's: it costs one system call a newcomer, and of very many that have sent
        # something only a few are handled in one turn.
        self._poll = select.epoll()
        self._loop.add_reader(self._poll.fileno(), self._read_some)

    def __len__(self) -> int:
        return len(self._silent) + sum(map(len, self._queues.values()))

    def come(self, sock: socket.socket) -> None:
        """A connection was accepted."""
        newcomer = Newcomer(sock, self._loop.time(), self._leave)
        self._strangers.come(newcomer)
        if not self._tls and self._read(newcomer):  # when many wait in the kernel's queue, it has come already
            return
        self._silent[sock.fileno()] = newcomer
        self._poll.register(sock, select.EPOLLIN)
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(_SWEEP_SECONDS, self._sweep)

    def close(self) -> None:
        """Close every newcomer."""
        if self._poll.closed:
            return
        for newcomer in (*self._silent.values(), *(each for queue in self._queues.values() for each in queue)):
            self._strangers.gone(newcomer)
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
                continue  # it had to leave for another one, or says more later
            self._silent.pop(number, None)
            if newcomer.sock.fileno() != -1:
                self._poll.unregister(number)
                if self._tls:
                    self._enqueue(newcomer)

    def _read(self, newcomer: Newcomer) -> bool:
        """Read what has come. Whether the newcomer is silent no longer: it is in a queue, or has left."""
        try:
            data = newcomer.sock.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            data = b""
        if not data:
            self._strangers.gone(newcomer)
            newcomer.sock.close()
            return True
        newcomer.first += data
        self._strangers.hold(newcomer, len(data))
        if newcomer.sock.fileno() == -1:  # it holds the most, and had to leave
            return True
        if is_unfinished(newcomer.first):
            return False
        secret = secret_in(newcomer.first)
        newcomer.owner = self._owner_of(secret) if secret is not None else None
        self._enqueue(newcomer)
        return True

    def _enqueue(self, newcomer: Newcomer) -> None:
        self._queues.setdefault(newcomer.owner, OrderedDict())[newcomer] = None
        self._go_on_soon()

    def _go_on_soon(self) -> None:
        if self._going_on is None:
            self._going_on = self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Make connections of a few newcomers: one of each queue after the other."""
        self._going_on = None
        strangers = 0 if self._strangers.is_busy else TURN_STRANGERS
        for _ in range(TURN_CONNECTIONS):
            owner = next((each for each in self._queues if each is not None or strangers), None)
            queue = self._queues.pop(owner, None) if owner is not None or strangers else None
            if queue is None:
                break
            newcomer, _none = queue.popitem(last=False)
            if queue:
                self._queues[owner] = queue  # behind all others
            strangers -= owner is None
            self._begin(newcomer)
        if self._queues:
            self._go_on_soon()

    def _leave(self, newcomer: Newcomer) -> None:
        """Close one that must give way; the strangers have forgotten it."""
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
            self._strangers.gone(oldest)
            self._leave(oldest)
        if self._silent:
            self._sweeping = self._loop.call_later(_SWEEP_SECONDS, self._sweep)
