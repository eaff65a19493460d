"""The listening sockets: bound to the configured address, or passed by a service manager."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import MutableMapping
from http.client import HTTPConnection, HTTPException
from typing import Final

from bridge import SERVER
from bridge.config.schema import Config

#: The first descriptor that a service manager passes: sd_listen_fds(3).
_FIRST_INHERITED: Final = 3
#: How long the program on a port that is taken may need to identify itself, in seconds.
_PROBE_SECONDS: Final = 1.0


class CannotListen(OSError):
    """The configured address cannot be bound; the text says why and what to do."""


def inherit() -> list[socket.socket]:
    """The sockets passed by systemd or another service manager. Raises CannotListen."""
    try:
        return inherited_sockets(os.environ)
    except OSError as error:
        raise CannotListen(
            f"cannot listen on the descriptors of LISTEN_FDS: {error.strerror}; are they sockets?"
        ) from error


def bind(config: Config) -> list[socket.socket]:
    """Sockets on the configured address. Raises CannotListen."""
    host, port = config.server.host, config.server.port
    try:
        return open_sockets(host, port)
    except OSError as error:
        advice = "set another server.host or server.port (also: serve --host, --port)"
        if error.errno == errno.EADDRINUSE:
            bridge = _is_bridge(host, port)
            who = "it is another lmarena-bridge, or its demo" if bridge else "that may be another program"
            advice = f"{who}: stop it, or {advice}"
        raise CannotListen(f"cannot listen on {host}, port {port}: {error.strerror}; {advice}") from error


def _is_bridge(host: str, port: int) -> bool:
    """Whether a bridge answers at an address."""
    connection = HTTPConnection(host, port, timeout=_PROBE_SECONDS)
    try:
        connection.request("GET", "/livez")
        return connection.getresponse().headers["Server"] == SERVER
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def open_sockets(host: str, port: int) -> list[socket.socket]:
    """Bind every address that `host` resolves to; with port 0, all to the same free port. Raises OSError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except UnicodeError as error:  # a part of the name is empty, or too long
        raise socket.gaierror(socket.EAI_NONAME, "this cannot be the name of a host") from error
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            sock = socket.socket(family, kind, protocol)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            bound = sockets[0].getsockname()[1] if len(sockets) > 1 else port
            sock.bind((address[0], bound, *address[2:]))
            sock.setblocking(False)
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def inherited_sockets(environ: MutableMapping[str, str]) -> list[socket.socket]:
    """The listening sockets that a service manager has passed (sd_listen_fds(3)), if any.

    Closing them closes this process's copies only: the manager's keep queueing connections. The variables are unset, so
    that no child process uses them. Raises OSError for a descriptor that is not a socket.
    """
    pid, count, _ = (environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    sockets = [socket.socket(fileno=_FIRST_INHERITED + index) for index in range(int(count))]
    for sock in sockets:
        sock.set_inheritable(False)
        sock.setblocking(False)
    return sockets


def address(name: tuple[str, int] | tuple[str, int, int, int], *, secure: bool) -> str:
    """The URL of a socket's address; for one that listens on every address, the URL on this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name[0], name[0])  # noqa: S104 — it is looked up, not bound
    host = f"[{host}]" if ":" in host else host
    return f"{'https' if secure else 'http'}://{host}:{name[1]}"
