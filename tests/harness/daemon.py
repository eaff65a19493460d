"""The daemon as a process of its own, against an arena in this one."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil
from running import Overrides, add_accounts, api_key

import bridge
from bridge.state import keys_document
from bridge.store import StateFolder
from upstream.arena import Arena

ROOT = Path(bridge.__file__).parent.parent
#: What a loaded machine may need to start an interpreter, and to end it, in seconds.
START_SECONDS, STOP_SECONDS = 20, 10


@dataclass(frozen=True)
class Daemon:
    """Where it is, a key to it, and its process."""

    origin: str
    key: str
    process: psutil.Process

    @property
    def memory_bytes(self) -> int:
        """Its resident memory."""
        return self.process.memory_info().rss


@asynccontextmanager
async def running_daemon(arena: Arena, path: Path, overrides: Overrides | None = None) -> AsyncIterator[Daemon]:
    """Run `lmarena-bridge serve` in `path`, with one account and one key, until it is healthy; stop it in the end."""
    folder = StateFolder(path / "state")
    folder.prepare()
    secret, key = api_key(rpm=1_000_000)
    await keys_document(folder).update(lambda kept: (*kept, key))
    await add_accounts(folder, arena.sign_in())
    config, port = path / "bridge.toml", free_port()
    sections = {"server": {"port": port}, "upstream": {"base_url": arena.origin}}
    config.write_text(toml({name: {**sections.get(name, {}), **(overrides or {}).get(name, {})}
                            for name in {*sections, *(overrides or {})}}))
    with (path / "daemon.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bridge", "serve", "--config", str(config), cwd=ROOT, stdout=log, stderr=log
        )
    try:
        daemon = Daemon(f"http://127.0.0.1:{port}", secret, psutil.Process(process.pid))
        await healthy(daemon, process, path / "daemon.log")
        yield daemon
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOP_SECONDS)
            except TimeoutError:
                process.kill()
                await process.wait()


async def healthy(daemon: Daemon, process: asyncio.subprocess.Process, log: Path) -> None:
    """Wait until the daemon could serve a chat. Raises AssertionError with its log if it ends, or takes too long."""
    try:
        async with aiohttp.ClientSession() as http, asyncio.timeout(START_SECONDS):
            while process.returncode is None:
                try:
                    async with http.get(f"{daemon.origin}/health") as response:
                        if response.status == 200:
                            return
                except aiohttp.ClientConnectorError:
                    pass
                await asyncio.sleep(0.05)
    except TimeoutError:
        pass
    raise AssertionError(log.read_text())


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def toml(sections: Overrides) -> str:
    """Sections of plain values as TOML, whose strings, numbers and lists are written as JSON's."""
    return "\n".join(
        f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
        for name, values in sections.items()
    )
