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

from handlers.daemon.newcomers import Newcomer, Newcomers
from handlers.daemon.strangers import LEAST_SECONDS, LEAST_TLS_SECONDS, Strangers, Visitor

#: Waiting connections that the kernel holds for us: a restart or a burst must refuse none. More it does not allow by
#: default (net.core.somaxconn).
BACKLOG: Final = 4096
#: Connections accepted in one turn of the loop: each takes some 20 µs.
_TURN_ACCEPTS: Final = 32
#: Connections that are ended when descriptors have run out.
_ROOM_CONNECTIONS: Final = 8
#: How long nothing is accepted when descriptors have run out, in seconds.
_PAUSE_SECONDS: Final = 0.1
#: The same when there is no room, until somebody has been there long enough to give way.
_FULL_SECONDS: Final = 0.005
#: How long a caller may take until its first request's head is there, in seconds: as long as an idle connection is
#: kept, above nginx's 60 and Caddy's 120, or reuse would meet a 502.
KEEPALIVE_SECONDS: Final = 130.0
#: How long it may say nothing before a handshake, how long that may take, and how long TLS may take to end in order.
_HANDSHAKE_SECONDS: Final = 10.0
_SHUTDOWN_SECONDS: Final = 5.0

_logger = logging.getLogger(__name__)


class Connection(asyncio.BufferedProtocol, Visitor):
    """A connection that may be turned away, also while it is being made; `begin` is what makes it.

    `first` are the bytes that came before it was made.
    """

    begin: asyncio.Task[None] | None = None
    first = b""


class Listener:
    """Accepts connections on one bound socket until it is closed; `owner_of` tells whose secret of a key this is."""

    def __init__(
        self,
        sock: socket.socket,
        strangers: Strangers,
        connection: Callable[[], Connection],
        tls: ssl.SSLContext | None,
        owner_of: Callable[[str], str | None] = lambda _: None,
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
        self._newcomers = Newcomers(
            strangers,
            owner_of,
            self._connect,
            tls=tls is not None,
            patience=KEEPALIVE_SECONDS if tls is None else _HANDSHAKE_SECONDS,
        )
        sock.listen(BACKLOG)
        self._loop.add_reader(sock, self._accept)

    def stop(self) -> None:
        """Accept no more."""
        self._loop.remove_reader(self._sock)
        if self._pause is not None:
            self._pause.cancel()

    def close_socket(self) -> None:
        """Accept no more, and close the socket; connections and newcomers stay."""
        if self._sock.fileno() != -1:
            self.stop()
            self._sock.close()

    def close(self) -> None:
        """Close the socket and the newcomers; connections stay."""
        self.close_socket()
        self._newcomers.close()

    @property
    def newcomers(self) -> int:
        """Accepted connections over which nothing has been asked yet, and of which nothing has been made."""
        return len(self._newcomers)

    async def begun(self) -> None:
        """Wait until what was accepted are connections; handshakes are not waited for."""
        if self._beginning and self._tls is None:
            await asyncio.wait(self._beginning)

    def _accept(self) -> None:
        self._strangers.next_round()
        for _ in range(_TURN_ACCEPTS):
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
            self._newcomers.come(sock)

    def _connect(self, newcomer: Newcomer) -> None:
        """Make a connection of a newcomer."""
        connection = self._connection()
        connection.first = newcomer.first
        self._strangers.gone(newcomer)
        if newcomer.owner is None:
            self._strangers.come(connection)
        else:
            self._strangers.know(connection)
        begin = connection.begin = self._loop.create_task(self._begin(connection, newcomer.sock))
        self._beginning.add(begin)
        begin.add_done_callback(partial(self._begun, newcomer.sock))

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
        self._strangers.make_room(_ROOM_CONNECTIONS)
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
