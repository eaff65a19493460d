"""The subjects of the benchmarks, each a separate process in front of the same upstream."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import bridge
from bench.processes import Running, free_port, listening
from bench.requests import KEY, Requests, lmarena_requests, openai_requests
from bench.scenarios import Scenario
from bench.site import MODEL
from bench.stored_state import StoredState
from bench.upstream import TEXT
from bridge.state.documents import StateFolder

#: The main subject.
BRIDGE: Final = "bridge"

_HERE: Final = Path(__file__).parent.parent
#: Where `make bench` installs LiteLLM.
_LITELLM: Final = _HERE / ".venv-litellm"


class Skipped(Exception):
    """A subject is not installed here; the text says so."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a subject runs: a folder for its files, its port, and upstream's port."""

    folder: Path
    port: int
    upstream_port: int


@dataclass(frozen=True, slots=True)
class Subject:
    """A measured program: `command` prepares its folder and returns its command line; None stands for upstream.

    A subject is started again for every measurement. A `slow` one gets fewer requests, and is started once for all
    rounds of a scenario. `mark` occurs exactly once in each delta that it sends.
    """

    name: str
    version: str
    requests: Callable[[Scenario], Requests]
    command: Callable[[Place], Awaitable[Sequence[str]]] | None
    cwd: Path = _HERE
    slow: bool = False
    mark: bytes = TEXT


DIRECT: Final = Subject("direct", "", lmarena_requests, None)


def pipe() -> Subject:
    """A bare aiohttp pipe, the baseline of the comparison."""

    async def command(place: Place) -> Sequence[str]:
        return sys.executable, "-m", "bench.pipe", str(place.port), str(place.upstream_port)

    return Subject("pipe", "", lmarena_requests, command)


def pipe_on_uvloop() -> Subject:
    """The same pipe on uvloop, the stricter baseline, run in LiteLLM's environment, which has aiohttp and uvloop."""
    python = _LITELLM / "bin" / "python"
    if not python.is_file():
        raise Skipped(f"uvloop comes with LiteLLM, which is not installed in {_LITELLM.name}: `make bench` does that")

    async def command(place: Place) -> Sequence[str]:
        return str(python), "-m", "bench.pipe", str(place.port), str(place.upstream_port), "uvloop"

    said = _said(str(python), "-c", "from importlib.metadata import version; print(version('uvloop'))")
    return Subject("pipe on uvloop", said, lmarena_requests, command)


def our_bridge(
    name: str = BRIDGE,
    tree: Path = _HERE,
    runner: Sequence[str] = (),
    stored: StoredState = StoredState(),  # noqa: B008 — frozen
    proxy: str = "",
) -> Subject:
    """The bridge as `serve` runs it, from this or another source tree; `runner` precedes `-m bridge`.

    `proxy` is the URL of the proxy through which it reaches the site.
    """

    async def command(place: Place) -> Sequence[str]:
        config = place.folder / "bridge.toml"
        config.write_text(
            f'[server]\nport = {place.port}\nstate_dir = "state"\n'
            f'[upstream]\nbase_url = "http://127.0.0.1:{place.upstream_port}"\n'
            + (f'proxy = "{proxy}"\n' if proxy else "")
            + "[limits]\nstreams = 10000\n"
        )
        await stored.write(StateFolder(place.folder / "state"))
        return *(runner or (sys.executable,)), "-m", "bridge", "serve", "--config", str(config)

    return Subject(name, bridge.__version__, openai_requests, command, tree)


def nginx() -> Subject:
    """nginx as a proxy without buffering, with one worker."""
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
                access_log off; keepalive_requests 1000000;
                {temporary} client_body_buffer_size 1m; client_max_body_size 0;
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

    return Subject("nginx", _said(program, "-v").rpartition("/")[2], lmarena_requests, command)


def litellm() -> Subject:
    """LiteLLM's proxy with one worker; upstream sends it the same deltas in OpenAI's frames."""
    program = _LITELLM / "bin" / "litellm"
    if not program.is_file():
        raise Skipped(f"LiteLLM is not installed in {_LITELLM.name}: `make bench` does that")

    async def command(place: Place) -> Sequence[str]:
        config = place.folder / "litellm.yaml"
        config.write_text(
            f"model_list:\n  - model_name: {MODEL}\n    litellm_params:\n      model: openai/{MODEL}\n"
            f"      api_base: http://127.0.0.1:{place.upstream_port}/v1\n      api_key: none\n"
            f"general_settings:\n  master_key: {KEY}\n"
        )
        offline = "LITELLM_LOCAL_MODEL_COST_MAP=True"  # otherwise it downloads a list of prices when it starts
        return "env", offline, str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(place.port)

    asking = "from importlib.metadata import version; print(version('litellm'))"
    said = _said(str(program.with_name("python")), "-c", asking)
    return Subject("litellm", said, openai_requests, command, slow=True)


def _said(*command: str) -> str:
    """The output of a program, on stdout or stderr."""
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 — a fixed command
    return (done.stdout + done.stderr).strip()


@asynccontextmanager
async def running(subject: Subject, upstream_port: int) -> AsyncIterator[Running]:
    """Run a subject until it is no longer needed. Raises NotStarted."""
    if subject.command is None:
        yield Running(upstream_port, ())
        return
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        place = Place(Path(name), free_port(), upstream_port)
        command = await subject.command(place)
        async with listening(command, place.port, subject.cwd, place.folder / "log") as started:
            yield started
