"""Uploads and downloads at signed URLs: each call is made once, without redirects and without the account's data."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from asking import connected
from peer import Peer, listening

from upstream.http.connection import WRITE_BYTES
from upstream.protocol.errors import ProtocolViolated, Rejected, ServerFailed
from upstream.protocol.files import File
from upstream.storage import Storage, open_storage

STORED = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def file_of(data: bytes) -> File:
    return File(data, "image/png", "0" * 64, "a.png")


@asynccontextmanager
async def storing(peer: Peer) -> AsyncIterator[tuple[Storage, str]]:
    async with listening(peer) as port:
        origin = f"http://127.0.0.1:{port}"
        async with connected(origin) as client, open_storage(client.settings, connections=2) as store:
            yield store, f"{origin}/bucket/key?X-Signature=a%2Fb"


@pytest.mark.parametrize("size", [0, 1, WRITE_BYTES, WRITE_BYTES + 1, 40 * WRITE_BYTES + 7])
async def test_a_file_of_any_size_arrives_complete(size: int) -> None:
    """A file larger than WRITE_BYTES is sent in pieces, with waits for a slow reader in between."""
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    arrived: list[bytes] = []

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            head = await reader.readuntil(b"\r\n\r\n")
            assert f"Content-Length: {size}\r\n".encode() in head
            arrived.append(await reader.readexactly(size))
            writer.write(STORED)

    async with storing(peer) as (store, url):
        for _ in range(2):  # over one connection
            assert await store.put(url, file_of(data))
    assert arrived == [data, data]


async def test_a_refusal_of_the_storage_before_the_file_is_sent_is_read() -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # it is a read transport too
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        await done.wait()

    done = asyncio.Event()
    async with storing(peer) as (store, url):
        assert not await store.put(url, file_of(bytes(32 * 1024 * 1024)))
        done.set()


@pytest.mark.parametrize("method", ["PUT", "GET"])
@pytest.mark.parametrize("reused", [False, True])
async def test_a_call_whose_connection_breaks_is_not_repeated(method: str, reused: bool) -> None:
    requests: list[bytes] = []

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if reused:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(STORED)
        requests.append((await reader.readuntil(b"\r\n\r\n")).split()[0])

    async with storing(peer) as (store, url):
        if reused:
            await store.get(url, 100)
        with pytest.raises(ServerFailed):
            await (store.put(url, file_of(b"")) if method == "PUT" else store.get(url, 100))
    assert requests == [method.encode()]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_of_the_storage_is_not_followed(status: int) -> None:
    requests = 0

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        await reader.readuntil(b"\r\n\r\n")
        requests += 1
        writer.write(b"HTTP/1.1 %d Moved\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n" % status)
        await reader.read()

    async with storing(peer) as (store, url):
        with pytest.raises(Rejected):
            await store.get(url, 100)
    assert requests == 1


async def test_an_upload_sends_its_signed_url_and_no_headers_of_the_account() -> None:
    heads: list[bytes] = []

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(STORED)
        await reader.read()

    async with storing(peer) as (store, url):
        await store.put(url, file_of(b""))
    request, *headers = heads[0].decode().split("\r\n")
    assert request == "PUT /bucket/key?X-Signature=a%2Fb HTTP/1.1"
    names = {header.partition(":")[0] for header in headers if header}
    assert names == {"Host", "User-Agent", "Accept", "Accept-Encoding", "Content-Type", "Content-Length"}


@pytest.mark.parametrize("announced", [True, False])
async def test_a_picture_that_is_too_large_is_not_read_completely(announced: bool) -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n" + (b"Content-Length: 1000000000\r\n" if announced else b"") + b"\r\n")
        while True:
            writer.write(bytes(65_536))
            await writer.drain()

    async with storing(peer) as (store, url):
        with pytest.raises(ProtocolViolated, match="larger than 1000 bytes"):
            await store.get(url, 1000)


async def test_the_length_of_a_picture_may_begin_with_any_number_of_zeros() -> None:
    """Python by default refuses to convert a string of that many digits to an integer."""

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %05000d\r\n\r\nhi" % 2)
        await reader.read()

    async with storing(peer) as (store, url):
        assert await store.get(url, 1000) == b"hi"
