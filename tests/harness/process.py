"""Runs daemons as separate processes, one after another with one state folder, with an arena in this process."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from daemon import ROOT, toml
from running import Overrides, add_accounts, api_key

from bridge.access.keys import ApiKey
from bridge.config.schema import Config
from bridge.state.documents import StateFolder
from bridge.state.state import keys_document
from bridge.tasks import TaskOwner
from upstream.arena import Arena, Session

#: How long a busy machine may take to start an interpreter, in seconds.
START_SECONDS = 60.0
READY = "LMArena Bridge is ready on "

#: Passes a socket to the daemon like a service manager, sd_listen_fds(3): as descriptor 3, announced by process id.
_HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass
class DaemonProcess:
    """A running `lmarena-bridge serve`, and its log."""

    process: asyncio.subprocess.Process
    origin: str = ""
    log: list[str] = field(default_factory=list)
    _unread: asyncio.Queue[str | None] = field(default_factory=asyncio.Queue)

    async def read_log(self) -> None:
        """Read the log until its end."""
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.log.append(line.decode().rstrip("\n"))
            self._unread.put_nowait(self.log[-1])
        self._unread.put_nowait(None)

    async def logs(self, text: str, within: float = 10.0) -> str:
        """Wait for the next line with this text, for `within` seconds. Raises AssertionError with the log."""
        try:
            async with asyncio.timeout(within):
                while (line := await self._unread.get()) is not None:
                    if text in line:
                        return line
        except TimeoutError:
            pass
        raise AssertionError("\n".join(["no such line:", text, *self.log]))

    async def is_ready(self) -> None:
        """Wait until it says that it is ready, and where."""
        line = await self.logs(READY, START_SECONDS)
        self.origin = line.partition(READY)[2].partition("/v1")[0]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    async def ends(self, within: float = 20.0) -> int:
        """Wait for its exit status, for `within` seconds. Raises AssertionError with the log."""
        try:
            return await asyncio.wait_for(self.process.wait(), within)
        except TimeoutError:
            raise AssertionError("\n".join(["it is still running:", *self.log])) from None

    async def stop(self) -> tuple[int, float]:
        """Send SIGTERM; return the exit status, and how long the shutdown took in seconds."""
        began = time.monotonic()
        self.signal(signal.SIGTERM)
        return await self.ends(), time.monotonic() - began


class Home:
    """A folder with a bridge.toml, a state folder, a key and an account."""

    def __init__(self, arena: Arena, path: Path) -> None:
        self.arena = arena
        self.folder = StateFolder(path / "state")
        self.config = path / "bridge.toml"
        self.secret, self.key = api_key(rpm=1_000_000)
        self.session: Session = arena.sign_in()

    async def prepare(self) -> None:
        """Write everything."""
        self.folder.prepare()
        self.configure()
        await self.add_key(self.key)
        await add_accounts(self.folder, self.session)

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of a request."""
        return {"Authorization": f"Bearer {self.secret}"}

    def configure(self, overrides: Overrides | None = None) -> None:
        """Write bridge.toml."""
        sections: dict[str, dict[str, object]] = {
            "server": {"port": 0, "drain_seconds": 20},
            "upstream": {"base_url": self.arena.origin},
        }
        for section, values in (overrides or {}).items():
            sections.setdefault(section, {}).update(values)
        Config.read(sections)  # detects mistakes of the test
        self.config.write_text(toml(sections))

    async def add_key(self, key: ApiKey) -> None:
        """Add a key as `keys add` does."""
        await keys_document(self.folder).update(lambda kept: (*kept, key))

    @asynccontextmanager
    async def launch(
        self,
        inherited: socket.socket | None = None,
        *,
        program: Sequence[str] = (sys.executable, "-m", "bridge"),
        environ: Mapping[str, str] | None = None,
    ) -> AsyncIterator[DaemonProcess]:
        """Start a daemon without waiting until it is ready; on exit, kill it if it is still running.

        `program` replaces the usual command; `environ` is added to the environment.
        """
        words = [*program, "serve", "--config", str(self.config)]
        if inherited is not None:
            words = [sys.executable, "-c", _HAND_OVER, str(inherited.fileno()), *words]
        process = await asyncio.create_subprocess_exec(
            *words,
            cwd=ROOT,
            env={**os.environ, **(environ or {})},
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=[inherited.fileno()] if inherited is not None else [],
        )
        daemon = DaemonProcess(process)
        async with TaskOwner() as tasks:
            reading = tasks.spawn(daemon.read_log(), name="read log")
            try:
                yield daemon
            finally:
                if process.returncode is None:
                    process.kill()
                await process.wait()
                await reading

    @asynccontextmanager
    async def serve(self, inherited: socket.socket | None = None, **options: Any) -> AsyncIterator[DaemonProcess]:
        """Start a daemon as `launch` does, and wait until it is ready."""
        async with self.launch(inherited, **options) as daemon:
            await daemon.is_ready()
            yield daemon
