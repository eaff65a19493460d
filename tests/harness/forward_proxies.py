"""Real forward proxies on loopback (microsocks, tinyproxy), and a recording tap for any connection."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from programs import need_program

#: How long a busy machine may take to start a program, in seconds.
_START_SECONDS = 20.0

_TINYPROXY = """
Port {port}
Listen 127.0.0.1
Timeout 600
MaxClients 100
Allow 127.0.0.1
LogLevel Connect
BasicAuth {user} {password}
"""


@asynccontextmanager
async def microsocks(user: str, password: str) -> AsyncIterator[int]:
    """Run a SOCKS5 proxy with this password; yield its port."""
    port = _free_port()
    words = (need_program("microsocks"), "-i", "127.0.0.1", "-p", str(port), "-u", user, "-P", password)
    async with _running(words, port):
        yield port


@asynccontextmanager
async def tinyproxy(user: str, password: str, folder: Path) -> AsyncIterator[int]:
    """Run an HTTP proxy that supports CONNECT, with this password; yield its port."""
    port = _free_port()
    config = folder / "tinyproxy.conf"
    config.write_text(_TINYPROXY.format(port=port, user=user, password=password))
    async with _running((need_program("tinyproxy"), "-d", "-c", str(config)), port):
        yield port


@asynccontextmanager
async def _running(words: tuple[str, ...], port: int) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(_START_SECONDS):
            while process.returncode is None:  # polled, since there is no event for it
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except ConnectionRefusedError:
                    await asyncio.sleep(0.01)
                else:
                    writer.close()
                    break
        assert process.returncode is None, f"{words[0]} has ended"
        yield
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@dataclass
class Tap:
    """Forwards connections to `port`, and records the bytes `sent` to the server and `received` from it."""

    port: int = 0
    connections: int = 0
    sent: bytearray = field(default_factory=bytearray)
    received: bytearray = field(default_factory=bytearray)


@asynccontextmanager
async def tapped(port: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[Tap]:
    """A tap in front of a port on loopback; with `tls` it is a TLS server, and records the decrypted bytes."""
    tap = Tap()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: bytearray) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                kept += data
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tap.connections += 1
        try:
            near, far = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(copy(reader, far, tap.sent), copy(near, writer, tap.received))

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls) as server:
        tap.port = server.sockets[0].getsockname()[1]
        yield tap


def closed_port() -> int:
    """A port that nothing listens on."""
    return _free_port()


def _free_port() -> int:
    """A free port below the kernel's ephemeral ports, so that it is not taken before the proxy starts."""
    while True:
        port = random.randrange(10_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
