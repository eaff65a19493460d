"""TLS peers are verified with the system's certificates, in every client and in the daemon."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from aiohappyeyeballs import AddrInfoType
from asking import connected
from certificates import server_context
from process import Home

from upstream.arena import Arena
from upstream.fetch import open_fetcher
from upstream.http.trust import system_context
from upstream.storage import open_storage

NOT_BELIEVED = "its TLS certificate or handshake is not valid"


class Site:
    """A site over TLS that answers everything with 503; its certificate is in `file`."""

    def __init__(self, origin: str, file: Path) -> None:
        self.origin = origin
        self.file = file
        self.asked = asyncio.Event()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        found.asked.set()
        writer.write(b"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=server_context(tmp_path)) as server:
        found = Site(f"https://localhost:{server.sockets[0].getsockname()[1]}", tmp_path / "cert.pem")
        yield found


@pytest.fixture(autouse=True)
def certificates_reloaded() -> Iterator[None]:
    """Load the certificates again, before and after the test."""
    system_context.cache_clear()
    yield
    system_context.cache_clear()


async def by_client(site: Site) -> None:
    async with connected(site.origin) as arena:
        await arena.read("/", timeout=5)


async def by_storage(site: Site) -> None:
    async with connected(site.origin) as arena, open_storage(arena.settings, connections=1) as store:
        await store.get(site.origin, 100)


async def by_fetcher(site: Site) -> None:
    def unguarded(info: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, _ = info
        return socket.socket(family, kind, protocol)

    async with open_fetcher(connect_timeout=5, socket_factory=unguarded) as fetcher:
        await fetcher.fetch(site.origin, limit_bytes=100, timeout=5)


clients = pytest.mark.parametrize("call", [by_client, by_storage, by_fetcher])


@clients
async def test_a_peer_with_a_trusted_certificate_is_accepted(
    call: Callable[[Site], Awaitable[None]], site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(site.file))
    with pytest.raises(Exception, match=r"503|failed"):
        await call(site)
    assert site.asked.is_set()


@clients
async def test_a_peer_with_an_untrusted_certificate_is_refused(
    call: Callable[[Site], Awaitable[None]], site: Site
) -> None:
    with pytest.raises(Exception, match=NOT_BELIEVED):
        await call(site)
    assert not site.asked.is_set()


async def test_the_daemon_trusts_the_certificates_of_the_system(arena: Arena, site: Site, tmp_path: Path) -> None:
    home = Home(arena, tmp_path)
    await home.prepare()
    home.configure({"upstream": {"base_url": site.origin}})
    async with home.serve() as daemon:
        await daemon.logs(NOT_BELIEVED)
    assert not site.asked.is_set()
    async with home.serve(environ={"SSL_CERT_FILE": str(site.file)}), asyncio.timeout(10):
        await site.asked.wait()


def test_the_tls_context_loads_the_certificates_of_the_system(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(site.file))
    assert system_context().cert_store_stats()["x509"] == 1
    assert system_context().verify_mode is ssl.CERT_REQUIRED
    assert system_context().check_hostname
