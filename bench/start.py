"""Measures how long the bridge takes to start, and the CPU time that it uses when idle."""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from bench.processes import NotStarted, Running, free_port, stop
from bench.report import Section, Target
from bench.site import MODELS
from bench.stored_state import StoredState
from bench.subjects import Place, Subject, our_bridge

_STORED: Final = StoredState(models=True, conversations=1000)
_READY: Final = b"LMArena Bridge is ready on "
_START_SECONDS: Final = 60.0
#: How long to wait until the models have been read, and then how long to measure the idle bridge, in seconds.
_SETTLING_SECONDS: Final = 1.5
_IDLE_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class _Started:
    """Seconds from exec to ready, the CPU time until then, and the CPU time per second without traffic afterwards."""

    ready: float
    cpu: float
    idle: float


async def started(rounds: int, upstream_port: int, say: Callable[[str], None]) -> Section:
    """Start the bridge repeatedly with compiled byte code, as after `pip install`: the first start compiles it."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    await _start(our_bridge(stored=_STORED), upstream_port)
    seen = []
    for at in range(rounds):
        say(f"start, round {at + 1}")
        seen.append(await _start(our_bridge(stored=_STORED), upstream_port))
    ready = statistics.median(it.ready for it in seen)
    cpu = statistics.median(it.cpu for it in seen)
    idle = statistics.median(it.idle for it in seen)
    table = [
        ("what", "figure", "target"),
        ("from exec to ready, s", f"{ready:.3g}", Target(at_most=0.5, unit="s").judged(ready)),
        ("CPU time of the start, s", f"{cpu:.3g}", ""),
        ("CPU time while idle, ms per s", f"{idle * 1e3:.3g}", "near 0"),
    ]
    notes = [
        f"medians of {rounds} starts with {MODELS} models and {_STORED.conversations:,} conversations",
        "ready is when the log says so: the socket listens and the state has been read",
        f"idle is {_IDLE_SECONDS:g} s without traffic, after the models have been read again",
    ]
    return Section("Start and idleness", table, notes)


async def _start(subject: Subject, upstream_port: int) -> _Started:
    if subject.command is None:
        raise ValueError(f"{subject.name} cannot be started")
    with tempfile.TemporaryDirectory(prefix="bench-start-") as name:
        place = Place(Path(name), free_port(), upstream_port)
        command = await subject.command(place)
        began = time.monotonic()
        process = await asyncio.create_subprocess_exec(*command, cwd=subject.cwd, stderr=asyncio.subprocess.PIPE)
        try:
            async with asyncio.timeout(_START_SECONDS):
                await _says_ready(process)
            ready = time.monotonic() - began
            running = Running(place.port, (psutil.Process(process.pid),))
            cpu = running.cpu_seconds()
            await asyncio.sleep(_SETTLING_SECONDS)
            before = running.cpu_seconds()
            await asyncio.sleep(_IDLE_SECONDS)
            return _Started(ready, cpu, (running.cpu_seconds() - before) / _IDLE_SECONDS)
        finally:
            await stop(process)


async def _says_ready(process: asyncio.subprocess.Process) -> None:
    if process.stderr is None:
        raise ValueError("the process's stderr is not a pipe")
    said = b""
    async for line in process.stderr:
        said += line
        if _READY in line:
            return
    raise NotStarted(said.decode(errors="replace")[-2000:])
