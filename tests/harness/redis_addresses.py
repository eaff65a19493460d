"""Runs Redis on TCP ports: with TLS and a CA made for the test, and with a replica and a sentinel."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from polling import until
from programs import need_program
from redis_server import START_SECONDS

PASSWORD = "as long as any"


@dataclass
class Program:
    """A running server and its port."""

    port: int
    process: asyncio.subprocess.Process

    async def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@asynccontextmanager
async def listening(port: int, folder: Path, *options: str) -> AsyncIterator[Program]:
    """Run redis-server with these options, and wait until something listens on `port`."""
    command = (need_program("redis-server"), *options, "--dir", str(folder), "--bind", "127.0.0.1")
    program = Program(port, await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL))
    try:
        async with asyncio.timeout(START_SECONDS):
            while not await _listens(port):
                assert program.process.returncode is None, command
                await asyncio.sleep(0.02)
        yield program
    finally:
        await program.kill()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


@asynccontextmanager
async def redis_with_tls() -> AsyncIterator[tuple[Program, Path]]:
    """Run a server with a certificate for 127.0.0.1; yield it and the CA's certificate file."""
    with tempfile.TemporaryDirectory(prefix="redis-") as name:
        folder = Path(name)
        authority = ("-subj", "/CN=an authority of our own", "-keyout", folder / "ca.key", "-out", folder / "ca.pem")
        _openssl(*authority)
        signed = ("-CA", folder / "ca.pem", "-CAkey", folder / "ca.key", "-addext", "subjectAltName=IP:127.0.0.1")
        _openssl("-subj", "/CN=redis", *signed, "-keyout", folder / "key.pem", "-out", folder / "cert.pem")
        port = free_port()
        tls = (
            *("--tls-cert-file", folder / "cert.pem", "--tls-key-file", folder / "key.pem"),
            *("--tls-ca-cert-file", folder / "ca.pem", "--tls-auth-clients", "no"),
        )
        options = ("--port", "0", "--tls-port", f"{port}", "--save", "", "--requirepass", PASSWORD)
        async with listening(port, folder, *options, *map(str, tls)) as server:
            yield server, folder / "ca.pem"


def _openssl(*options: str | Path) -> None:
    kind = ("-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
    subprocess.run([need_program("openssl"), "req", *kind, *map(str, options)], check=True, capture_output=True)


@dataclass
class Watched:
    """A master, its replica, and the sentinel that monitors them under the name `service`."""

    master: Program
    replica: Program
    sentinel: Program
    service: str = "bridge"


@asynccontextmanager
async def redis_with_sentinel() -> AsyncIterator[Watched]:
    """Run all three; the sentinel replaces a master that has been down for half a second."""
    async with AsyncExitStack() as stack:
        folders = [Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="redis-"))) for _ in range(3)]
        ports = [free_port() for _ in folders]
        login = ("--save", "", "--requirepass", PASSWORD, "--masterauth", PASSWORD)
        diskless = ("--repl-diskless-sync-delay", "0")
        master = await stack.enter_async_context(
            listening(ports[0], folders[0], "--port", f"{ports[0]}", *login, *diskless)
        )
        following = ("--replicaof", f"127.0.0.1 {ports[0]}")
        replica = await stack.enter_async_context(
            listening(ports[1], folders[1], "--port", f"{ports[1]}", *login, *diskless, *following)
        )
        config = folders[2] / "sentinel.conf"
        config.write_text(
            f"port {ports[2]}\n"
            f"sentinel monitor bridge 127.0.0.1 {ports[0]} 1\n"
            f'sentinel auth-pass bridge "{PASSWORD}"\n'
            "sentinel down-after-milliseconds bridge 500\n"
            "sentinel failover-timeout bridge 5000\n"  # it also waits twice that long before it tries again
        )
        sentinel = await stack.enter_async_context(listening(ports[2], folders[2], str(config), "--sentinel"))
        # It writes down what it learns. A replica that it does not know when the master dies is never promoted.
        await until(lambda: f"known-replica bridge 127.0.0.1 {ports[1]}" in config.read_text())
        yield Watched(master, replica, sentinel)
