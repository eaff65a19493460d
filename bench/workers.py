"""Measures the cost of shared state and the gain of a second worker: files, Redis, and Redis with two workers."""

from __future__ import annotations

import asyncio
import shutil
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from bench import load
from bench.processes import Running, stop
from bench.report import Section, Target
from bench.scenarios import SCENARIOS, WARM_UP, Scenario
from bench.stored_state import StoredState
from bench.subjects import BRIDGE, Place, Skipped, Subject, our_bridge, running
from bridge.state.documents import StateFolder

#: The number of workers that share Redis, by name; 0 means one process with its state in files.
_WAYS: Final = {"files": 0, "redis": 1, "redis, 2 workers": 2}
_SCENARIOS: Final = (SCENARIOS["short"], SCENARIOS["alone"])
_START_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class _Sample:
    """The duration and the CPU time of each part, in seconds; `ttft` is the median time to the first delta."""

    seconds: float
    cpu: float
    redis: float
    load: float
    ttft: float


async def shared(rounds: int, upstream_port: int, say: Callable[[str], None]) -> Section:
    """Measure each of `_WAYS` in turn. Raises Skipped without redis-server."""
    samples: dict[tuple[str, str], list[_Sample]] = defaultdict(list)
    for at in range(rounds):
        for way, workers in _WAYS.items():
            say(f"workers, round {at + 1}: {way}")
            async with redis_server() as (redis, server), running(with_redis(workers, redis), upstream_port) as started:
                await load.run(started.port, our_bridge().requests(WARM_UP), WARM_UP)
                bridge = Running(started.port, with_children(started.processes[0]))  # the workers have started by now
                for scenario in _SCENARIOS:
                    samples[scenario.name, way].append(await _measure(scenario, bridge, Running(0, (server,))))
    return Section("Redis, and a second worker", list(_rows(samples)), _notes(rounds))


async def _measure(scenario: Scenario, bridge: Running, redis: Running) -> _Sample:
    began, loaded = time.monotonic(), time.process_time()
    cpu, of_redis = bridge.cpu_seconds(), redis.cpu_seconds()
    tally = await load.run(bridge.port, our_bridge().requests(scenario), scenario)
    return _Sample(
        time.monotonic() - began,
        bridge.cpu_seconds() - cpu,
        redis.cpu_seconds() - of_redis,
        time.process_time() - loaded,
        statistics.median(tally.ttfts),
    )


def with_redis(workers: int, redis: Path) -> Subject:
    """The bridge with its state in files (0 workers), or in this Redis."""
    if not workers:
        return our_bridge()

    async def command(place: Place) -> Sequence[str]:
        config = place.folder / "bridge.toml"
        config.write_text(
            f'[server]\nport = {place.port}\nstate_dir = "state"\nworkers = {workers}\n'
            f'[redis]\nurl = "unix://{redis}"\ntimeout = 10\n'
            f'[upstream]\nbase_url = "http://127.0.0.1:{place.upstream_port}"\n'
        )
        await StoredState().write(StateFolder(place.folder / "state"))
        moving = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bridge", "state", "import", "--config", str(config)),
            stdout=asyncio.subprocess.DEVNULL,
        )
        await moving.wait()
        return sys.executable, "-m", "bridge", "serve", "--config", str(config)

    return Subject(BRIDGE, "", our_bridge().requests, command)


@asynccontextmanager
async def redis_server() -> AsyncIterator[tuple[Path, psutil.Process]]:
    """Run an empty Redis that keeps nothing on disk; yield its socket and its process."""
    program = shutil.which("redis-server")
    if program is None:
        raise Skipped("redis-server is not installed")
    with tempfile.TemporaryDirectory(prefix="bench-redis-") as folder:
        path = Path(folder) / "redis.sock"
        options = ("--port", "0", "--unixsocket", str(path), "--save", "", "--dir", folder)
        started = await asyncio.create_subprocess_exec(program, *options, stdout=asyncio.subprocess.DEVNULL)
        try:
            async with asyncio.timeout(_START_SECONDS):
                while not path.exists():  # noqa: ASYNC110 — another process sets no event
                    await asyncio.sleep(0.02)
            yield path, psutil.Process(started.pid)
        finally:
            await stop(started)


def with_children(process: psutil.Process) -> tuple[psutil.Process, ...]:
    """A process and all its descendants."""
    return (process, *process.children(recursive=True))


def _rows(samples: Mapping[tuple[str, str], Sequence[_Sample]]) -> Iterator[Sequence[str]]:
    yield "scenario", "measure", *_WAYS, "target"
    for scenario in _SCENARIOS:
        yield from _rows_of(scenario, [samples[scenario.name, way] for way in _WAYS])


def _rows_of(scenario: Scenario, samples: Sequence[Sequence[_Sample]]) -> Iterator[Sequence[str]]:
    def medians(of: Callable[[_Sample], float]) -> list[float]:
        return [statistics.median(map(of, each)) for each in samples]

    def row(measure: str, figures: Sequence[float], judged: str = "") -> Sequence[str]:
        return scenario.name, measure, *(f"{figure:.3g}" for figure in figures), judged

    requests, ms = scenario.streams, 1e3
    cpu = medians(lambda it: it.cpu / requests * ms)
    ratio = cpu[1] / cpu[0]
    yield row("CPU per request, ms", cpu, f"{ratio:.2f} × ({Target(at_most=1.5).judged(ratio)})")
    yield row("Redis' own CPU, ms", medians(lambda it: it.redis / requests * ms))
    yield row("the load's own CPU, ms", medians(lambda it: it.load / requests * ms))
    ttft = medians(lambda it: it.ttft * ms)
    added = ttft[1] - ttft[0]
    yield row("first delta, p50, ms", ttft, f"{added:+.2f} ms ({Target(at_most=1, unit='ms').judged(added)})")
    rate = medians(lambda it: requests / it.seconds)
    if scenario.at_once > 1:
        ratio = rate[2] / rate[1]
        yield row("requests a second", rate, f"{ratio:.2f} × ({Target(at_least=1.7).judged(ratio)})")


def _notes(rounds: int) -> Sequence[str]:
    return [
        f"medians of {rounds} rounds, in which the ways take turns; short: 32 at once, alone: one at a time",
        "CPU is user and system time of the bridge's processes, their parent too; a request's share of each",
        "load, upstream, Redis and the workers share the processors: with fewer than five the rate means nothing",
        "Redis is on a unix socket, and writes nothing to disk",
    ]
