"""What is measured: each a process of its own before the same upstream, started anew for each measurement."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Final

import psutil

import bridge
from bench.scenarios import KEY, MODEL, Requests, Scenario, lmarena_requests, openai_requests
from bridge.keys import ApiKey
from bridge.state import accounts_document, keys_document
from bridge.store import StateFolder
from upstream import cookies
from upstream.accounts import Account
from upstream.arena.accounts import Accounts

#: Names the virtual environment in which LiteLLM's proxy is installed (`pip install 'litellm[proxy]'`).
LITELLM: Final = "LMARENA_BENCH_LITELLM"

_HERE: Final = Path(__file__).parent.parent
_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 10.0


class Skipped(Exception):
    """A subject that is not installed here; the text says so."""


class NotStarted(Exception):
    """A subject that does not come up; the text is what it said last."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a subject runs: a folder for its files, its port, and upstream's."""

    folder: Path
    port: int
    upstream_port: int


@dataclass(frozen=True, slots=True)
class Subject:
    """`command` prepares the folder and says what to run there; without one the load goes to upstream directly."""

    name: str
    version: str
    requests: Callable[[Scenario], Requests]
    command: Callable[[Place], Awaitable[Sequence[str]]] | None
    cwd: Path = _HERE


@dataclass(frozen=True, slots=True)
class Running:
    """A subject's process and its children."""

    port: int
    processes: tuple[psutil.Process, ...]

    def cpu_seconds(self) -> float:
        """User and system time so far, from the process's CPU clock: /proc counts in steps of 10 ms."""
        return sum(time.clock_gettime(~process.pid << 3 | 2) for process in self.processes)  # clock_getcpuclockid(3)

    def peak_bytes(self) -> int:
        """The most memory that was resident so far."""
        statuses = (Path(f"/proc/{process.pid}/status").read_text() for process in self.processes)
        return sum(int(status.partition("VmHWM:")[2].split()[0]) * 1024 for status in statuses)


DIRECT: Final = Subject("direct", "", lmarena_requests, None)


def pipe() -> Subject:
    """A bare aiohttp pipe: what all others are compared with."""

    async def command(place: Place) -> Sequence[str]:
        return sys.executable, "-m", "bench.pipe", str(place.port), str(place.upstream_port)

    return Subject("pipe", f"aiohttp {version('aiohttp')}", lmarena_requests, command)


def our_bridge(name: str = "bridge", tree: Path = _HERE, runner: Sequence[str] = ()) -> Subject:
    """The bridge as `serve` runs it, of this source tree or another's; `runner` stands before `-m bridge`."""

    async def command(place: Place) -> Sequence[str]:
        config = place.folder / "bridge.toml"
        config.write_text(
            f'[server]\nport = {place.port}\nstate_dir = "state"\n'
            f'[upstream]\nbase_url = "http://127.0.0.1:{place.upstream_port}"\n[limits]\nstreams = 10000\n'
        )
        state = StateFolder(place.folder / "state")
        state.prepare()
        key = ApiKey("be0c", "bench", sha256(KEY.encode()).hexdigest(), KEY[-4:], rpm=1_000_000, concurrency=100_000)
        await keys_document(state).update(lambda _: (key,))
        now = time.time()
        session = Accounts().sign_in("bench@example.org", expires_at=int(now) + 7 * 86_400, now=now)
        account = Account("bench", cookies.decode(session.cookie_value))
        await accounts_document(state).update(lambda _: (account,))
        return *(runner or (sys.executable,)), "-m", "bridge", "serve", "--config", str(config)

    return Subject(name, bridge.__version__, openai_requests, command, tree)


def nginx() -> Subject:
    """nginx as a proxy that buffers nothing, one worker."""
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if program is None:
        raise Skipped("nginx is not installed")

    async def command(place: Place) -> Sequence[str]:
        config = place.folder / "nginx.conf"
        temporary = "".join(
            f"{kind}_temp_path {place.folder / kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        config.write_text(f"""
            daemon off; master_process off; pid {place.folder / "pid"}; error_log stderr;
            events {{ worker_connections 20000; }}
            http {{
                access_log off; {temporary} client_body_buffer_size 1m; keepalive_requests 1000000;
                upstream arena {{ server 127.0.0.1:{place.upstream_port}; keepalive 1000; }}
                server {{
                    listen 127.0.0.1:{place.port} backlog=4096;
                    location / {{
                        proxy_pass http://arena; proxy_http_version 1.1; proxy_set_header Connection "";
                        proxy_buffering off; proxy_request_buffering off;
                    }}
                }}
            }}""")
        return program, "-p", str(place.folder), "-c", str(config)

    return Subject("nginx", "", lmarena_requests, command)


def litellm() -> Subject:
    """LiteLLM's proxy, one worker, before the same deltas as OpenAI's frames."""
    program = Path(os.environ.get(LITELLM, "")) / "bin" / "litellm"
    if not program.is_file():
        raise Skipped(f"LiteLLM is not installed: {LITELLM} names no environment with it")

    async def command(place: Place) -> Sequence[str]:
        config = place.folder / "litellm.yaml"
        config.write_text(
            f"model_list:\n  - model_name: {MODEL}\n    litellm_params:\n      model: openai/{MODEL}\n"
            f"      api_base: http://127.0.0.1:{place.upstream_port}/v1\n      api_key: none\n"
            f"general_settings:\n  master_key: {KEY}\n"
        )
        offline = "LITELLM_LOCAL_MODEL_COST_MAP=True"  # or it fetches a list of prices as it starts
        return "env", offline, str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(place.port)

    return Subject("litellm", "", openai_requests, command)


@asynccontextmanager
async def running(subject: Subject, upstream_port: int) -> AsyncIterator[Running]:
    """Run a subject until it is no longer needed. Raises NotStarted."""
    if subject.command is None:
        yield Running(upstream_port, ())
        return
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        place = Place(Path(name), free_port(), upstream_port)
        async with process(await subject.command(place), place.port, subject.cwd, place.folder / "log") as started:
            yield Running(place.port, (started, *started.children(recursive=True)))


@asynccontextmanager
async def process(command: Sequence[str], port: int, cwd: Path, log: Path) -> AsyncIterator[psutil.Process]:
    """Run a program that listens on `port`. Raises NotStarted."""
    with log.open("wb") as output:
        started = await asyncio.create_subprocess_exec(*command, cwd=cwd, stdout=output, stderr=output)
    try:
        async with asyncio.timeout(_START_SECONDS):
            while not await _listens(port):
                if started.returncode is not None:
                    raise _not_started(log)
                await asyncio.sleep(0.02)
        yield psutil.Process(started.pid)
    except TimeoutError as error:
        raise _not_started(log) from error
    finally:
        await _stop(started)


def _not_started(log: Path) -> NotStarted:
    return NotStarted(log.read_text(errors="replace")[-2000:])


async def _stop(started: asyncio.subprocess.Process) -> None:
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
