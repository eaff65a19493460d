"""Fetching URLs from untrusted callers: no hostile URL leads to a forbidden address.

These tests use the real guard; connections that it permits are recorded, and go to the test's own server instead. That
server listens on loopback, so a connection that bypassed the guard would be seen there too.
"""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest
from aiohappyeyeballs import AddrInfoType
from aiohttp import web

from upstream.fetch import MAX_REDIRECTS, Fetcher, FetchRefused, open_fetcher
from upstream.http.addresses import guarded_socket_factory
from upstream.protocol.files import sniff

PUBLIC = "93.184.215.14"
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(50)


class Diverted(socket.socket):
    """A socket that connects to the test's own server, for any address."""

    to: tuple[str, int]

    def connect(self, address: Any) -> None:  # noqa: ARG002 - the intended target
        super().connect(self.to)


class Internet:
    """A fake Internet: names with successive DNS answers (the last one repeats), and one server at every address."""

    def __init__(self) -> None:
        self.names: dict[str, list[list[str]]] = {"public.example": [[PUBLIC]]}
        self.asked: list[str] = []
        self.connected: list[str] = []
        self.requests: list[web.BaseRequest] = []
        self.let_go = asyncio.Event()
        self.gone = asyncio.Event()
        self.port = 0

    async def resolve(self, host: str, port: int) -> list[AddrInfoType]:
        self.asked.append(host)
        answers = self.names.get(host)
        if answers is None:  # numbers in any notation are resolved by the system; names are not looked up
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
            addresses = [str(info[4][0]) for info in found]
        else:
            addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [
            (
                socket.AF_INET6 if ":" in address else socket.AF_INET,
                socket.SOCK_STREAM,
                socket.IPPROTO_TCP,
                "",
                (address, port, 0, 0) if ":" in address else (address, port),
            )
            for address in addresses
        ]

    def open(self, info: AddrInfoType) -> socket.socket:
        self.connected.append(info[4][0])
        diverted = Diverted(socket.AF_INET, socket.SOCK_STREAM)
        diverted.to = ("127.0.0.1", self.port)
        return diverted

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(request)
        match request.path:
            case "/redirect":
                return web.Response(status=302, headers={"Location": request.query["to"]})
            case "/circle":
                return web.Response(status=307, headers={"Location": "/circle"})
            case "/html":
                return web.Response(text="<html>", content_type="image/png")
            case "/missing":
                return web.Response(status=404, body=PNG)
            case "/nowhere":
                return web.Response(status=302)
            case "/bomb":
                return web.Response(body=gzip.compress(PNG + bytes(5_000_000)), headers={"Content-Encoding": "gzip"})
            case "/endless" | "/slow" as path:
                return await self._pour(request, path)
            case "/large":
                return web.Response(body=PNG + bytes(100_000))
            case "/silent":
                await self.let_go.wait()
        return web.Response(body=PNG, content_type="text/html")

    async def _pour(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            await response.write(PNG)
            while True:
                await response.write(bytes(10_000) if path == "/endless" else b"x")
                await asyncio.sleep(0 if path == "/endless" else 0.02)
        finally:
            self.gone.set()


@pytest.fixture
async def internet() -> AsyncIterator[Internet]:
    internet = Internet()
    runner = web.ServerRunner(web.Server(internet.serve), handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    internet.port = runner.addresses[0][1]
    yield internet
    internet.let_go.set()
    await runner.cleanup()


@pytest.fixture
async def fetcher(internet: Internet) -> AsyncIterator[Fetcher]:
    guarded = guarded_socket_factory(internet.open)
    async with open_fetcher(connect_timeout=5, resolver=internet, socket_factory=guarded) as fetcher:
        yield fetcher


async def fetch(fetcher: Fetcher, url: str, *, limit_bytes: int = 10_000, timeout: float = 5) -> bytes:
    return await fetcher.fetch(url, limit_bytes=limit_bytes, timeout=timeout)


async def test_a_picture_is_fetched_whole_under_any_content_type(fetcher: Fetcher, internet: Internet) -> None:
    data = await fetch(fetcher, "http://public.example/cat.html?a=%2F#part")
    assert (data, sniff(data)) == (PNG, "image/png")
    assert internet.connected == [PUBLIC]


async def test_a_fetch_sends_no_cookie_and_no_authorization(fetcher: Fetcher, internet: Internet) -> None:
    await fetch(fetcher, "http://public.example/")
    (request,) = internet.requests
    assert request.headers.keys() == {"Host", "User-Agent", "Accept", "Accept-Encoding", "Connection"}


async def test_a_redirect_to_a_public_address_is_followed(fetcher: Fetcher, internet: Internet) -> None:
    internet.names["other.example"] = [["1.1.1.1"]]
    assert await fetch(fetcher, "http://public.example/redirect?to=//other.example/cat.png") == PNG
    assert internet.connected == [PUBLIC, "1.1.1.1"]


async def test_redirects_are_followed_three_times(fetcher: Fetcher, internet: Internet) -> None:
    with pytest.raises(FetchRefused, match="more than 3"):
        await fetch(fetcher, "http://public.example/circle")
    assert len(internet.requests) == MAX_REDIRECTS + 1


HOSTILE = {
    "loopback": "http://127.0.0.1:{port}/",
    "loopback by name": "http://localhost:{port}/",
    "loopback by name, to the root": "http://localhost.:{port}/",
    "loopback, decimal": "http://2130706433:{port}/",
    "loopback, octal": "http://0177.0.0.1:{port}/",
    "loopback, octal in one": "http://017700000001:{port}/",
    "loopback, hexadecimal": "http://0x7f000001:{port}/",
    "loopback, hexadecimal parts": "http://0x7f.0.0.0x1:{port}/",
    "loopback, short": "http://127.1:{port}/",
    "loopback, circled digits": "http://①②⑦.⓪.⓪.①:{port}/",
    "loopback, ideographic stops": "http://127。0。0。1:{port}/",
    "this host": "http://0.0.0.0:{port}/",
    "this host, short": "http://0:{port}/",
    "IPv6 loopback": "http://[::1]:{port}/",
    "IPv4-mapped": "http://[::ffff:127.0.0.1]:{port}/",
    "IPv4-mapped, hexadecimal": "http://[::ffff:7f00:1]:{port}/",
    "IPv4-compatible": "http://[::127.0.0.1]:{port}/",
    "NAT64": "http://[64:ff9b::7f00:1]:{port}/",
    "NAT64, local use": "http://[64:ff9b:1::7f00:1]:{port}/",
    "6to4": "http://[2002:7f00:1::]:{port}/",
    "Teredo": "http://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/",
    "scoped": "http://[fe80::1%25lo]:{port}/",
    "unique local": "http://[fd00:ec2::254]/latest/meta-data/",
    "metadata": "http://169.254.169.254/latest/meta-data/",
    "metadata, decimal": "http://2852039166/latest/meta-data/",
    "metadata, another cloud's": "http://100.100.100.200/latest/meta-data/",
    "private": "https://10.0.0.1/",
    "multicast": "http://224.0.0.1/",
    "broadcast": "http://255.255.255.255/",
    "DNS: private": "http://private.example/",
    "DNS: loopback among others": "http://none-of-them.example/",
    "DNS: IPv6 inside": "http://inner6.example/",
    "a file": "file:///etc/passwd",
    "a file on a host": "file://public.example/etc/passwd",
    "gopher": "gopher://public.example:70/_",
    "ftp": "ftp://public.example/cat.png",
    "data": "data:image/png;base64,iVBORw0KGgo=",
    "a socket": "unix:///run/docker.sock",
    "no scheme": "//public.example/",
    "no host": "http:///cat.png",
    "no URL": "http://[::1",
    "an impossible port": "http://public.example:99999/",
    "user info": "http://user:word@public.example/",
    "user info, empty name": "http://:word@public.example/",
    "public name as user": "http://public.example@127.0.0.1:{port}/",
    "back slash": "http://public.example\\@127.0.0.1:{port}/",
    "a fragment as bait": "http://127.0.0.1:{port}/#@public.example/",
    "two hosts": "http://127.0.0.1:{port} @public.example/",
    "overlong": "http://public.example/" + "a" * 10_000,
    "nothing": "",
}


@pytest.mark.parametrize("url", HOSTILE.values(), ids=HOSTILE)
async def test_a_hostile_url_is_refused_without_a_connection(fetcher: Fetcher, internet: Internet, url: str) -> None:
    internet.names |= {
        "localhost": [["127.0.0.1", "::1"]],
        "localhost.": [["127.0.0.1", "::1"]],
        "private.example": [["192.168.1.1"]],
        "none-of-them.example": [["127.0.0.1", "10.0.0.1", "::ffff:10.0.0.1"]],
        "inner6.example": [["fd00::1"]],
    }
    with pytest.raises(FetchRefused) as caught:
        await fetch(fetcher, url.format(port=internet.port))
    assert not internet.connected
    assert not internet.requests
    assert "127.0.0.1" not in str(caught.value)


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.1:{port}/",
        "//127.1:{port}/",
        "http://[::ffff:7f00:1]:{port}/",
        "http://169.254.169.254/latest/meta-data/",
        "http://private.example/",
        "file:///etc/passwd",
        "http://user:word@public.example/",
        "http://[::1",
    ],
)
async def test_a_redirect_is_checked_like_the_url_itself(fetcher: Fetcher, internet: Internet, target: str) -> None:
    internet.names["private.example"] = [["10.0.0.1"]]
    url = f"http://public.example/redirect?to={quote(target.format(port=internet.port), safe='')}"
    with pytest.raises(FetchRefused):
        await fetch(fetcher, url)
    assert internet.connected == [PUBLIC]
    assert len(internet.requests) == 1


