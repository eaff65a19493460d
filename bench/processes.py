"""Starts the measured programs, each on its own port, reads their CPU time and memory, and stops them."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

#: How long a program may take to start listening, and to exit, in seconds.
_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 20.0


class NotStarted(Exception):
    """A program did not start; the text is the end of its output."""


@dataclass(frozen=True, slots=True)
class Running:
    """A program's process and its children, and the port it listens on."""

    port: int
    processes: tuple[psutil.Process, ...]

    def cpu_seconds(self) -> float:
        """User and system time so far, from the process's CPU clock: /proc has a resolution of only 10 ms."""
        return sum(time.clock_gettime(~process.pid << 3 | 2) for process in self.processes)  # clock_getcpuclockid(3)

    def peak_bytes(self) -> int:
        """The peak resident memory so far."""
        statuses = (Path(f"/proc/{process.pid}/status").read_text() for process in self.processes)
        return sum(int(status.partition("VmHWM:")[2].split()[0]) * 1024 for status in statuses)

    def pause(self) -> None:
        """Suspend the processes, so that their background work does not affect other measurements."""
        for process in self.processes:
            process.suspend()

    def resume(self) -> None:
        """Resume the processes, which is necessary before they can be stopped."""
        for process in self.processes:
            process.resume()


@asynccontextmanager
async def listening(command: Sequence[str], port: int, cwd: Path, log: Path) -> AsyncIterator[Running]:
    """Run a program, and wait until it listens on `port`. Raises NotStarted."""
    with log.open("wb") as output:
        started = await asyncio.create_subprocess_exec(*command, cwd=cwd, stdout=output, stderr=output)
    try:
        async with asyncio.timeout(_START_SECONDS):
            while not await _listens(port):
                if started.returncode is not None:
                    raise _not_started(log)
                await asyncio.sleep(0.02)
        process = psutil.Process(started.pid)
        yield Running(port, (process, *process.children(recursive=True)))
    except TimeoutError as error:
        raise _not_started(log) from error
    finally:
        await stop(started)


def _not_started(log: Path) -> NotStarted:
    return NotStarted(log.read_text(errors="replace")[-2000:])


async def stop(started: asyncio.subprocess.Process) -> None:
    """Terminate a process; kill it if it takes too long."""
    if started.returncode is None:
        started.terminate()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await started.wait()
        except TimeoutError:
            started.kill()
            await started.wait()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])
