"""One request and its response: the bytes sent, the response, and whether the connection is reused."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest
from peer import OK, read, towards

from upstream.http.connection import HELD_BYTES
from upstream.http.exchange import encode_head
from upstream.http.exchange_types import ConnectionBroke, HttpError, NotHttp, NotSent


def test_a_request_is_encoded_exactly() -> None:
    assert encode_head("POST", "a.test:81", "/x?y=%20", {"Accept": "*/*", "Cookie": "a=b"}, 2) == (
        b"POST /x?y=%20 HTTP/1.1\r\nHost: a.test:81\r\nAccept: */*\r\nCookie: a=b\r\nContent-Length: 2\r\n\r\n"
    )
    assert encode_head("GET", "a.test", "/", {}, None) == b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
    assert encode_head("PUT", "a.test", "/", {}, 0) == b"PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r", "\0"])
def test_a_line_break_cannot_inject_a_header(end: str) -> None:
    for target, headers in (
        (f"/{end}CANARY: 1", {}),
        ("/", {"Cookie": f"a{end}CANARY: 1"}),
        ("/", {f"A{end}CANARY": "1"}),
    ):
        with pytest.raises(ValueError, match="line break") as caught:
            encode_head("GET", "a.test", target, headers, None)
        assert "CANARY" not in str(caught.value)


async def test_an_interim_response_is_ignored() -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n" + OK)
        await reader.read()

    async with towards(peer) as (exchanges, origin):
        response = await exchanges.request("GET", origin, "/", {})
        assert (response.status, response.content_type, await read(response)) == (200, "text/plain", b"hi")
        assert len(exchanges.pool) == 1


async def test_white_space_around_a_header_is_not_part_of_its_value() -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: \t/a b \t \r\nEmpty:  \r\nContent-Length: 0 \r\n\r\n")
        await reader.read()

    async with towards(peer) as (exchanges, origin):
        response = await exchanges.request("GET", origin, "/", {})
        assert dict(response.headers) == {"Location": "/a b", "Empty": "", "Content-Length": "0"}
        response.release()


async def test_a_connection_serves_one_request_after_another() -> None:
    requests: list[bytes] = []

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            requests.append(head.split()[1] + await reader.readexactly(1))
            writer.write(OK)

    async with towards(peer) as (exchanges, origin):
        for body in b"1", b"2":
            assert await read(await exchanges.request("POST", origin, "/x", {}, body)) == b"hi"
        assert (requests, len(exchanges.pool)) == ([b"/x1", b"/x2"], 1)


async def test_a_connection_is_not_reused_after_a_partly_sent_request() -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # it is a read transport too
        writer.write(OK)
        await asyncio.Event().wait()

    async with towards(peer) as (exchanges, origin):
        assert await read(await exchanges.request("POST", origin, "/", {}, bytes(32 * 1024 * 1024))) == b"hi"
        assert len(exchanges.pool) == 0


@pytest.mark.parametrize("way", ["release", "close"])
async def test_a_connection_is_not_reused_after_half_a_response(way: str) -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK[:-1])
        await reader.read()

    async with towards(peer) as (exchanges, origin):
        response = await exchanges.request("GET", origin, "/", {})
        for _ in range(2):  # idempotent
            getattr(response, way)()
        assert len(exchanges.pool) == 0


async def test_a_cancelled_request_leaves_no_connection_open() -> None:
    arrived = asyncio.Event()

    async def peer(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        arrived.set()
        await reader.read()

    async with towards(peer) as (exchanges, origin):
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(exchanges.request("GET", origin, "/", {}))
            await arrived.wait()
            waiting.cancel()
        assert len(exchanges.pool) == 0
        assert exchanges.pool.busy == 0


async def test_a_request_is_not_sent_after_its_deadline() -> None:
    requests = 0

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        while await reader.readuntil(b"\r\n\r\n"):
            requests += 1
            writer.write(OK)

    async with towards(peer, connections=1) as (exchanges, origin), asyncio.timeout(5):
        first = await exchanges.request("GET", origin, "/", {})
        late = asyncio.gather(exchanges.request("GET", origin, "/", {}, None, monotonic() + 0.05))
        await asyncio.sleep(0.1)
        assert await read(first) == b"hi"
        with pytest.raises(NotSent, match="took too long"):
            await late
        assert (requests, len(exchanges.pool)) == (1, 1)


async def test_a_missing_response_is_a_broken_connection() -> None:
    async def peer(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async with towards(peer) as (exchanges, origin):
        with pytest.raises(ConnectionBroke):
            await exchanges.request("GET", origin, "/", {})


async def test_a_switch_of_protocols_is_a_response_and_its_connection_is_not_reused() -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
        await reader.read()

    async with towards(peer) as (exchanges, origin), asyncio.timeout(5):
        response = await exchanges.request("GET", origin, "/", {})
        response.release()
        assert (response.status, len(exchanges.pool)) == (101, 0)


async def test_unsolicited_bytes_are_not_taken_as_the_answer_to_the_next_request() -> None:
    answered = 0

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal answered
        while await reader.readuntil(b"\r\n\r\n"):
            answered += 1
            writer.write(OK)
            await go.wait()
            writer.write(OK.replace(b"hi", b"no"))

    go, came = asyncio.Event(), asyncio.Event()
    async with towards(peer) as (exchanges, origin):
        first = await exchanges.request("GET", origin, "/", {})
        first.connection.on_data = came.set
        assert await read(first) == b"hi"
        came.clear()
        go.set()
        await came.wait()
        go.clear()
        assert len(exchanges.pool) == 1
        assert await read(await exchanges.request("GET", origin, "/", {})) == b"hi"
        assert answered == 2


@pytest.mark.parametrize("greeting", [b"SSH-2.0-OpenSSH_9.2\r\n", b""], ids=["another protocol", "closed at once"])
async def test_no_second_connection_is_made_to_a_peer_that_sends_first(greeting: bytes) -> None:
    connections = 0

    async def peer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.write(greeting)

    async with towards(peer) as (exchanges, origin), asyncio.timeout(5):
        with pytest.raises(HttpError):
            await exchanges.request("GET", origin, "/", {})
    assert connections == 1


async def test_an_invalid_response_body_fails_at_once() -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
        await go.wait()
        writer.write(b"ZZ\r\n")
        await reader.read()

    go = asyncio.Event()
    async with towards(peer) as (exchanges, origin), asyncio.timeout(5):
        response = await exchanges.request("GET", origin, "/", {})
        assert await response.connection.read() == b"hi"
        go.set()
        with pytest.raises(NotHttp):
            await response.connection.read()
        response.release()
        assert len(exchanges.pool) == 0


async def test_a_request_cancelled_half_sent_leaves_no_socket() -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # it is a read transport too
        arrived.set()
        await asyncio.Event().wait()

    arrived = asyncio.Event()
    async with towards(peer) as (exchanges, origin):
        async with asyncio.TaskGroup() as tasks:
            calling = tasks.create_task(exchanges.request("POST", origin, "/", {}, bytes(32 * 1024 * 1024)))
            await arrived.wait()
            (connection,) = exchanges.opened
            transport = connection.transport
            assert transport is not None
            calling.cancel()
        assert transport.is_closing()
        assert transport.get_write_buffer_size() == 0


@pytest.mark.parametrize("rest", [b"", b"HTTP/1.1 200 OK\r\n", OK.replace(b"hi", b"no")])
async def test_bytes_after_a_response_are_not_part_of_it(rest: bytes) -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK + rest)
        await reader.read()

    async with towards(peer) as (exchanges, origin):
        assert await read(await exchanges.request("GET", origin, "/", {})) == b"hi"
        assert len(exchanges.pool) == (not rest)


async def test_a_response_body_without_a_length_ends_with_its_connection() -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nhi")

    async with towards(peer) as (exchanges, origin):
        assert await read(await exchanges.request("GET", origin, "/", {})) == b"hi"
        assert len(exchanges.pool) == 0


@pytest.mark.parametrize("head", ["Content-Length: 3", "content-length: 3", "Transfer-Encoding: chunked"])
async def test_a_truncated_body_fails_after_the_bytes_received(head: str) -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b"2\r\nhi\r\n" if "chunked" in head else b"hi"
        writer.write(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode() + body)

    async with towards(peer) as (exchanges, origin), asyncio.timeout(5):
        response = await exchanges.request("GET", origin, "/", {})
        came = asyncio.Event()
        response.connection.on_data = came.set
        while not response.connection.ended:
            came.clear()
            await came.wait()
        assert await response.connection.read() == b"hi"
        with pytest.raises(ConnectionBroke):
            await response.connection.read()
        response.release()
        assert len(exchanges.pool) == 0


async def test_reading_pauses_while_the_response_body_is_not_taken() -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
        await reader.read()

    size = 8 * 1024 * 1024
    async with towards(peer) as (exchanges, origin), asyncio.timeout(5):
        response = await exchanges.request("GET", origin, "/", {})
        connection, taken, came = response.connection, 0, asyncio.Event()
        connection.on_data = came.set
        while not connection.ended or taken < size:
            assert connection.transport is not None
            while connection.transport.is_reading() and not connection.ended:
                came.clear()
                await came.wait()
            piece = connection.take()
            assert len(piece) <= HELD_BYTES
            taken += len(piece)
        response.release()
        assert (taken, len(exchanges.pool)) == (size, 1)


async def test_endless_headers_fail_the_request_without_being_quoted() -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n" + b"A: CANARY\r\n" * 100_000)
        await reader.read()

    async with towards(peer) as (exchanges, origin), asyncio.timeout(5):
        with pytest.raises(NotHttp) as caught:
            await exchanges.request("GET", origin, "/", {})
        assert "CANARY" not in str(caught.value)
        assert len(exchanges.pool) == 0


async def test_a_connection_aborted_by_the_kernel_is_not_a_timeout() -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK[:-1])
        await reader.read()

    async with towards(peer) as (exchanges, origin), asyncio.timeout(5):
        response = await exchanges.request("GET", origin, "/", {})
        assert await response.connection.read() == b"h"
        response.connection.transport._force_close(TimeoutError(110, "Connection timed out"))  # type: ignore[union-attr]
        with pytest.raises(ConnectionBroke):
            await response.connection.read()
        response.release()
