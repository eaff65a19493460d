"""Accepting connections. asyncio's own server neither knows who gives way, nor bears that descriptors run out.

When there is none left it tries as often as its backlog is long, and logs each time (Python 3.11).
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import Final

from handlers.daemon.strangers import LEAST_SECONDS, LEAST_TLS_SECONDS, Strangers, Visitor

#: Waiting connections that the kernel holds for us: a restart or a burst must refuse none. More it does not allow by
#: default (net.core.somaxconn).
BACKLOG: Final = 4096
#: Connections accepted in one turn of the loop, so that a burst of them does not hold it.
_TURN_CONNECTIONS: Final = 8
#: How long nothing is accepted when descriptors have run out, in seconds.
_PAUSE_SECONDS: Final = 0.1
#: The same when there is no room, until somebody has been there long enough to give way.
_FULL_SECONDS: Final = 0.01
#: How long a handshake may take, and how long a caller may take to end TLS in order, in seconds.
_HANDSHAKE_SECONDS: Final = 10.0
_SHUTDOWN_SECONDS: Final = 5.0

_logger = logging.getLogger(__name__)


class Connection(asyncio.BufferedProtocol, Visitor):
    """A connection that may be turned away, also while it is being made; `begin` is what makes it."""

    begin: asyncio.Task[None] | None = None


class Listener:
    """Accepts connections on one bound socket until it is closed."""

    def __init__(
        self,
        sock: socket.socket,
        strangers: Strangers,
        connection: Callable[[], Connection],
        tls: ssl.SSLContext | None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._strangers = strangers
        self._connection = connection
        self._tls = tls
        self._least = LEAST_SECONDS if tls is None else LEAST_TLS_SECONDS
        self._beginning: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._short = False  # of descriptors
        sock.listen(BACKLOG)
        self._loop.add_reader(sock, self._accept)

    def stop(self) -> None:
        """Accept no more."""
        self._loop.remove_reader(self._sock)
        if self._pause is not None:
            self._pause.cancel()

    def close(self) -> None:
        """Accept no more, and close the socket; connections stay."""
        if self._sock.fileno() != -1:
            self.stop()
            self._sock.close()

    async def begun(self) -> None:
        """Wait until what was accepted are connections; handshakes are not waited for."""
        if self._beginning and self._tls is None:
            await asyncio.wait(self._beginning)

    def _accept(self) -> None:
        self._strangers.next_round()
        for _ in range(_TURN_CONNECTIONS):
            if self._strangers.is_busy:
                return  # asyncio asks again in the next turn
            if not self._strangers.has_room(self._least):
                self._rest(_FULL_SECONDS)
                return
            try:
                sock, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionError):
                return  # nobody, or somebody who has left
            except OSError as error:
                self._wait(error)
                return
            if self._short:
                self._short = False
                _logger.warning("connections are accepted again")
            sock.setblocking(False)
            connection = self._connection()
            self._strangers.come(connection)
            begin = connection.begin = self._loop.create_task(self._begin(connection, sock))
            self._beginning.add(begin)
            begin.add_done_callback(partial(self._begun, sock))

    def _begun(self, sock: socket.socket, begin: asyncio.Task[None]) -> None:
        self._beginning.discard(begin)
        if begin.cancelled():  # perhaps before it could take the socket
            sock.close()

    def _wait(self, error: OSError) -> None:
        """Descriptors have run out, or memory: what has been accepted goes on, and soon there will be some again."""
        if not self._short:
            self._short = True
            advice = "see limits.streams, and ulimit -n or LimitNOFILE"
            _logger.error("no connection can be accepted: %s; others must end first (%s)", error.strerror, advice)
        self._strangers.make_room(_TURN_CONNECTIONS)
        self._rest(_PAUSE_SECONDS)

    def _rest(self, seconds: float) -> None:
        """Accept nobody for so long."""
        self._loop.remove_reader(self._sock)
        self._pause = self._loop.call_later(seconds, self._loop.add_reader, self._sock, self._accept)

    async def _begin(self, connection: Connection, sock: socket.socket) -> None:
        timeouts = (
            {}
            if self._tls is None
            else {"ssl_handshake_timeout": _HANDSHAKE_SECONDS, "ssl_shutdown_timeout": _SHUTDOWN_SECONDS}
        )
        try:
            await self._loop.connect_accepted_socket(lambda: connection, sock, ssl=self._tls, **timeouts)
        except OSError as error:  # ssl.SSLError and TimeoutError are some
            _logger.debug("a connection did not begin: %s", error)
            self._failed(connection, error)
        except BaseException as error:  # cancelled too: the connection is no longer counted
            self._failed(connection, error)
            raise
        finally:
            connection.begin = None

    def _failed(self, connection: Connection, error: BaseException) -> None:
        """Forget a connection that did not begin, and let go of what its error holds.

        asyncio keeps the error in a future that one of its own frames holds. With it would stay, until a full
        collection, what OpenSSL has allocated for a handshake: 60 KiB, of which the collector knows nothing.
        """
        self._strangers.gone(connection)
        each: BaseException | None = error
        while each is not None:
            each.__traceback__, each = None, each.__context__
