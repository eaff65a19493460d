"""Accepting connections, in place of asyncio's own server.

asyncio's server cannot evict connections. Without free descriptors it retries as often as its backlog is long, and logs
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

from handlers.daemon.connection_limits import MIN_AGE_SECONDS, MIN_TLS_AGE_SECONDS, ConnectionLimits
from handlers.daemon.pending_connections import PendingConnection, PendingConnections

#: The listening backlog, so that no connection is refused during a restart or a burst: the default maximum of Linux
#: (net.core.somaxconn).
BACKLOG: Final = 4096
#: How many connections are accepted in one iteration of the event loop.
_ACCEPTS_PER_ITERATION: Final = 32
#: How many connections are evicted when descriptors have run out.
_EVICTED_CONNECTIONS: Final = 8
#: How long accepting pauses when descriptors have run out, in seconds.
_PAUSE_SECONDS: Final = 0.1
#: How long it pauses when there is no room, and no connection may be evicted yet, in seconds.
_FULL_SECONDS: Final = 0.005
#: How long a worker with more connections than another leaves new ones to the other, in seconds; and how many it then
#: accepts all the same, since the other may hang.
_YIELD_SECONDS: Final = 0.01
_YIELD_CONNECTIONS: Final = 8
#: How long an idle connection is kept, and a caller may take to send the head of its first request, in seconds. Longer
#: than nginx's 60 and Caddy's 120: otherwise a proxy that reuses a connection would answer 502.
KEEPALIVE_SECONDS: Final = 130.0
#: The timeouts in seconds of the silence before a TLS handshake, of the handshake itself, and of closing TLS.
_HANDSHAKE_SECONDS: Final = 10.0
_SHUTDOWN_SECONDS: Final = 5.0

_logger = logging.getLogger(__name__)


class CallerConnection(asyncio.BufferedProtocol):
    """A connection that may be evicted, even while its transport is being made: by the task `setup`.

    `first_bytes` were read before there was a transport.
    """

    setup: asyncio.Task[None] | None = None
    first_bytes = b""

    def evict(self) -> None:
        """Close it at once."""
        raise NotImplementedError


class Listener:
    """Accepts connections on one bound socket until it is closed; `owner_of` finds the owner of a key's secret.

    One of several workers passes `should_yield`: called with the number of its connections, it returns whether another
    has far fewer.
    """

    def __init__(
        self,
        sock: socket.socket,
        connection_limits: ConnectionLimits,
        connection: Callable[[], CallerConnection],
        tls: ssl.SSLContext | None,
        owner_of: Callable[[str], str | None] = lambda _: None,
        should_yield: Callable[[int], bool] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._connection_limits = connection_limits
        self._connection = connection
        self._tls = tls
        self._should_yield = should_yield
        self._accept_anyway = 0  # how many more to accept though other workers have fewer
        self._min_age = MIN_AGE_SECONDS if tls is None else MIN_TLS_AGE_SECONDS
        self._setting_up: set[asyncio.Task[None]] = set()
        self._pause_timer: asyncio.TimerHandle | None = None
        self._out_of_descriptors = False
        self._pending = PendingConnections(
            connection_limits,
            owner_of,
            self._connect,
            tls=tls is not None,
            timeout=KEEPALIVE_SECONDS if tls is None else _HANDSHAKE_SECONDS,
        )
        sock.listen(BACKLOG)
        self._loop.add_reader(sock, self._accept)

    def stop(self) -> None:
        """Stop accepting."""
        self._loop.remove_reader(self._sock)
        if self._pause_timer is not None:
            self._pause_timer.cancel()

    def close_socket(self) -> None:
        """Stop accepting and close the socket; connections stay open, even pending ones."""
        if self._sock.fileno() != -1:
            self.stop()
            self._sock.close()

    def close(self) -> None:
        """Close the socket and the pending connections; others stay open."""
        self.close_socket()
        self._pending.close()

    @property
    def pending(self) -> int:
        """The number of accepted sockets whose `CallerConnection` has not been made, or has no transport yet."""
        return len(self._pending) + len(self._setting_up)

    async def wait_until_set_up(self) -> None:
        """Wait until the connections being set up have their transports; does not wait for TLS handshakes."""
        if self._setting_up and self._tls is None:
            await asyncio.wait(self._setting_up)

    def _accept(self) -> None:
        self._accept_some()
        self._pending.connect_some()

    def _accept_some(self) -> None:
        self._connection_limits.next_round()
        for _ in range(_ACCEPTS_PER_ITERATION):
            if not self._connection_limits.has_room(self._min_age):
                self._pause(_FULL_SECONDS)
                return
            if self._should_yield is not None and self._should_yield(self._connection_limits.connections):
                if not self._accept_anyway:
                    self._accept_anyway = _YIELD_CONNECTIONS
                    self._pause(_YIELD_SECONDS)
                    return
                self._accept_anyway -= 1
            try:
                sock, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionError):
                return  # none is waiting, or the peer has already disconnected
            except OSError as error:
                self._handle_exhaustion(error)
                return
            if self._out_of_descriptors:
                self._out_of_descriptors = False
                _logger.warning("connections are accepted again")
            sock.setblocking(False)
            self._pending.add(sock)

    def _connect(self, pending: PendingConnection) -> None:
        """Replace a pending connection by a `CallerConnection`, and begin to set that up."""
        connection = self._connection()
        connection.first_bytes = pending.first_bytes
        self._connection_limits.remove(pending)
        if pending.owner is None:
            self._connection_limits.add(connection)
        else:
            self._connection_limits.mark_authenticated(connection)
        setup = connection.setup = self._loop.create_task(self._set_up(connection, pending.sock))
        self._setting_up.add(setup)
        setup.add_done_callback(partial(self._set_up_done, pending.sock))

    def _set_up_done(self, sock: socket.socket, setup: asyncio.Task[None]) -> None:
        self._setting_up.discard(setup)
        if setup.cancelled():  # perhaps before it could take the socket
            sock.close()

    def _handle_exhaustion(self, error: OSError) -> None:
        """Evict some connections and pause, because descriptors or memory have run out."""
        if not self._out_of_descriptors:
            self._out_of_descriptors = True
            advice = "see limits.streams, and ulimit -n or LimitNOFILE"
            _logger.error("no connection can be accepted until others end: %s (%s)", error.strerror, advice)
        self._connection_limits.evict_some(_EVICTED_CONNECTIONS)
        self._pause(_PAUSE_SECONDS)

    def _pause(self, seconds: float) -> None:
        """Pause accepting for `seconds`."""
        self._loop.remove_reader(self._sock)
        self._pause_timer = self._loop.call_later(seconds, self._loop.add_reader, self._sock, self._accept)

    async def _set_up(self, connection: CallerConnection, sock: socket.socket) -> None:
        timeouts = (
            {}
            if self._tls is None
            else {"ssl_handshake_timeout": _HANDSHAKE_SECONDS, "ssl_shutdown_timeout": _SHUTDOWN_SECONDS}
        )
        try:
            await self._loop.connect_accepted_socket(lambda: connection, sock, ssl=self._tls, **timeouts)
        except OSError as error:  # includes ssl.SSLError and TimeoutError
            _logger.debug("a connection could not be set up: %s", error)
            self._discard(connection, error)
        except BaseException as error:  # reraised; a cancelled set-up must discard its connection too
            self._discard(connection, error)
            raise
        finally:
            connection.setup = None

    def _discard(self, connection: CallerConnection, error: BaseException) -> None:
        """Stop counting a connection that could not be set up, and clear the tracebacks of its error.

        asyncio leaves the error in a reference cycle. Until a full garbage collection, its tracebacks would keep alive
        what OpenSSL has allocated for the handshake: 60 KiB that the collector does not see.
        """
        self._connection_limits.remove(connection)
        each: BaseException | None = error
        while each is not None:
            each.__traceback__, each = None, each.__context__
