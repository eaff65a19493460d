"""Limits on what callers without a key may cost: bytes parsed and held, connections, descriptors, log lines."""

from __future__ import annotations

import asyncio
import errno
import gc
import socket
import tracemalloc
from asyncio import sslproto
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from certificates import server_context
from manual_clock import Clock
from polling import until
from running import RunningBridge, running_bridge
from yarl import URL

from handlers.daemon import connection_limits
from handlers.daemon.accepting import CallerConnection, Listener
from handlers.daemon.connection import MAX_OVERHEAD_BYTES, BridgeProtocol
from handlers.daemon.connection_limits import ConnectionLimits
from handlers.daemon.memory import GarbageCollector
from handlers.dashboard.guard import MAX_LOGIN_FORM_BYTES
from handlers.request.appkeys import CONNECTION_LIMITS
from upstream.arena import Arena, Line, Until

MIB = 1024 * 1024
HOST = b"Host: bridge.example\r\n"
MODELS = b"GET /v1/models HTTP/1.1\r\n" + HOST
CHUNKED = b"POST /v1/chat/completions HTTP/1.1\r\n" + HOST + b"KEYTransfer-Encoding: chunked\r\n\r\n"
LOGIN = b"POST /dashboard/login HTTP/1.1\r\n" + HOST + b"Content-Type: application/x-www-form-urlencoded\r\n"
#: The size of one read from an unauthenticated connection.
READ_BYTES = 4096