async def test_a_name_that_resolves_differently_later_is_checked_at_connect_time(
    fetcher: Fetcher, internet: Internet
) -> None:
    internet.names["rebinding.example"] = [[PUBLIC], ["127.0.0.1"]]
    assert await fetch(fetcher, "http://rebinding.example/") == PNG
    with pytest.raises(FetchRefused, match="no public address"):
        await fetch(fetcher, "http://rebinding.example/")
    internet.names["rebinding.example"] = [[PUBLIC], ["127.0.0.1"]]
    with pytest.raises(FetchRefused, match="no public address"):
        await fetch(fetcher, "http://rebinding.example/redirect?to=http://rebinding.example/")
    assert internet.connected == [PUBLIC, PUBLIC]


async def test_only_the_public_addresses_of_a_host_are_tried(fetcher: Fetcher, internet: Internet) -> None:
    internet.names["mixed.example"] = [["10.0.0.1", PUBLIC, "127.0.0.1"]]
    assert await fetch(fetcher, "http://mixed.example/") == PNG
    assert internet.connected == [PUBLIC]


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("large", "larger than 10000 bytes"),
        ("endless", "larger than 10000 bytes"),
        ("html", "not a PNG, JPEG, GIF or WebP"),
        ("bomb", "not a PNG"),
        ("missing", "status 404"),
        ("nowhere", "status 302"),
    ],
)
async def test_content_that_is_not_a_picture_of_the_allowed_size_is_refused(
    fetcher: Fetcher, internet: Internet, path: str, why: str
) -> None:
    with pytest.raises(FetchRefused, match=why):
        await fetch(fetcher, f"http://public.example/{path}")
    if path == "endless":
        await asyncio.wait_for(internet.gone.wait(), 5)


@pytest.mark.parametrize("path", ["silent", "slow"])
async def test_the_timeout_covers_the_whole_fetch(fetcher: Fetcher, path: str) -> None:
    with pytest.raises(FetchRefused, match=r"longer than 0\.2 s"):
        await fetch(fetcher, f"http://public.example/{path}", timeout=0.2)


async def test_a_picture_of_exactly_the_limit_passes(fetcher: Fetcher) -> None:
    assert await fetch(fetcher, "http://public.example/", limit_bytes=len(PNG)) == PNG
    with pytest.raises(FetchRefused):
        await fetch(fetcher, "http://public.example/", limit_bytes=len(PNG) - 1)


async def test_a_url_whose_host_cannot_be_resolved_is_refused(fetcher: Fetcher) -> None:
    with pytest.raises(FetchRefused, match="cannot be resolved"):
        await fetch(fetcher, "http://missing.example/")
