"""Real connections: over TLS with a private CA, and to the server that the sentinels name."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest
from places import linked
from polling import until
from redis_addresses import PASSWORD, Program, Watched, free_port, listening, redis_with_sentinel, redis_with_tls

from bridge.shared.address import RedisAddress
from bridge.shared.availability import Phase
from bridge.shared.connecting import connect
from bridge.shared.connection import ConnectionFailed
from bridge.shared.errors import SharedStateDown
from bridge.shared.link import Link, LinkSettings

#: `redis.timeout` in seconds, long enough for a busy machine.
TIMEOUT = 10.0
LOGIN = quote(PASSWORD)


async def works(link: Link) -> None:
    """Check that commands are answered and news received."""
    heard: list[str] = []
    link.on_news("keys", heard.append)
    await link.started()
    await until(lambda: heard == [""], within=20)
    assert await link.call(("SET", link.key("a"), "1")) == b"OK"
    await link.call(link.publish_command("keys", "7"))
    await until(lambda: heard == ["", "7"], within=20)


async def test_an_idle_connection_is_probed_by_keep_alives(tmp_path: Path) -> None:
    """Nothing is sent on the connection for news, so only a probe shows that a firewall has dropped it."""
    port = free_port()
    async with (
        listening(port, tmp_path, "--port", f"{port}", "--save", ""),
        linked(RedisAddress.parse(f"redis://127.0.0.1:{port}"), LinkSettings("one", timeout=TIMEOUT)) as link,
    ):
        await works(link)
        await until(lambda: len(found := seconds_to_probes(port)) == 2 and max(found) <= 15)


def seconds_to_probes(port: int) -> list[float]:
    """Return the seconds until each idle connection to this port sends its next probe, see proc(5)."""
    found = []
    for row in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, _, remote, _, _, timer, *_ = row.split()
        kind, _, ticks = timer.partition(":")
        if remote == f"0100007F:{port:04X}" and kind == "02":  # a keep-alive timer
            found.append(int(ticks, 16) / os.sysconf("SC_CLK_TCK"))
    return found


# --- TLS ---


@pytest.fixture
async def tls() -> AsyncIterator[tuple[Program, Path]]:
    async with redis_with_tls() as found:
        yield found


async def test_tls_connections_are_verified_against_a_private_ca(
    tls: tuple[Program, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, authority = tls
    address = RedisAddress.parse(f"rediss://:{LOGIN}@127.0.0.1:{server.port}/2")
    with pytest.raises(ConnectionFailed, match="certificate verify failed"):
        await connect(address, TIMEOUT)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    async with linked(address, LinkSettings("one", timeout=TIMEOUT)) as link:
        await works(link)
    named_otherwise = RedisAddress.parse(f"rediss://:{LOGIN}@localhost:{server.port}/2")
    with pytest.raises(ConnectionFailed, match="mismatch"):
        await connect(named_otherwise, TIMEOUT)


async def test_connecting_without_tls_to_a_tls_server_fails(tls: tuple[Program, Path]) -> None:
    server, _ = tls
    with pytest.raises(ConnectionFailed):
        await connect(RedisAddress.parse(f"redis://:{LOGIN}@127.0.0.1:{server.port}"), TIMEOUT)


async def test_a_server_that_does_not_speak_redis_protocol_is_reported() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ConnectionFailed, match="not Redis' protocol"):
            await connect(RedisAddress.parse(f"redis://127.0.0.1:{port}"), TIMEOUT)


# --- sentinels ---


@pytest.fixture
async def watched() -> AsyncIterator[Watched]:
    async with redis_with_sentinel() as watched:
        yield watched


def silent_port() -> socket.socket:
    """Return the socket of a server that accepts connections but never answers."""
    return socket.create_server(("127.0.0.1", 0))


async def test_the_link_follows_the_sentinels_to_a_new_master_after_a_failover(watched: Watched) -> None:
    with silent_port() as silent, silent_port() as closed:
        gone = closed.getsockname()[1]
        closed.close()
        hosts = f"127.0.0.1:{gone},127.0.0.1:{silent.getsockname()[1]},127.0.0.1:{watched.sentinel.port}"
        address = RedisAddress.parse(f"redis+sentinel://:{LOGIN}@{hosts}/{watched.service}/1")
        async with linked(address, LinkSettings("one", timeout=TIMEOUT, connect_timeout=60)) as link:
            await works(link)
            first = link.run_id
            await until(lambda: link.availability.phase is Phase.UP, within=20)
            await followed(watched, link)
            await watched.master.kill()
            await until(lambda: link.usable and link.run_id != first, within=60)
            async with asyncio.timeout(60):
                while await kept(link) != b"1":  # noqa: ASYNC110 — Redis sets no event
                    await asyncio.sleep(0.05)


async def followed(watched: Watched, link: Link) -> None:
    """Wait until the replica has the key that was written."""
    replica = RedisAddress.parse(f"redis://:{LOGIN}@127.0.0.1:{watched.replica.port}/1")
    connection = await connect(replica, TIMEOUT)
    async with asyncio.timeout(60):
        while await connection.run([("GET", link.key("a"))]) != [b"1"]:  # noqa: ASYNC110 — Redis sets no event
            await asyncio.sleep(0.05)
    connection.close()


async def kept(link: Link) -> object:
    try:
        return await link.call(("GET", link.key("a")))
    except SharedStateDown:
        return None


async def test_a_service_unknown_to_the_sentinels_is_reported(watched: Watched) -> None:
    address = RedisAddress.parse(f"redis+sentinel://:{LOGIN}@127.0.0.1:{watched.sentinel.port}/nothing")
    with pytest.raises(ConnectionFailed, match="No master found for 'nothing'"):
        await connect(address, TIMEOUT)
