"""Runs a real Redis server for a test, on a Unix socket, without persistence."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from programs import need_program

from bridge.shared.address import RedisAddress
from bridge.shared.connecting import connect
from bridge.shared.connection import Command, ConnectionFailed

#: How long a busy machine may take to start the server, in seconds.
START_SECONDS = 20.0
#: How long it may take to reply to a test's own commands, in seconds.
REPLY_SECONDS = 30.0


@dataclass
class RedisServer:
    """A server that can be frozen, and killed and restarted empty."""

    folder: Path
    options: tuple[str, ...] = ()
    password: str = ""
    process: asyncio.subprocess.Process | None = field(default=None, repr=False)

    @property
    def socket(self) -> Path:
        return self.folder / "redis.sock"

    @property
    def url(self) -> str:
        login = f":{self.password}@" if self.password else ""
        return f"unix://{login}{self.socket}"

    @property
    def address(self) -> RedisAddress:
        return RedisAddress.parse(self.url)

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        program = need_program("redis-server")
        self.process = await asyncio.create_subprocess_exec(
            *(program, "--port", "0", "--unixsocket", str(self.socket), "--save", "", "--dir", str(self.folder)),
            *self.options,
            stdout=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(START_SECONDS):
            while not await self._answers():  # noqa: ASYNC110 — another process sets no event
                await asyncio.sleep(0.01)

    async def _answers(self) -> bool:
        try:
            (await connect(self.address, 5.0)).close()
        except ConnectionFailed:
            return False
        return True

    def freeze(self) -> None:
        """Suspend it with SIGSTOP: connections stay open, but nothing is read or answered."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    async def kill(self) -> None:
        """Kill it; all its data is lost."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    async def run(self, *commands: Command) -> list[Any]:
        """Run commands over a separate connection."""
        connection = await connect(self.address, REPLY_SECONDS)
        try:
            return await connection.run(commands)
        finally:
            connection.close()

    async def call(self, *words: bytes | str | int) -> Any:
        (reply,) = await self.run(words)
        return reply


@asynccontextmanager
async def redis_server(*options: str, password: str = "") -> AsyncIterator[RedisServer]:
    """Run a server while the context lasts; if redis-server is not installed, the test is skipped."""
    need_program("redis-server")
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:  # pytest's own paths are too long for a socket
        server = RedisServer(Path(folder), (*options, "--requirepass", password), password)
        try:
            await server.start()
            yield server
        finally:
            await server.kill()
