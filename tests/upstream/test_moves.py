"""The origin to which the site has moved is used as long as the site answers there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from asking import Asker, connected
from peer import Peer, listening

from upstream.arena import Arena
from upstream.protocol.errors import UpstreamError
from upstream.protocol.events import Finish
from upstream.site_location import PAGE_PATHS

HTML = b"Content-Type: text/html\r\n"


@asynccontextmanager
async def served(peer: Peer) -> AsyncIterator[str]:
    async with listening(peer) as port:
        yield f"http://127.0.0.1:{port}"


def answers(status: str, headers: bytes = b"", body: bytes = b"") -> Peer:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        length = b"Content-Length: %d\r\n" % len(body)
        writer.write(b"HTTP/1.1 " + status.encode() + b"\r\n" + headers + length + b"Connection: close\r\n\r\n" + body)

    return peer


async def closes(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")


async def speaks_no_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"SSH-2.0-OpenSSH_9.9\r\n")


async def is_silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()
    await asyncio.sleep(0.5)


#: The ways in which an origin may behave after the site has left it.
DEAD: dict[str, Peer] = {
    "closes": closes,
    "speaks another protocol": speaks_no_http,
    "is silent": is_silent,
    "500": answers("500 Internal Server Error"),
    "502, its gateway": answers("502 Bad Gateway", HTML, b"<html>bad gateway</html>"),
    "530, its wall": answers("530 ", HTML, b"<html>origin unreachable</html>"),
    "503": answers("503 Service Unavailable"),
    "a page for sale": answers("200 OK", HTML, b"<html><title>This domain is for sale</title></html>"),
    "a page that is not there": answers("404 Not Found", HTML, b"<html><title>404</title></html>"),
    "405": answers("405 Method Not Allowed"),
    "410": answers("410 Gone", HTML, b"<html></html>"),
    "204": answers("204 No Content"),
    "leads elsewhere": answers("308 Permanent Redirect", b"Location: http://elsewhere.example/x\r\n"),
}


async def fails_once(asker: Asker) -> None:
    with pytest.raises(UpstreamError):
        await asker.ask(timeout=0.3)


@pytest.mark.parametrize("dead", DEAD.values(), ids=DEAD)
async def test_the_client_returns_to_base_url_when_the_moved_origin_is_down(dead: Peer) -> None:
    async with served(dead) as there, Arena() as arena, connected(arena.origin, there) as client:
        asker = Asker(arena, client, arena.sign_in())
        client.location.origin, client.location.page_path = there, "/moved/direct"
        await fails_once(asker)
        assert (client.location.origin, client.location.page_path) == (arena.origin, PAGE_PATHS[0])
        assert isinstance((await asker.ask())[-1], Finish)


KEPT = {
    "400": answers("400 Bad Request", b"Content-Type: application/json\r\n", b'{"error":"no"}'),
    "401": answers("401 Unauthorized"),
    "422": answers("422 Unprocessable Content"),
    "429": answers("429 Too Many Requests"),
    "a challenge": answers("403 Forbidden", HTML + b"cf-mitigated: challenge\r\n", b"<html>Just a moment...</html>"),
}


@pytest.mark.parametrize("alive", KEPT.values(), ids=KEPT)
async def test_the_client_keeps_an_origin_where_the_site_refuses_calls(alive: Peer) -> None:
    async with served(alive) as there, Arena() as arena, connected(arena.origin, there) as client:
        client.location.origin = there
        await fails_once(Asker(arena, client, arena.sign_in()))
        assert client.location.origin == there


async def test_the_client_returns_to_the_moved_origin_when_base_url_is_down() -> None:
    """One failure there must not cut the bridge off from the only working origin."""
    async with Arena() as gone:
        base_url = gone.origin
    async with Arena() as there, connected(base_url, there.origin) as client:
        asker = Asker(there, client, there.sign_in())
        client.location.origin = there.origin
        there.faults.arm("server_error")
        await fails_once(asker)
        assert client.location.origin == base_url
        await fails_once(asker)  # a real request would repeat this call at once, since it was not sent
        assert isinstance((await asker.ask())[-1], Finish)
        assert client.location.origin == there.origin


async def test_concurrent_failures_at_an_origin_change_the_origin_once() -> None:
    async with served(closes) as there, Arena() as arena, connected(arena.origin, there, connections=50) as client:
        asker = Asker(arena, client, arena.sign_in())
        client.location.origin = there
        await asyncio.gather(*(fails_once(asker) for _ in range(20)))
        assert client.location.origin == arena.origin
        assert isinstance((await asker.ask())[-1], Finish)


@pytest.mark.parametrize("changes", [{}, {"user_agent": "another"}, {"cf_clearance": "another"}, {"idle_timeout": 9.0}])
async def test_reloading_the_settings_makes_the_client_try_base_url_again(changes: dict[str, Any]) -> None:
    async with Arena() as there, Arena() as arena, connected(arena.origin, there.origin) as client:
        client.location.origin, client.location.page_path = there.origin, "/elsewhere"
        client.reconfigure(replace(client.settings, **changes))
        assert (client.location.origin, client.location.page_path) == (arena.origin, PAGE_PATHS[0])
