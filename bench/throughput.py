"""Measures how many short requests per second one worker answers, and how many two workers answer.

Everything but the workers uses as little CPU time as possible, so that two processors suffice for two workers: wrk
makes the requests, nginx plays the site with an answer in its configuration, and Redis is on a unix socket.
"""

from __future__ import annotations

import asyncio
import re
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import orjson

from bench import load, site
from bench.processes import Running, free_port, listening
from bench.report import Section, Target
from bench.requests import KEY
from bench.scenarios import SCENARIOS, WARM_UP
from bench.subjects import Skipped, our_bridge, running
from bench.upstream import answer
from bench.workers import redis_server, with_children, with_redis

_SHORT: Final = SCENARIOS["short"]
#: Connections of the load generator: enough that neither of two workers is ever without a request.
_AT_ONCE: Final = 64
_SECONDS: Final = 10
_WARM_UP_SECONDS: Final = 3
_PATIENCE_SECONDS: Final = 60
_READY_SECONDS: Final = 120
_WORKERS: Final = (1, 2)


@dataclass(frozen=True, slots=True)
class _Sample:
    """The number of requests, the duration and the CPU time of each part, in seconds; `each` has one per worker."""

    requests: int
    seconds: float
    parent: float
    each: Sequence[float]
    redis: float
    site: float
    load: float

    @property
    def cpu(self) -> float:
        """CPU time of all parts."""
        return sum(self.each) + self.parent + self.redis + self.site + self.load


async def throughput(rounds: int, say: Callable[[str], None]) -> Section:
    """Measure one worker and two in turn. Raises Skipped without wrk, nginx or redis-server."""
    wrk = _program("wrk")
    samples: dict[int, list[_Sample]] = {workers: [] for workers in _WORKERS}
    with tempfile.TemporaryDirectory(prefix="bench-site-") as folder:
        async with _nginx(Path(folder)) as light:
            for at in range(rounds):
                for workers in _WORKERS:
                    say(f"throughput, round {at + 1}: {workers} workers")
                    samples[workers].append(await _measured(workers, wrk, light))
    return Section("Short requests a second, of one worker and of two", list(_rows(samples)), _notes(rounds))


async def _measured(workers: int, wrk: str, light: Running) -> _Sample:
    async with redis_server() as (socket, process), running(with_redis(workers, socket), light.port) as bridge:
        redis = Running(0, (process,))
        await _all_ready(bridge.port, workers)
        await load.run(bridge.port, our_bridge().requests(WARM_UP), WARM_UP)  # fails unless answers are complete
        await _load(wrk, bridge.port, _WARM_UP_SECONDS, 10_000_000)
        parent, *children = (Running(0, (each,)) for each in with_children(bridge.processes[0]))
        parts = (parent, redis, light, *children)
        before, began, loaded = [it.cpu_seconds() for it in parts], time.monotonic(), _of_children()
        requests = await _load(wrk, bridge.port, _SECONDS, 20_000_000)
        seconds = time.monotonic() - began
        of_parent, of_redis, of_site, *each = (it.cpu_seconds() - was for it, was in zip(parts, before, strict=True))
        if not each:  # the parent is the worker
            of_parent, each = 0.0, [of_parent]
        return _Sample(requests, seconds, of_parent, each, of_redis, of_site, _of_children() - loaded)


async def _all_ready(port: int, workers: int) -> None:
    """Wait until all workers serve, so that their start is not measured as a cost of requests. Raises TimeoutError."""
    headers = {"Authorization": f"Bearer {KEY}"}
    async with asyncio.timeout(_READY_SECONDS), aiohttp.ClientSession(headers=headers) as http:
        ready = 0
        while workers > 1 and ready < workers:
            await asyncio.sleep(0.5)
            async with http.get(f"http://127.0.0.1:{port}/v1/health") as answer:
                ready = sum(each["state"] == "ready" for each in (await answer.json()).get("workers", ()))


