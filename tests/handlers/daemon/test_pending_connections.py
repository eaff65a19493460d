"""Connections before their first request: who is served first, what they cost, and how they end."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import termios
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest
from certificates import server_context
from manual_clock import Clock
from polling import until
from running import RunningBridge, api_key, running_bridge
from yarl import URL

from bridge.state.state import keys_document
from handlers.daemon import connection, pending_connections
from handlers.daemon.accepting import CallerConnection
from handlers.daemon.bad_http import UnfinishedHead
from handlers.daemon.connection_limits import ConnectionLimits, Evictable
from handlers.daemon.pending_connections import PendingConnection, PendingConnections
from handlers.request.appkeys import CONNECTION_LIMITS
from upstream.arena import Arena

MODELS = b"GET /v1/models HTTP/1.1\r\nHost: bridge.example\r\n"


def asking(secret: str) -> bytes:
    """A request with this key, after which the bridge closes the connection."""
    return MODELS + f"Authorization: Bearer {secret}\r\nConnection: close\r\n\r\n".encode()


@contextmanager
def callers(origin: str, count: int, sent: bytes) -> Iterator[list[socket.socket]]:
    """Open `count` connections and send this on each, blocking the event loop until all of it has been delivered."""
    url = URL(origin)
    with ExitStack() as stack:
        made = [stack.enter_context(socket.create_connection((url.host or "", url.port or 0))) for _ in range(count)]
        for each in made:
            each.sendall(sent)
            each.setblocking(False)
        while any(fcntl.ioctl(each, termios.TIOCOUTQ, bytes(4)) != bytes(4) for each in made):
            time.sleep(0.001)  # on a busy machine the kernel takes a moment to deliver it
        yield made


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The first bytes of the callers for whose sockets a connection was made, in that order."""
    order: list[bytes] = []

    def noting(method: Callable[[ConnectionLimits, Evictable], None]) -> Callable[[ConnectionLimits, Evictable], None]:
        def noted(self: ConnectionLimits, connection: Evictable) -> None:
            if isinstance(connection, CallerConnection) and connection.first_bytes:
                order.append(connection.first_bytes)
            method(self, connection)

        return noted

    monkeypatch.setattr(ConnectionLimits, "add", noting(ConnectionLimits.add))
    monkeypatch.setattr(ConnectionLimits, "mark_authenticated", noting(ConnectionLimits.mark_authenticated))
    return order


async def read(sock: socket.socket) -> bytes:
    """Read until the bridge closes the connection."""
    answer = b""
    async with asyncio.timeout(20):
        while data := await asyncio.get_running_loop().sock_recv(sock, 65536):
            answer += data
    return answer


# Who is served first


async def test_a_caller_with_a_key_is_served_before_earlier_ones_without_a_key(
    bridge: RunningBridge, begun: list[bytes]
) -> None:
    with (
        callers(bridge.origin, 300, MODELS + b"\r\n"),
        callers(bridge.origin, 1, asking(bridge.key)) as (caller,),
    ):
        assert (await read(caller)).startswith(b"HTTP/1.1 200 ")
        await until(lambda: len(begun) == 301)  # those without a key are served too
        assert begun.index(asking(bridge.key)) < 100


async def test_a_key_is_served_before_a_flood_of_requests_of_another_key_ends(
    arena: Arena, tmp_path: Path, begun: list[bytes]
) -> None:
    (busy, one), (quiet, other) = api_key(name="busy"), api_key(name="quiet")
    async with running_bridge(arena, tmp_path) as bridge:
        await keys_document(bridge.folder).update(lambda kept: (*kept, one, other))
        await until(lambda: len(bridge.state.keys) == 3)
        with (
            callers(bridge.origin, 300, asking(busy)),
            callers(bridge.origin, 1, asking(quiet)) as (caller,),
        ):
            assert (await read(caller)).startswith(b"HTTP/1.1 200 ")
            await until(lambda: len(begun) == 301)
            assert begun.index(asking(quiet)) < 250


# What they cost


async def test_a_silent_caller_gets_no_connection_object(
    bridge: RunningBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Evictable] = []
    add = ConnectionLimits.add

    def noted(self: ConnectionLimits, connection: Evictable) -> None:
        if not isinstance(connection, PendingConnection):
            made.append(connection)
        add(self, connection)

    monkeypatch.setattr(ConnectionLimits, "add", noted)
    with callers(bridge.origin, 20, b""), callers(bridge.origin, 20, MODELS):
        await until(lambda: bridge.app[CONNECTION_LIMITS].open_files == 40)
        assert (await bridge.post(bridge.chat("/say hello"))).status == 200
        assert not made
    await until(lambda: bridge.app[CONNECTION_LIMITS].open_files <= 2)  # the connection of the request stays open
    assert bridge.app[CONNECTION_LIMITS].unanswered_bytes == 0


