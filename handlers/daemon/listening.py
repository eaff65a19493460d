"""Accepting the connections of an app on its sockets."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Collection, Sequence
from functools import partial
from typing import Final

from aiohttp import web

from handlers.daemon.accepting import Listener
from handlers.daemon.connection import BridgeProtocol
from handlers.daemon.connection_limits import ConnectionLimits
from handlers.request.appkeys import CONNECTION_LIMITS, SETTINGS, STATE
from handlers.workers.link import LINK
from upstream.http.tls_buffers import shrink_tls_buffers

#: The size of a read from authenticated connections. For others it is `READ_BYTES`: even 4 KiB may contain 700 chunks,
#: each of which takes time.
_AUTHENTICATED_READ_BYTES: Final = 64 * 1024
#: The limit of open files for the connections of an app that has no `ConnectionLimits`.
_OPEN_FILES: Final = 1000


async def listen(runner: web.AppRunner, sockets: Sequence[socket.socket], tls: ssl.SSLContext | None) -> list[Listener]:
    """Accept connections on every socket."""
    loop = asyncio.get_running_loop()
    server = runner.server
    if server is None:
        raise RuntimeError("the runner is not set up")
    connection_limits = runner.app.get(CONNECTION_LIMITS) or ConnectionLimits(_OPEN_FILES, loop.time)
    if tls is not None:
        shrink_tls_buffers()
    buffer = memoryview(bytearray(_AUTHENTICATED_READ_BYTES))
    make = partial(BridgeProtocol, connection_limits, buffer, partial(_cors_origins, runner.app), server, loop)
    owner_of = partial(_owner_of, runner.app)
    link = runner.app.get(LINK)
    publish = None if link is None else link.publish_connections
    if publish is not None:
        connection_limits.on_removed = publish
        publish(connection_limits.connections)
    return [Listener(sock, connection_limits, make, tls, owner_of, publish) for sock in sockets]


def _owner_of(app: web.Application, secret: str) -> str | None:
    """The id of the key with this secret."""
    key = app[STATE].keys.find(secret) if STATE in app else None
    return key.id if key is not None else None


def _cors_origins(app: web.Application) -> Collection[str]:
    return app[SETTINGS].config.server.cors_origins if SETTINGS in app else ()


async def stop_listening(listeners: Sequence[Listener]) -> None:
    """Stop accepting, and close this process's copies of the sockets; accepted connections stay open."""
    for listener in listeners:
        listener.stop()
    for listener in listeners:
        await listener.wait_until_set_up()
        listener.close_socket()


def connections_of(runner: web.AppRunner) -> list[BridgeProtocol]:
    """The open connections."""
    connections = runner.server.connections if runner.server is not None else ()
    return [each for each in connections if isinstance(each, BridgeProtocol)]
