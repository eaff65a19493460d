"""Opens a connection to Redis: asks the sentinels, connects, logs in."""

from __future__ import annotations

import asyncio
import socket
import ssl
from functools import partial
from typing import Final

from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from bridge.shared.address import RedisAddress
from bridge.shared.connection import Command, ConnectionFailed, RedisConnection, clause
from bridge.shared.errors import CommandRefused

#: TCP's keep-alive: the seconds of silence before the first probe, the seconds between two, and how many may stay
#: unanswered. Nothing is ever sent on the connection for news, so nothing else shows that a firewall has forgotten it,
#: or that the server's machine is gone. macOS has another name for the first.
_KEEPALIVE: Final = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}


async def connect(address: RedisAddress, timeout: float) -> RedisConnection:
    """Connect, log in, and learn which server this is, within `timeout` seconds. Later replies have the same timeout.

    Raises ConnectionFailed.
    """
    try:
        async with asyncio.timeout(timeout):
            connection = await _open(address, timeout)
            try:
                await _log_in(connection, address)
            except BaseException:  # reraised; cancellation too must close what has no owner yet
                connection.close()
                raise
    except TimeoutError as error:
        raise ConnectionFailed(f"it has not answered within {timeout:g} s") from error
    except (RedisError, OSError) as error:
        raise ConnectionFailed(clause(error)) from error
    return connection


async def _open(address: RedisAddress, timeout: float) -> RedisConnection:
    """Open a connection, to the server that the sentinels name if there are any."""
    loop, protocol = asyncio.get_running_loop(), partial(RedisConnection, timeout)
    if address.transport == "unix":
        _, connection = await loop.create_unix_connection(protocol, address.path)
        return connection
    host, port = await _master(address, timeout) if address.transport == "sentinel" else address.hosts[0]
    context = ssl.create_default_context() if address.transport == "tls" else None
    transport, connection = await loop.create_connection(protocol, host, port, ssl=context)
    sock: socket.socket = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return connection


async def _log_in(connection: RedisConnection, address: RedisAddress) -> None:
    """Log in, choose the database, and learn which server this is. Raises ConnectionFailed."""
    commands: list[Command] = []
    if address.password:
        login = (address.user, address.password) if address.user else (address.password,)
        commands.append(("AUTH", *login))
    if address.database:
        commands.append(("SELECT", address.database))
    replies = await connection.run([*commands, ("INFO", "server")])
    for reply in replies:
        if isinstance(reply, CommandRefused):
            raise ConnectionFailed(f"{reply}")
    fields = _info(replies[-1])
    connection.run_id = fields.get("run_id", "")
    uptime = fields.get("uptime_in_seconds", "")
    connection.uptime = float(uptime) if uptime.isdecimal() else 0.0
    connection.version = fields.get("valkey_version") or fields.get("redis_version", "")


async def _master(address: RedisAddress, timeout: float) -> tuple[str, int]:
    """Ask the sentinels, one after another. Each gets an equal share of the time, so that all of them can be asked."""
    share = timeout / len(address.hosts)
    options = {"socket_timeout": share, "socket_connect_timeout": share, "retry": Retry(NoBackoff(), 0)}
    sentinel = Sentinel(list(address.hosts), sentinel_kwargs=options)  # type: ignore[no-untyped-call]  # has no types
    try:
        host, port = await sentinel.discover_master(address.service)
    finally:
        for each in sentinel.sentinels:
            await each.aclose()
    return str(host), int(port)


def _info(text: object) -> dict[str, str]:
    """The fields of a reply to INFO, by name."""
    lines = text.decode("utf-8", "replace").splitlines() if isinstance(text, bytes) else []
    return {name: value for name, colon, value in (line.partition(":") for line in lines) if colon}
