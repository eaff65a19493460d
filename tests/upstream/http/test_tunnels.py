"""Requests to proxies, and unusual answers; each proxy is a script on a real socket."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohappyeyeballs import AddrInfoType
from certificates import server_context
from peer import OK, listening, read
from polling import until

from upstream.fetch import Fetcher, FetchRefused, open_fetcher
from upstream.http import tunnels
from upstream.http.connection import MAX_HEAD_BYTES, READ_BYTES, Connection
from upstream.http.connector import Reach
from upstream.http.exchange import PooledExchanges, open_exchanges
from upstream.http.exchange_types import NotPublic, NotSent
from upstream.http.proxies import Proxies
from upstream.http.tunnels import Peer, connect_over
from upstream.loop.timers import Timers

PUBLIC, OTHER = "93.184.215.14", "2606:4700::1111"
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(50)
PICTURE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(PNG), PNG)
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\nProxy-agent: test\r\n\r\n"


@dataclass
class Names:
    """Resolves names from a table."""

    known: dict[str, list[str]] = field(
        default_factory=lambda: {"public.example": [PUBLIC], "inner.example": ["10.0.0.1"]}
    )
    asked: list[str] = field(default_factory=list)

    async def resolve(self, host: str, port: int) -> list[AddrInfoType]:
        self.asked.append(host)
        if host not in self.known:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 0, "", (each, port, 0, 0))
            if ":" in each
            else (socket.AF_INET, socket.SOCK_STREAM, 0, "", (each, port))
            for each in self.known[host]
        ]


@asynccontextmanager
async def through(url: str, names: Names, reach: Reach = Reach.PUBLIC_ADDRESSES) -> AsyncIterator[PooledExchanges]:
    proxies = Proxies.from_setting(url, {})
    async with open_exchanges(2, 5.0, Timers(), proxies=proxies, reach=reach, names=names) as exchanges:
        yield exchanges


@asynccontextmanager
async def fetcher_through(url: str, names: Names) -> AsyncIterator[Fetcher]:
    async with open_fetcher(connect_timeout=5.0, proxies=Proxies.from_setting(url, {}), resolver=names) as fetcher:
        yield fetcher


async def nothing_open(exchanges: PooledExchanges) -> None:
    """Wait until no connection is open; an aborted one stays open until the next iteration of the loop."""
    assert exchanges.pool.busy == 0
    await until(lambda: not exchanges.opened)


class ConnectProxy:
    """Accepts CONNECT, records the target, and answers in place of the peer."""

    def __init__(self, answers: bytes = PICTURE) -> None:
        self.asked: list[str] = []
        self.heads: list[bytes] = []
        self._answers = answers

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append(await reader.readuntil(b"\r\n\r\n"))
        self.asked.append(self.heads[-1].split()[1].decode())
        writer.write(ESTABLISHED)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(self._answers)
        await reader.read()


class SocksProxy:
    """Accepts SOCKS5 without a password, records the target, and answers in place of the peer."""

    def __init__(self, refuses: tuple[str, ...] = ()) -> None:
        self.asked: list[str] = []
        self._refuses = refuses

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, methods = await reader.readexactly(2)
        await reader.readexactly(methods)
        writer.write(b"\x05\x00")
        *_, kind = await reader.readexactly(4)
        match kind:
            case 1:
                host = socket.inet_ntop(socket.AF_INET, await reader.readexactly(4))
            case 4:
                host = socket.inet_ntop(socket.AF_INET6, await reader.readexactly(16))
            case _:
                host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        self.asked.append(f"{host}:{int.from_bytes(await reader.readexactly(2))}")
        if host in self._refuses:
            writer.write(b"\x05\x04\x00\x01" + bytes(6))
            return
        writer.write(b"\x05\x00\x00\x01" + bytes(6))
        await reader.readuntil(b"\r\n\r\n")
        writer.write(PICTURE)
        await reader.read()


# Pictures: the proxy gets the address that was checked


@pytest.mark.parametrize("scheme", ["http", "socks5", "socks5h"])
async def test_the_proxy_gets_the_checked_public_address(scheme: str) -> None:
    proxy: ConnectProxy | SocksProxy = ConnectProxy() if scheme == "http" else SocksProxy()
    async with listening(proxy) as port, fetcher_through(f"{scheme}://127.0.0.1:{port}", names := Names()) as fetcher:
        assert await fetcher.fetch("http://public.example:81/cat.png", limit_bytes=1000, timeout=5) == PNG
    assert (proxy.asked, names.asked) == ([f"{PUBLIC}:81"], ["public.example"])


@pytest.mark.parametrize("scheme", ["http", "socks5", "socks5h"])
@pytest.mark.parametrize(
    "url",
    ["http://inner.example/", "https://inner.example/", "http://127.0.0.1/", "https://[::1]/", "http://10.0.0.1:1/"],
)
async def test_an_address_that_is_not_public_is_not_requested_from_a_proxy(scheme: str, url: str) -> None:
    proxy = ConnectProxy()
    async with listening(proxy) as port, fetcher_through(f"{scheme}://127.0.0.1:{port}", Names()) as fetcher:
        with pytest.raises(FetchRefused, match="no public address"):
            await fetcher.fetch(url, limit_bytes=1000, timeout=5)
    assert proxy.asked == []


async def test_only_public_addresses_are_requested_from_a_proxy_in_turn() -> None:
    names = Names({"mixed.example": ["10.0.0.1", OTHER, PUBLIC]})
    proxy = SocksProxy(refuses=(OTHER,))
    async with listening(proxy) as port, fetcher_through(f"socks5h://127.0.0.1:{port}", names) as fetcher:
        assert await fetcher.fetch("http://mixed.example/", limit_bytes=1000, timeout=5) == PNG
    assert proxy.asked == [f"{OTHER}:80", f"{PUBLIC}:80"]


async def test_a_picture_whose_host_cannot_be_resolved_is_not_requested() -> None:
    proxy = SocksProxy()
    async with listening(proxy) as port, fetcher_through(f"socks5h://127.0.0.1:{port}", Names()) as fetcher:
        with pytest.raises(FetchRefused, match="its name cannot be resolved"):
            await fetcher.fetch("http://unknown.example/", limit_bytes=1000, timeout=5)
    assert proxy.asked == []


async def test_a_pictures_redirect_to_a_private_address_is_refused_behind_a_proxy() -> None:
    proxy = ConnectProxy(b"HTTP/1.1 302 Found\r\nLocation: http://inner.example/\r\nContent-Length: 0\r\n\r\n")
    async with listening(proxy) as port, fetcher_through(f"http://127.0.0.1:{port}", Names()) as fetcher:
        with pytest.raises(FetchRefused, match="no public address"):
            await fetcher.fetch("http://public.example/", limit_bytes=1000, timeout=5)
    assert proxy.asked == [f"{PUBLIC}:80"]


# The storage: hosts named by the site


async def test_a_storage_is_requested_from_the_proxy_only_if_its_name_is_public() -> None:
    proxy, names = SocksProxy(), Names()
    async with listening(proxy) as port, through(f"socks5h://127.0.0.1:{port}", names, Reach.PUBLIC_HOSTS) as exchanges:
        for host in ("localhost", "10.0.0.1", "storage.internal"):
            with pytest.raises(NotPublic):
                await exchanges.request("GET", f"https://{host}", "/", {})
        with pytest.raises(NotSent):  # this proxy does not speak TLS
            await exchanges.request("GET", "https://storage.example", "/", {})
    assert (proxy.asked, names.asked) == (["storage.example:443"], [])


# Answers of a proxy


async def test_an_answer_to_connect_may_come_in_pieces() -> None:
    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for byte in ESTABLISHED:
            writer.write(bytes((byte,)))
            await writer.drain()
            await asyncio.sleep(0)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await reader.read()

    async with listening(proxy) as port, through(f"http://127.0.0.1:{port}", Names()) as exchanges:
        assert await read(await exchanges.request("GET", f"http://{PUBLIC}", "/", {})) == b"hi"
        assert len(exchanges.pool) == 1


async def test_connect_sends_the_proxys_password_and_nothing_of_the_call() -> None:
    proxy = ConnectProxy(OK)
    async with listening(proxy) as port, through(f"http://ada:w%C3%B6rd@127.0.0.1:{port}", Names()) as exchanges:
        headers = {"Cookie": "secret=1", "User-Agent": "a browser's"}
        assert await read(await exchanges.request("GET", f"http://[{OTHER}]:8080", "/path", headers)) == b"hi"
    (head,) = proxy.heads
    assert head == (
        b"CONNECT [2606:4700::1111]:8080 HTTP/1.1\r\nHost: [2606:4700::1111]:8080\r\n"
        b"Proxy-Authorization: Basic YWRhOnfDtnJk\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        pytest.param(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "user name and a password", id="407"),
        pytest.param(b"HTTP/1.1 403 Filtered CANARY\r\n\r\n", "refused: it answered with status 403", id="403"),
        pytest.param(b"HTTP/1.1 302 Found\r\nLocation: http://login/\r\n\r\n", "status 302", id="a login page"),
        pytest.param(b"SSH-2.0-CANARY\r\n", "did not answer as a proxy", id="another protocol"),
        pytest.param(b"", "did not answer as a proxy", id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\n", "did not answer as a proxy", id="half a head"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nA: " + b"a" * 2 * MAX_HEAD_BYTES, "did not answer as a proxy", id="too long a head"
        ),
        pytest.param(ESTABLISHED + b"CANARY", "closed the connection", id="bytes after the head"),
    ],
)
async def test_unusual_answers_of_an_http_proxy_are_reported(answer: bytes, why: str) -> None:
    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)

    async with listening(proxy) as port, through(f"http://127.0.0.1:{port}", Names()) as exchanges:
        with pytest.raises(NotSent, match=why) as caught:
            await exchanges.request("GET", f"http://{PUBLIC}", "/", {})
        assert f"the HTTP proxy at 127.0.0.1:{port}" in caught.value.cause
        assert "CANARY" not in caught.value.cause
        await nothing_open(exchanges)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x05",
        b"\x04\x00",
        b"\x05\xff",
        b"\x05\x02",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x05\x00\x05\x00\x00\x09",
    ],
)
async def test_unusual_answers_of_a_socks_proxy_are_reported(answer: bytes) -> None:
    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(3)
        writer.write(answer)
        await writer.drain()
        writer.write_eof()
        await reader.read()

    async with listening(proxy) as port, through(f"socks5h://127.0.0.1:{port}", Names()) as exchanges:
        with pytest.raises(NotSent, match=f"the SOCKS5 proxy at 127.0.0.1:{port}"):
            await exchanges.request("GET", f"http://{PUBLIC}", "/", {})
        await nothing_open(exchanges)


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
async def test_a_call_cancelled_at_a_silent_proxy_leaves_no_connection(scheme: str) -> None:
    came, left = asyncio.Event(), asyncio.Event()

    async def proxy(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read(1)
        came.set()
        while await reader.read(1000):
            pass
        left.set()

    async with listening(proxy) as port, through(f"{scheme}://127.0.0.1:{port}", Names()) as exchanges:
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(exchanges.request("GET", f"http://{PUBLIC}", "/", {}))
            await came.wait()
            call.cancel()
        await left.wait()
        await nothing_open(exchanges)


# Without a proxy


async def test_the_next_address_of_a_host_is_tried_if_one_does_not_answer() -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await reader.read()

    names = Names({"two.example": ["127.0.0.2", "127.0.0.1"]})  # the server listens only on the second
    async with listening(peer) as port, through("none", names, Reach.CONFIGURED) as exchanges:
        assert await read(await exchanges.request("GET", f"http://two.example:{port}", "/", {})) == b"hi"


async def test_a_call_cancelled_as_tls_begins_leaves_no_connection_or_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graceful close still in progress would remove the reader of a later socket with the same file descriptor."""
    monkeypatch.setattr(tunnels, "TLS_SHUTDOWN_SECONDS", 0.1)

    class Leaving(Connection):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            connecting.cancel()

    async def peer(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    loop, opened = asyncio.get_running_loop(), set[Connection]()
    async with await asyncio.start_server(peer, "127.0.0.1", 0, ssl=server_context(tmp_path)) as server:
        peer_of = Peer("localhost", server.sockets[0].getsockname()[1], trusting(tmp_path))
        sock = socket.create_connection(("127.0.0.1", peer_of.port))
        number = sock.fileno()
        buffer = memoryview(bytearray(READ_BYTES))
        async with asyncio.TaskGroup() as tasks:
            connecting = tasks.create_task(connect_over(sock, peer_of, lambda: Leaving(loop, Timers(), opened, buffer)))
        assert connecting.cancelled()
        with socket.socket() as other:
            assert other.fileno() == number
            loop.add_reader(other, lambda: None)
            await asyncio.sleep(0.3)
            assert loop.remove_reader(other)
        assert not opened


def trusting(folder: Path) -> ssl.SSLContext:
    """A client's context that trusts the certificate in `folder`."""
    return ssl.create_default_context(cafile=str(folder / "cert.pem"))
