"""Accepting connections, in place of asyncio's own server.

That one cannot evict connections, and without free descriptors it retries once for each place in its backlog, and logs
an error each time (Python 3.11).
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import Final

from handlers.daemon.connection_limits import MIN_AGE_SECONDS, MIN_TLS_AGE_SECONDS, ConnectionLimits, Evictable
from handlers.daemon.pending_connections import PendingConnection, PendingConnections

#: The listening backlog, so that no connection is refused during a restart or a burst: the default maximum of Linux
#: (net.core.somaxconn).
BACKLOG: Final = 4096
#: Connections accepted in one iteration of the event loop.
_TURN_ACCEPTS: Final = 32
#: Connections that are closed when descriptors have run out.
_ROOM_CONNECTIONS: Final = 8
#: How long accepting pauses when descriptors have run out, in seconds.
_PAUSE_SECONDS: Final = 0.1
#: How long it pauses when there is no room and no connection may be evicted yet, in seconds.
_FULL_SECONDS: Final = 0.005
#: How long a worker that has more connections than another leaves new ones to that, in seconds, and how many it accepts
#: itself after that all the same, since the other may hang.
_LEAVE_SECONDS: Final = 0.01
_HELP_CONNECTIONS: Final = 8
#: How long an idle connection is kept, and how long a caller may take to send its first request's head, in seconds:
#: longer than nginx's 60 and Caddy's 120, or a proxy that reuses a connection would answer 502.
KEEPALIVE_SECONDS: Final = 130.0
#: The timeouts of silence before a TLS handshake and of the handshake itself, and of closing TLS, in seconds.
_HANDSHAKE_SECONDS: Final = 10.0
_SHUTDOWN_SECONDS: Final = 5.0

_logger = logging.getLogger(__name__)


class CallerConnection(asyncio.BufferedProtocol, Evictable):
    """A connection that may be evicted, even while its transport is being made; the task `begin` makes it.

    `first` has the bytes that were read before.
    """

    begin: asyncio.Task[None] | None = None
    first = b""


class Listener:
    """Accepts connections on one bound socket until it is closed; `owner_of` finds the owner of a key's secret.

    `is_ahead` is for one of several workers: told the number of its connections, it says whether another has far fewer.
    """

    def __init__(
        self,
        sock: socket.socket,
        connection_limits: ConnectionLimits,
        connection: Callable[[], CallerConnection],
        tls: ssl.SSLContext | None,
        owner_of: Callable[[str], str | None] = lambda _: None,
        is_ahead: Callable[[int], bool] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._connection_limits = connection_limits
        self._connection = connection
        self._tls = tls
        self._is_ahead = is_ahead
        self._help = 0  # connections that are accepted though other workers have fewer
        self._least = MIN_AGE_SECONDS if tls is None else MIN_TLS_AGE_SECONDS
        self._beginning: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._out_of_descriptors = False
        self._pending = PendingConnections(
            connection_limits,
            owner_of,
            self._connect,
            tls=tls is not None,
            patience=KEEPALIVE_SECONDS if tls is None else _HANDSHAKE_SECONDS,
        )
        sock.listen(BACKLOG)
        self._loop.add_reader(sock, self._accept)

    def stop(self) -> None:
        """Stop accepting."""
        self._loop.remove_reader(self._sock)
        if self._pause is not None:
            self._pause.cancel()

    def close_socket(self) -> None:
        """Stop accepting and close the socket; connections, also pending ones, stay open."""
        if self._sock.fileno() != -1:
            self.stop()
            self._sock.close()

    def close(self) -> None:
        """Close the socket and the pending connections; others stay open."""
        self.close_socket()
        self._pending.close()

    @property
    def pending(self) -> int:
        """The number of accepted sockets that have no `CallerConnection` yet, or one that is still being made."""
        return len(self._pending) + len(self._beginning)

    async def begun(self) -> None:
        """Wait until the transports of accepted connections are made; does not wait for TLS handshakes."""
        if self._beginning and self._tls is None:
            await asyncio.wait(self._beginning)

    def _accept(self) -> None:
        self._accept_some()
        self._pending.begin_some()

    def _accept_some(self) -> None:
        self._connection_limits.next_round()
        for _ in range(_TURN_ACCEPTS):
            if not self._connection_limits.has_room(self._least):
                self._rest(_FULL_SECONDS)
                return
            if self._is_ahead is not None and self._is_ahead(self._connection_limits.connections):
                if not self._help:
                    self._help = _HELP_CONNECTIONS
                    self._rest(_LEAVE_SECONDS)
                    return
                self._help -= 1
            try:
                sock, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionError):
                return  # none is waiting, or the peer has already disconnected
            except OSError as error:
                self._wait(error)
                return
            if self._out_of_descriptors:
                self._out_of_descriptors = False
                _logger.warning("connections are accepted again")
            sock.setblocking(False)
            self._pending.add(sock)

    def _connect(self, pending: PendingConnection) -> None:
        """Make a connection of a pending one."""
        connection = self._connection()
        connection.first = pending.first
        self._connection_limits.remove(pending)
        if pending.owner is None:
            self._connection_limits.add(connection)
        else:
            self._connection_limits.mark_authenticated(connection)
        begin = connection.begin = self._loop.create_task(self._begin(connection, pending.sock))
        self._beginning.add(begin)
        begin.add_done_callback(partial(self._begun, pending.sock))

    def _begun(self, sock: socket.socket, begin: asyncio.Task[None]) -> None:
        self._beginning.discard(begin)
        if begin.cancelled():  # perhaps before it could take the socket
            sock.close()

    def _wait(self, error: OSError) -> None:
        """Pause and close some connections, because descriptors or memory have run out."""
        if not self._out_of_descriptors:
            self._out_of_descriptors = True
            advice = "see limits.streams, and ulimit -n or LimitNOFILE"
            _logger.error("no connection can be accepted: %s; others must end first (%s)", error.strerror, advice)
        self._connection_limits.evict_some(_ROOM_CONNECTIONS)
        self._rest(_PAUSE_SECONDS)

    def _rest(self, seconds: float) -> None:
        """Pause accepting."""
        self._loop.remove_reader(self._sock)
        self._pause = self._loop.call_later(seconds, self._loop.add_reader, self._sock, self._accept)

    async def _begin(self, connection: CallerConnection, sock: socket.socket) -> None:
        timeouts = (
            {}
            if self._tls is None
            else {"ssl_handshake_timeout": _HANDSHAKE_SECONDS, "ssl_shutdown_timeout": _SHUTDOWN_SECONDS}
        )
        try:
            await self._loop.connect_accepted_socket(lambda: connection, sock, ssl=self._tls, **timeouts)
        except OSError as error:  # includes ssl.SSLError and TimeoutError
            _logger.debug("a connection could not be set up: %s", error)
            self._failed(connection, error)
        except BaseException as error:  # including cancellation: the connection is no longer counted
            self._failed(connection, error)
            raise
        finally:
            connection.begin = None

    def _failed(self, connection: CallerConnection, error: BaseException) -> None:
        """Forget a connection that could not be set up, and clear the tracebacks of its error.

        asyncio keeps the error in a reference cycle. Until a full garbage collection it would keep alive what OpenSSL
        allocates for a handshake, 60 KiB that the collector does not know of.
        """
        self._connection_limits.remove(connection)
        each: BaseException | None = error
        while each is not None:
            each.__traceback__, each = None, each.__context__