async def test_a_body_that_follows_its_head_is_not_searched_for_a_head(
    bridge: RunningBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[UnfinishedHead] = []

    def noted() -> UnfinishedHead:
        made.append(UnfinishedHead())
        return made[-1]

    monkeypatch.setattr(connection, "UnfinishedHead", noted)
    url = URL(bridge.origin)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    lines = ("POST /v1/chat/completions HTTP/1.1", "Host: bridge.example", f"Authorization: Bearer {bridge.key}")
    writer.write("\r\n".join((*lines, "Content-Length: 10000", "Connection: close", "", "")).encode())
    await until(lambda: bridge.app[CONNECTION_LIMITS].open_files == 2)  # the head has been read
    for _ in range(100):
        writer.write(b" " * 100)
        await asyncio.sleep(0)
    async with asyncio.timeout(20):
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
    assert not made
    writer.close()


# How their requests arrive


@pytest.mark.parametrize("size", [1, 7, 4096])
async def test_a_head_that_arrives_in_pieces_is_served(size: int, bridge: RunningBridge) -> None:
    sent = MODELS + b"X-A: " + b"a" * 5000 + b"\r\n" + asking(bridge.key)[len(MODELS) :]
    url = URL(bridge.origin)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    for start in range(0, len(sent), size):
        writer.write(sent[start : start + size])
        await asyncio.sleep(0)
    async with asyncio.timeout(20):
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
    writer.close()


async def test_silent_tls_connections_do_not_delay_a_request(arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(arena, tmp_path / "state", tls=server_context(tmp_path)) as bridge:
        with callers(bridge.origin, 20, b""):
            assert (await bridge.post(bridge.chat("/say hello"))).status == 200


# How they end


@asynccontextmanager
async def room(
    clock: Clock, timeout: float
) -> AsyncIterator[tuple[PendingConnections, ConnectionLimits, list[PendingConnection]]]:
    """Separate pending connections, their limits, and a list of those that have sent a request."""
    connection_limits = ConnectionLimits(100, clock)
    asked: list[PendingConnection] = []
    each = PendingConnections(connection_limits, lambda secret: secret, asked.append, tls=False, timeout=timeout)
    try:
        yield each, connection_limits, asked
    finally:
        each.close()


async def closed(sock: socket.socket) -> None:
    """Wait until the other side has closed the socket."""
    async with asyncio.timeout(20):
        with suppress(ConnectionResetError):
            assert await asyncio.get_running_loop().sock_recv(sock, 1) == b""


def pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


async def test_a_pending_connection_is_closed_after_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_connections, "_SWEEP_SECONDS", 0.01)
    async with room(Clock(), timeout=0.02) as (pending, connection_limits, asked):
        ours, theirs = pair()
        theirs.sendall(MODELS)
        pending.add(ours)
        await closed(theirs)
        assert len(pending) == connection_limits.open_files == connection_limits.unanswered_bytes == 0
        assert not asked
        theirs.close()


async def test_a_pending_connection_is_released_when_its_caller_disconnects() -> None:
    async with room(Clock(), timeout=60) as (pending, connection_limits, _):
        ours, theirs = pair()
        pending.add(ours)
        assert len(pending) == connection_limits.open_files == 1
        theirs.close()
        await until(lambda: not len(pending))
        assert connection_limits.open_files == 0
        assert ours.fileno() == -1


async def test_pending_connections_are_served_by_turns_of_their_owners() -> None:
    async with room(Clock(), timeout=60) as (pending, _, asked):
        pairs = [pair() for _ in range(30)]
        secrets = ["a"] * 12 + [""] * 12 + ["b"] * 6
        for (ours, theirs), secret in zip(pairs, secrets, strict=True):
            theirs.sendall(asking(secret) if secret else MODELS + b"\r\n")
            pending.add(ours)
        pending.connect_some()
        pending.connect_some()  # the event loop calls it once per iteration
        assert [each.owner for each in asked] == ["a", None, "b", "a", None, "b", "a", "b"]
        await until(lambda: len(asked) == 30)
        assert len(pending) == 0
        for ours, theirs in pairs:
            ours.close()
            theirs.close()


@pytest.mark.parametrize("sent", [b"", MODELS, MODELS + b"\r\n"], ids=["silent", "half a head", "in the queue"])
async def test_an_evicted_pending_connection_is_closed_at_once(sent: bytes) -> None:
    clock = Clock()
    async with room(clock, timeout=60) as (pending, connection_limits, asked):
        ours, theirs = pair()
        theirs.sendall(sent)
        pending.add(ours)
        connection_limits.evict_some(1)
        await closed(theirs)
        await asyncio.sleep(0)
        assert len(pending) == connection_limits.open_files == 0
        assert not asked
        theirs.close()


async def test_closing_the_server_closes_all_pending_connections() -> None:
    async with room(Clock(), timeout=60) as (pending, connection_limits, _):
        (silent, one), (asking_, other) = pair(), pair()
        pending.add(silent)
        other.sendall(MODELS + b"\r\n")
        pending.add(asking_)
        pending.close()
        pending.close()
        assert silent.fileno() == asking_.fileno() == -1
        assert connection_limits.open_files == 0
        one.close()
        other.close()