@asynccontextmanager
async def connected(origin: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a connection, with a timeout for the whole test."""
    url = URL(origin)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        async with asyncio.timeout(20):
            yield reader, writer
    finally:
        writer.transport.abort()


async def exchange(origin: str, sent: bytes) -> bytes:
    """Send this, and read until the bridge closes the connection."""
    async with connected(origin) as (reader, writer):
        writer.write(sent)
        answer = b""
        try:
            while data := await reader.read(65536):
                answer += data
        except ConnectionError:
            pass  # the connection is closed while data is still being sent
        return answer


async def is_closed(reader: asyncio.StreamReader) -> None:
    """Wait until the bridge has closed the connection."""
    try:
        while await reader.read(65536):
            pass
    except ConnectionError:
        pass


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of all pieces of data that the bridge's HTTP parser gets."""
    sizes: list[int] = []
    parse = web.RequestHandler.data_received

    def counting(self: web.RequestHandler, data: bytes) -> None:
        if isinstance(self, BridgeProtocol):  # the arena has a parser too
            sizes.append(len(data))
        parse(self, data)

    monkeypatch.setattr(web.RequestHandler, "data_received", counting)
    return sizes


# Data that is not HTTP, or is longer than any request

#: Each is sent in full, with and without a key.
ENDLESS: dict[str, bytes] = {
    "trailers": CHUNKED + b"0\r\n" + (b"X-A: " + b"a" * 900 + b"\r\n") * 9000,
    "one trailer": CHUNKED + b"0\r\nX-A: " + b"a" * 9 * MIB,
    "one header": MODELS + b"KEYX-A: " + b"a" * 9 * MIB,
    "headers of 8 kB": MODELS + b"KEY" + (b"X-A: " + b"a" * 8000 + b"\r\n") * 1000,
    "a request line": b"GET /" + b"a" * 9 * MIB,
    "zeroes": b"\0" * 9 * MIB,
    "empty lines": b"\r\n" * 4 * MIB,
    "broken chunks": CHUNKED + b"5\r\nhello\r\n" + b"nonsense\r\n" * 900_000,
    "a chunk's size": CHUNKED + b"0" * 9 * MIB,
    "a chunk's extension": CHUNKED + b"1;a=" + b"a" * 9 * MIB,
    "extensions of many chunks": CHUNKED + b"1;a\r\n \r\n" * MIB,
    "chunks of one byte": CHUNKED + b"1\r\n \r\n" * MIB,
    "junk behind a request": MODELS + b"KEY\r\n" + b"\0" * 9 * MIB,
}


@pytest.mark.parametrize("known", [False, True], ids=["no key", "a key"])
@pytest.mark.parametrize("sent", ENDLESS.values(), ids=ENDLESS)
async def test_endless_data_is_neither_parsed_nor_kept(
    sent: bytes, known: bool, bridge: RunningBridge, parsed: list[int]
) -> None:
    header = f"Authorization: Bearer {bridge.key}\r\n".encode() if known else b""
    sent = sent.replace(b"KEY", header)
    await exchange(bridge.origin, sent)  # creates what is kept for later requests
    parsed.clear()
    gc.collect()
    gc.disable()  # nothing may depend on it
    tracemalloc.start()
    try:
        for _ in range(3):
            await exchange(bridge.origin, sent)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert kept < MIB
    assert sum(parsed) < 3 * (MAX_OVERHEAD_BYTES + 3 * 65536)
    assert max(parsed) <= (65536 if known else READ_BYTES)
    assert (await bridge.post(bridge.chat("/say hello"))).status == 200


REFUSED: dict[str, tuple[bytes, bytes]] = {
    "no key": (CHUNKED.replace(b"KEY", b"") + b"10000\r\n" + b" " * 65536 + b"\r\n", b"401"),
    "no key, with a length": (
        CHUNKED.replace(b"KEYTransfer-Encoding: chunked", b"Content-Length: 9000000") + b" " * 65536,
        b"401",
    ),
    "no such route": (b"POST /nope HTTP/1.1\r\n" + HOST + b"Content-Length: 9000000\r\n\r\n", b"404"),
    "no such method": (b"PUT /v1/models HTTP/1.1\r\n" + HOST + b"Content-Length: 9000000\r\n\r\n", b"405"),
    "a probe with a body": (b"GET /livez HTTP/1.1\r\n" + HOST + b"Content-Length: 9000000\r\n\r\n", b"200"),
    "a form that is too large": (LOGIN + b"Content-Length: 9000000\r\n\r\n", b"413"),
    "a head of 200 KB": (MODELS + (b"X-A: " + b"a" * 7900 + b"\r\n") * 25, b"431"),
}


@pytest.mark.parametrize(("begin", "status"), REFUSED.values(), ids=REFUSED)
async def test_a_refused_caller_that_keeps_sending_gets_the_reason_and_is_not_parsed(
    begin: bytes, status: bytes, bridge: RunningBridge, parsed: list[int]
) -> None:
    async with connected(bridge.origin) as (reader, writer):
        writer.write(begin)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.split()[1] == status
        assert b"Connection: close" in head
        parsed.clear()
        writer.write(b"1\r\n \r\n" * MIB)
        await is_closed(reader)
    assert not parsed


# Forms


FORMS: dict[str, bytes] = {
    "announced": LOGIN + b"Content-Length: %d\r\n\r\n" % (MAX_LOGIN_FORM_BYTES + 1),
    "in chunks": LOGIN + b"Transfer-Encoding: chunked\r\n\r\n1400\r\n" + b"a" * 0x1400,
    "in small chunks": LOGIN + b"Transfer-Encoding: chunked\r\n\r\n" + b"10\r\n0123456789abcdef\r\n" * 300,
    "to set the first password": LOGIN.replace(b"login", b"setup") + b"Content-Length: 250000\r\n\r\n",
}


@pytest.mark.parametrize("sent", FORMS.values(), ids=FORMS)
async def test_a_large_form_without_a_login_is_413(sent: bytes, bridge: RunningBridge) -> None:
    assert (await exchange(bridge.origin, sent)).startswith(b"HTTP/1.1 413 ")


HALVES: dict[str, bytes] = {
    "a head": MODELS + (b"X-A: " + b"a" * 7900 + b"\r\n") * 7,
    "a head of 120 KB": MODELS + (b"X-A: " + b"a" * 59_000 + b"\r\n") * 2,
    "a field of 60 KB": MODELS + b"Cookie: " + b"a" * 60_000,
    "a form": LOGIN + b"Content-Length: 4000\r\n\r\n" + b"a" * 3999,
    "requests behind half a form": LOGIN
    + b"Content-Length: 9\r\n\r\npassword="
    + (MODELS + b"X-A: " + b"a" * 7900 + b"\r\n\r\n") * 7,
    "a large form": LOGIN + b"Content-Length: 250000\r\n\r\n" + b"a" * 100_000,
}


@pytest.mark.parametrize("sent", HALVES.values(), ids=HALVES)
async def test_the_total_bytes_of_callers_without_a_key_are_bounded(
    sent: bytes, bridge: RunningBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_limits, "MAX_UNANSWERED_BYTES", 200_000)
    everybody = bridge.app[CONNECTION_LIMITS]
    most = 0
    hold = everybody.count_bytes

    def watched(connection: Any, size: int) -> None:
        nonlocal most
        hold(connection, size)
        most = max(most, everybody.unanswered_bytes)

    monkeypatch.setattr(everybody, "count_bytes", watched)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(60):
            tasks.create_task(_send_half(bridge.origin, sent))
        for _ in range(10):
            assert (await bridge.post(bridge.chat("/say hello"))).status == 200
    assert 0 < most <= 200_000
    await until(lambda: not everybody.unanswered_bytes)  # a page may have to be compiled before all are answered


#: Incomplete heads of nearly the largest size.
LARGE_HALVES: dict[str, bytes] = {
    "fields of 60 KB": MODELS + (b"X-A: " + b"a" * 60_000 + b"\r\n") * 2,
    "fields of 1 KB": MODELS + (b"X-A: " + b"a" * 1000 + b"\r\n") * 110,
    "half a field": MODELS + b"Cookie: " + b"a" * 65_000,
}


@pytest.mark.parametrize("sent", LARGE_HALVES.values(), ids=LARGE_HALVES)
async def test_an_unfinished_head_takes_less_than_three_times_its_bytes(sent: bytes, bridge: RunningBridge) -> None:
    """The bytes that were sent are counted, while the parser keeps each field both as bytes and as text."""
    everybody = bridge.app[CONNECTION_LIMITS]
    count = 20
    async with AsyncExitStack() as stack:
        gc.collect()
        tracemalloc.start()
        stack.callback(tracemalloc.stop)
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(count):
            _, writer = await stack.enter_async_context(connected(bridge.origin))
            writer.write(sent)
        await until(lambda: everybody.unanswered_bytes >= count * len(sent))
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        assert (after - before) / count < 3 * len(sent)


async def _send_half(origin: str, sent: bytes) -> None:
    async with connected(origin) as (reader, writer):
        writer.write(sent)
        with suppress(TimeoutError):
            await asyncio.wait_for(is_closed(reader), 1)


# Connections


class Guest:
    """A connection that records its eviction."""

    def __init__(self) -> None:
        self.is_away = False

    def evict(self) -> None:
        self.is_away = True


@pytest.fixture
def clock() -> Clock:
    return Clock()


def come(everybody: ConnectionLimits, count: int) -> list[Guest]:
    guests = [Guest() for _ in range(count)]
    for guest in guests:
        assert everybody.has_room()
        everybody.add(guest)
    return guests


def pass_time(everybody: ConnectionLimits, clock: Clock, seconds: float) -> None:
    clock.now += seconds
    for _ in range(connection_limits.MIN_AGE_ROUNDS):
        everybody.next_round()


def test_eviction_prefers_callers_without_a_key_then_idle_ones_and_spares_busy_ones(clock: Clock) -> None:
    everybody = ConnectionLimits(8, clock)
    first, second, third = come(everybody, 3)
    everybody.mark_authenticated(first)
    everybody.mark_authenticated(second)
    everybody.request_done(second)
    assert everybody.open_files == 5
    pass_time(everybody, clock, 1)
    come(everybody, 3)  # now it is full
    pass_time(everybody, clock, 1)
    come(everybody, 1)
    assert third.is_away
    for guest in come(everybody, 3):
        everybody.mark_authenticated(guest)
    assert not first.is_away
    pass_time(everybody, clock, 1)
    assert everybody.has_room()
    assert second.is_away
    assert not first.is_away


def test_a_connection_that_has_just_been_accepted_is_not_evicted(clock: Clock) -> None:
    everybody = ConnectionLimits(3, clock)
    guests = come(everybody, 3)
    assert not everybody.has_room()
    assert not any(guest.is_away for guest in guests)
    clock.now += 60  # a very long iteration of the loop, in which nothing was read
    assert not everybody.has_room()
    pass_time(everybody, clock, connection_limits.MIN_AGE_SECONDS)
    assert everybody.has_room()
    assert [guest.is_away for guest in guests] == [True, False, False]


def test_surplus_connections_without_a_key_are_evicted_after_a_grace_period(clock: Clock) -> None:
    everybody = ConnectionLimits(100_000, clock)
    guests = come(everybody, connection_limits.UNAUTHENTICATED_CONNECTIONS + 100)
    assert not any(guest.is_away for guest in guests)
    pass_time(everybody, clock, connection_limits.GRACE_SECONDS)
    come(everybody, 50)
    assert sum(guest.is_away for guest in guests) == 100
    assert all(guest.is_away for guest in guests[:100])


def test_evictions_are_logged_once_a_minute(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    everybody = ConnectionLimits(2, clock)
    for _ in range(100):
        pass_time(everybody, clock, 0.5)
        come(everybody, 1)
    assert caplog.text.count("the oldest are closed") == 1
    pass_time(everybody, clock, connection_limits.LOG_INTERVAL_SECONDS)
    come(everybody, 1)
    assert caplog.text.count("the oldest are closed") == 2


async def test_few_requests_start_per_iteration_in_order_of_arrival(clock: Clock) -> None:
    everybody = ConnectionLimits(2, clock)
    came: list[int] = []

    async def ask(number: int) -> None:
        await everybody.wait_for_turn()
        came.append(number)

    async with asyncio.TaskGroup() as tasks:
        asking = [tasks.create_task(ask(number)) for number in range(100)]
        before = 0
        while len(came) < 99:
            await asyncio.sleep(0)
            assert len(came) - before <= connection_limits.REQUESTS_PER_ITERATION
            before = len(came)
            if before == connection_limits.REQUESTS_PER_ITERATION:
                asking[50].cancel()
    assert came == [number for number in range(100) if number != 50]
    await asyncio.wait_for(everybody.wait_for_turn(), 10)  # nobody is ahead in the queue


SILENT: dict[str, bytes] = {
    "silent": b"",
    "half a head": MODELS,
    "half a form": LOGIN + b"Content-Length: 9\r\n\r\npass",
    "answered and kept": MODELS + b"\r\n",
}


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("sent", SILENT.values(), ids=SILENT)
async def test_callers_without_a_key_cannot_lock_out_others(
    sent: bytes, tls: bool, arena: Arena, tmp_path: Path
) -> None:
    """A stream continues, and new callers are served. Over https, the callers without a key stall in the handshake."""
    go_on = asyncio.Event()
    arena.script = lambda turn: (
        [Line("a0", "one"), Until(go_on), Line("a0", " two"), Line("ad", {"finishReason": "stop"})]
        if turn.prompt == "wait"
        else [Line("a0", "hello"), Line("ad", {"finishReason": "stop"})]
    )
    context = server_context(tmp_path) if tls else None
    async with running_bridge(arena, tmp_path / "state", tls=context) as bridge:
        bridge.app[CONNECTION_LIMITS].limit = 20
        async with await bridge.post(bridge.chat("wait", stream=True)) as stream:
            await stream.content.readuntil(b"one")
            async with asyncio.TaskGroup() as tasks:
                holding = [tasks.create_task(_hold(bridge.origin, sent)) for _ in range(60)]
                for _ in range(3):
                    answer = await bridge.post(bridge.chat("hi"), headers={"Connection": "close"})
                    assert answer.status == 200
                    assert bridge.app[CONNECTION_LIMITS].open_files <= 22
                for each in holding:
                    each.cancel()
            go_on.set()
            assert b" two" in await stream.read()


async def _hold(origin: str, sent: bytes) -> None:
    async with connected(origin) as (reader, writer):
        writer.write(sent)
        await is_closed(reader)


async def test_tls_buffers_are_small_and_large_answers_arrive_whole(arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(arena, tmp_path / "state", tls=server_context(tmp_path)) as bridge:
        assert sslproto.SSLProtocol.max_size <= 32 * 1024
        large = "x" * 100_000
        async with await bridge.post(bridge.chat(f"/say {large}")) as answer:
            assert answer.status == 200
            assert large.encode() in await answer.read()


# Descriptors


class ShortSocket(socket.socket):
    """A listening socket on which `accept` fails with the error `number`, unless that is None."""

    number: int | None = errno.EMFILE
    tries = 0

    def __init__(self) -> None:
        super().__init__()
        self.tried_again = asyncio.Event()

    def accept(self) -> tuple[socket.socket, Any]:
        self.tries += 1
        if self.tries == 3:
            self.tried_again.set()
        if self.number is not None:
            raise OSError(self.number, "no more")
        return super().accept()


class Counted(CallerConnection):
    """A connection that only reports that it was made."""

    def __init__(self, made: Callable[[], None]) -> None:
        self._made = made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._made()
        transport.close()

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 — no data arrives
        return bytearray(1)

    def evict(self) -> None:
        raise AssertionError("there is room")


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
async def test_running_out_of_descriptors_is_logged_once_and_accepting_resumes(
    number: int, caplog: pytest.LogCaptureFixture
) -> None:
    made = asyncio.Event()
    with ShortSocket() as sock:
        sock.number = number
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        listener = Listener(
            sock, ConnectionLimits(100, asyncio.get_running_loop().time), lambda: Counted(made.set), None
        )
        writers = [(await asyncio.open_connection(*sock.getsockname()))[1] for _ in range(20)]
        for writer in writers:
            writer.write(b"?")  # no connection is made for a silent caller
        await asyncio.wait_for(sock.tried_again.wait(), 10)
        assert sock.tries == 3  # one at a time, although 20 connections wait
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        sock.number = None
        await asyncio.wait_for(made.wait(), 10)
        assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
        for writer in writers:
            writer.close()
        listener.close()
        await listener.wait_until_set_up()


# Garbage


class Cyclic:
    """An object that only the garbage collector frees."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def rare_collections() -> Iterator[None]:
    before = gc.get_threshold()
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    gc.set_threshold(*before)


@pytest.mark.usefixtures("rare_collections")
async def test_garbage_is_collected_only_after_the_memory_has_grown() -> None:
    resident = 100 * MIB
    look = GarbageCollector(lambda: resident, lambda: 0)

    def left() -> int:
        return sum(isinstance(each, Cyclic) for each in gc.get_objects())

    for _ in range(10):
        Cyclic()
    await look()
    resident += 60 * MIB
    await look()
    assert left() == 10
    resident += 10 * MIB
    await look()
    assert left() == 0
    Cyclic()
    await look()
    assert left() == 1  # the memory has not grown since
