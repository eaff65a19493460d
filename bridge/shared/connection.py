"""One connection to Redis. The only file that uses the client library, which must be installed for it.

A connection is used by one task, which closes it at its first failure; `bridge.shared.link` makes the next one.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

from hiredis import pack_command
from redis.asyncio import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

from bridge.shared.address import RedisAddress
from bridge.shared.errors import CommandRefused
from bridge.shared.script import ScriptCall, Word

Command: TypeAlias = tuple[Word, ...] | ScriptCall
#: What Redis answers: bytes, a number, nothing, a list of these, or that it refuses the command.
Reply: TypeAlias = Any

#: Refusals that are not the command's fault: the server takes no writes, or nothing, from anyone.
_OF_ALL: Final = tuple(
    f"{code} "
    for code in (
        "BUSY",
        "CLUSTERDOWN",
        "LOADING",
        "MASTERDOWN",
        "MISCONF",
        "NOAUTH",
        "NOPERM",
        "NOREPLICAS",
        "OOM",
        "READONLY",
    )
)


class ConnectionFailed(Exception):
    """The connection cannot be made, or used any more; the text is a clause without a secret."""


class RedisConnection:
    """A connection that is open. `run_id` names the run of the server: another one after each of its starts."""

    def __init__(self, connection: Connection | UnixDomainSocketConnection, info: dict[str, str]) -> None:
        self._connection = connection
        self.run_id = info.get("run_id", "")
        self.version = info.get("valkey_version") or info.get("redis_version", "")

    @classmethod
    async def open(cls, address: RedisAddress, timeout: float) -> RedisConnection:
        """Connect, log in and ask the server who it is, within `timeout` seconds. Raises ConnectionFailed."""
        with _translated(timeout):
            async with asyncio.timeout(timeout):
                connection = await _connection(address, timeout)
                try:
                    await connection.connect()  # type: ignore[no-untyped-call]  # the library has no type for it
                    return cls(connection, _info(await _run_one(connection, ("INFO", "server"))))
                except BaseException:  # reraised; cancellation too must close what has no owner yet
                    await connection.disconnect(nowait=True)
                    raise

    async def run(self, commands: Sequence[Command], timeout: float) -> list[Reply]:
        """Send commands at once, and return all replies, a refusal as `CommandRefused`.

        Raises ConnectionFailed, also where the server as a whole refuses to work; then the connection is to be closed.
        """
        with _translated(timeout):
            async with asyncio.timeout(timeout):
                return await self._run(commands)

    async def _run(self, commands: Sequence[Command]) -> list[Reply]:
        replies = await self._exchange([each.known() if isinstance(each, ScriptCall) else each for each in commands])
        unknown = [at for at, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            calls = [command for at in unknown if isinstance(command := commands[at], ScriptCall)]
            for at, reply in zip(unknown, await self._exchange([call.whole() for call in calls]), strict=True):
                replies[at] = reply
        return [_judged(reply) if isinstance(reply, ResponseError) else reply for reply in replies]

    async def _exchange(self, commands: Sequence[tuple[Word, ...]]) -> list[Reply]:
        # The library itself would take ten times as long to write commands, which is most of what they cost here.
        data = b"".join([pack_command(command) for command in commands])  # type: ignore[arg-type]  # takes any words
        await self._connection.send_packed_command(data, check_health=False)
        replies: list[Reply] = []
        for _ in commands:
            try:
                replies.append(await self._connection.read_response(disable_decoding=True, timeout=math.inf))
            except ResponseError as error:
                replies.append(error)
        return replies

    async def subscribe(self, channels: Sequence[str], timeout: float) -> None:
        """Listen to channels from now on; no command may follow. Raises ConnectionFailed."""
        await self.run([("SUBSCRIBE", channel) for channel in channels], timeout)

    async def message(self) -> bytes:
        """Wait for the next message. Raises ConnectionFailed."""
        with _translated(math.inf):
            while True:
                match await self._connection.read_response(disable_decoding=True, timeout=math.inf):
                    case [b"message", _, bytes(data)]:
                        return data

    async def close(self) -> None:
        """Close the connection, without waiting for the server."""
        await self._connection.disconnect(nowait=True)


async def _connection(address: RedisAddress, timeout: float) -> Connection | UnixDomainSocketConnection:
    """A connection that is not open yet; its server may have to be asked for."""
    options: dict[str, Any] = {
        "db": address.database,
        "username": address.user or None,
        "password": address.password or None,
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": None,
        "protocol": 2,
    }
    if address.transport == "unix":
        return UnixDomainSocketConnection(path=address.path, **options)
    host, port = await _master(address, timeout) if address.transport == "sentinel" else address.hosts[0]
    kind = SSLConnection if address.transport == "tls" else Connection
    return kind(host=host, port=port, socket_keepalive=True, **options)


async def _master(address: RedisAddress, timeout: float) -> tuple[str, int]:
    """Ask the sentinels, one after the other, none of which may use up the time of the next."""
    share = timeout / len(address.hosts)
    options = {"socket_timeout": share, "socket_connect_timeout": share, "retry": Retry(NoBackoff(), 0)}
    sentinel = Sentinel(list(address.hosts), sentinel_kwargs=options)  # type: ignore[no-untyped-call]  # has no types
    try:
        host, port = await sentinel.discover_master(address.service)
    finally:
        for each in sentinel.sentinels:
            await each.aclose()
    return str(host), int(port)


async def _run_one(connection: Connection | UnixDomainSocketConnection, command: tuple[Word, ...]) -> Reply:
    await connection.send_packed_command(connection.pack_commands([command]), check_health=False)
    return await connection.read_response(disable_decoding=True, timeout=math.inf)


def _info(text: object) -> dict[str, str]:
    """The fields of INFO, by name."""
    lines = text.decode("utf-8", "replace").splitlines() if isinstance(text, bytes) else []
    return {name: value for name, colon, value in (line.partition(":") for line in lines) if colon}


def _judged(error: ResponseError) -> CommandRefused:
    """One command's refusal. Raises ConnectionFailed for a refusal that concerns all."""
    if isinstance(error, NoScriptError) or str(error).startswith(_OF_ALL) or type(error) is not ResponseError:
        raise ConnectionFailed(f"it refuses to work: {_text(error)}") from error
    return CommandRefused(f"Redis refuses a command: {_text(error)}")


@contextmanager
def _translated(timeout: float) -> Iterator[None]:
    """Raise ConnectionFailed for errors of the library and of the network."""
    try:
        yield
    except TimeoutError as error:
        raise ConnectionFailed(f"it has not answered within {timeout:g} s") from error
    except (RedisError, OSError) as error:
        raise ConnectionFailed(_text(error)) from error


def _text(error: BaseException) -> str:
    """An error as a clause of reasonable length; the library's texts name hosts and paths, but no password."""
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