async def _load(wrk: str, port: int, seconds: int, first: int) -> int:
    """Make requests, numbered from `first`, for a number of seconds; return how many were answered. Raises Lost."""
    request = our_bridge().requests(_SHORT)(98_765_432).decode()
    text = orjson.dumps(request.replace("%", "%%").replace("98765432", "%08d")).decode()  # also a Lua string
    with tempfile.NamedTemporaryFile("w", prefix="bench-", suffix=".lua") as script:
        script.write(
            f"local text, at = {text}, {first}\nfunction request() at = at + 1; return string.format(text, at) end\n"
        )
        script.flush()
        options = (
            "--timeout",
            f"{_PATIENCE_SECONDS}",
            "-t",
            "1",
            "-c",
            f"{_AT_ONCE}",
            "-d",
            f"{seconds}",
            "-s",
            script.name,
        )
        started = await asyncio.create_subprocess_exec(
            wrk,
            *options,
            "--timeout",
            f"{_PATIENCE_SECONDS}",
            f"http://127.0.0.1:{port}",
            stdout=asyncio.subprocess.PIPE,
        )
        output = (await started.communicate())[0].decode()
    answered = re.search(r"(\d+) requests in", output)
    if answered is None or "Non-2xx" in output or "Socket errors" in output:
        raise load.Lost(output)
    return int(answered[1])


@asynccontextmanager
async def _nginx(folder: Path) -> AsyncIterator[Running]:
    """Run the site: it serves what the bridge reads when it starts, and the same answer to every prompt."""
    program = _program("nginx")
    (folder / "catalog").write_bytes(site.catalog())
    (folder / "page").write_bytes(site.page())
    body = answer(_SHORT.play).decode().replace("\\", "\\\\").replace("'", "\\'")
    temporary = "".join(
        f"{kind}_temp_path {folder / kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    port, config = free_port(), folder / "nginx.conf"
    config.write_text(f"""
        daemon off; master_process off; pid {folder / "pid"}; error_log stderr;
        events {{ worker_connections 2000; }}
        http {{
            access_log off; keepalive_requests 100000000; keepalive_timeout 600; {temporary}
            server {{
                listen 127.0.0.1:{port} backlog=4096; root {folder};
                location /nextjs-api/stream/ {{ default_type text/event-stream; return 200 '{body}'; }}
                location = /nextjs-api/model-catalog {{ default_type application/json; try_files /catalog =404; }}
                location = /api/me {{ default_type application/json; return 200 '{site.me().decode()}'; }}
                location / {{ default_type text/html; try_files /page =404; }}
            }}
        }}""")
    async with listening((program, "-p", str(folder), "-c", str(config)), port, folder, folder / "log") as started:
        yield started


def _program(name: str) -> str:
    """A program's path. Raises Skipped."""
    found = shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/bin:/bin")
    if found is None:
        raise Skipped(f"{name} is not installed")
    return found


def _of_children() -> float:
    """CPU time of ended child processes; the difference of two calls is wrk's if no other child ended in between."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _rows(samples: Mapping[int, Sequence[_Sample]]) -> Iterator[Sequence[str]]:
    def row(measure: str, of: Callable[[_Sample], float], digits: int = 3) -> tuple[Sequence[str], Sequence[float]]:
        figures = [statistics.median(map(of, samples[workers])) for workers in _WORKERS]
        return (measure, *(f"{figure:.{digits}g}" for figure in figures)), figures

    def each(measure: str, of: Callable[[_Sample], float]) -> Sequence[str]:
        return (*row(measure, lambda it: of(it) / it.requests * 1e3)[0], "")

    yield "measure", "1 worker", "2 workers", "target"
    cells, rate = row("requests a second", lambda it: it.requests / it.seconds, 4)
    ratio = rate[1] / rate[0]
    yield *cells, f"{ratio:.2f} × ({Target(at_least=1.7).judged(ratio)})"
    cells, cost = row("the workers' CPU per request, ms", lambda it: sum(it.each) / it.requests * 1e3)
    alone = len(_WORKERS) * cost[0] / cost[1]
    yield *cells, f"{alone:.2f} × where each worker has a processor to itself"
    yield *row("the busiest worker's share", lambda it: max(it.each) / sum(it.each))[0], ""
    yield each("their parent's CPU, ms", lambda it: it.parent)
    yield each("Redis' CPU, ms", lambda it: it.redis)
    yield each("the site's CPU (nginx), ms", lambda it: it.site)
    yield each("the load's CPU (wrk), ms", lambda it: it.load)
    cells, whole = row("all CPU per request, ms", lambda it: it.cpu / it.requests * 1e3)
    yield *cells, f"{len(_WORKERS) * cost[0] / whole[1]:.2f} × where all share two processors"
    yield *row("processors in use", lambda it: it.cpu / it.seconds)[0], ""


def _notes(rounds: int) -> Sequence[str]:
    return [
        f"medians of {rounds} rounds of {_SECONDS} s; {_AT_ONCE} connections, each with one request after the other",
        "each request asks something new: none joins or repeats another",
        "the rate says something where processors in use are as many as there are; the CPU per request, always:",
        "by it is reckoned how many times the requests of one worker, on a processor to itself, two workers answer",
    ]
