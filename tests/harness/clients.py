"""Unmodified clients, each in its own environment, against a bridge in a separate process.

`make test-clients` installs the environments in .venv-clients: a folder for each file of requirements/clients.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from daemon import ROOT

from upstream.arena import Arena, Evaluation
from upstream.arena.faults import STREAM_KINDS

ENVIRONMENTS: Final = ROOT / ".venv-clients"
PROGRAMS: Final = ROOT / "tests" / "clients" / "programs"
#: The time limit for a client to start and hold its conversation, in seconds.
SECONDS: Final = 90
_LINE_BYTES: Final = 16 * 1024 * 1024  # the longest answer of a program
#: The model that clients ask unless a test says otherwise: it sees pictures, and no client knows it by name.
MODEL: Final = "mistral-large-4"
#: Aliases of MODEL under names that Codex knows; the second belongs to its newest model family.
ALIASES: Final = {"gpt-5.5": MODEL, "gpt-6.2-sol": MODEL}

#: The marks of client tests: only `make test-clients` runs them, and all share the event loop that reads the log.
CLIENTS: Final = [pytest.mark.clients, pytest.mark.asyncio(loop_scope="session")]  # pytest wants a list

#: Environment variables that turn off the clients' telemetry and update checks.
_QUIET: Final = {
    "AIDER_ANALYTICS": "false",
    "AIDER_CHECK_UPDATE": "false",
    "AI_SDK_LOG_WARNINGS": "false",
    "ANONYMIZED_TELEMETRY": "false",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "LANGCHAIN_TRACING_V2": "false",
    "LANGSMITH_TRACING": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_TELEMETRY": "False",
    "NO_UPDATE_NOTIFIER": "1",
    "OTEL_SDK_DISABLED": "true",
}


@dataclass(frozen=True)
class FinishedProgram:
    """The exit status and the output of a program."""

    status: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Everything that it printed, for the message of a failing test."""
        return f"{self.out}\n{self.err}"


@dataclass(frozen=True)
class Conversation:
    """A conversation as the client saw it: the pieces of each answer as received, and the final exception, if any."""

    answers: Sequence[Sequence[str]]
    error: Mapping[str, str] | None

    @property
    def texts(self) -> list[str]:
        """The complete answers."""
        return ["".join(pieces) for pieces in self.answers]


@dataclass
class Served:
    """A bridge in a separate process, its arena, and a folder that belongs to this test."""

    origin: str
    key: str
    arena: Arena
    programs: Programs
    folder: Path

    @property
    def base_url(self) -> str:
        """The base URL with which a client is configured."""
        return f"{self.origin}/v1"

    @property
    def calls(self) -> list[str]:
        """The kind of each turn that the site received during this test: `create`, `follow-up` or `regenerate`."""
        return [call.kind for call in self.arena.calls if call.kind in STREAM_KINDS]

    @property
    def pictures(self) -> list[str]:
        """The SHA-256 of each picture that models were shown during this test, in hexadecimal digits."""
        return [
            attachment["sha256"]
            for call in self.arena.calls
            if call.kind == "create" and call.evaluation_id is not None
            for message in self.arena.evaluations[call.evaluation_id].messages
            for attachment in message.attachments
        ]

    @property
    def last_evaluation(self) -> Evaluation:
        """The evaluation of the site's most recent turn."""
        found = next(call.evaluation_id for call in reversed(self.arena.calls) if call.kind in STREAM_KINDS)
        assert found is not None
        return self.arena.evaluations[found]

    async def converse(
        self, client: Client, *turns: str, picture: bytes | None = None, model: str = MODEL, task: str = "talk"
    ) -> Conversation:
        """Have a client's program send `turns` in order, the first with the picture; `task` names what it does."""
        path = None
        if picture is not None:
            path = self.folder / "picture.png"
            path.write_bytes(picture)
        job = {
            "base_url": self.base_url,
            "key": self.key,
            "model": model,
            "turns": turns,
            "picture": None if path is None else str(path),
            "task": task,
        }
        reply = await (await self.programs.started(client)).does(job)
        return Conversation(reply["answers"], reply["error"])

    async def run(
        self,
        command: Sequence[str],
        *words: str,
        environ: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
        folder: Path | None = None,
    ) -> FinishedProgram:
        """Run a command until it exits. Its HOME is this test's folder; it works there too unless `folder` is given."""
        given = DEVNULL if stdin is None else PIPE
        process = await _start([*command, *words], self.folder, environ or {}, given, PIPE, folder)
        try:
            out, err = await asyncio.wait_for(process.communicate(stdin), SECONDS)
        finally:
            await _kill(process)
        assert process.returncode is not None
        return FinishedProgram(process.returncode, out.decode(), err.decode())


@dataclass(frozen=True)
class Client:
    """A program in tests/clients/programs, and the environment whose interpreter runs it."""

    environment: str
    program: str

    def command(self, folder: Path) -> list[str]:
        """The command line of the program. A Node.js program runs from a copy in `folder`, next to its packages."""
        if not self.program.endswith(".mjs"):
            return [str(installed(self.environment, "bin/python")), str(PROGRAMS / self.program)]
        if not (folder / "node_modules").exists():
            for source in PROGRAMS.glob("*.mjs"):
                shutil.copy(source, folder)
            (folder / "node_modules").symlink_to(installed(self.environment, "node_modules"))
        return [node(self.environment), str(folder / self.program)]


class Program:
    """A running client program, which processes one job after another (tests/clients/programs/job.py)."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    async def does(self, job: Mapping[str, object]) -> dict[str, Any]:
        """Run a job and return its reply. Raises AssertionError with the program's output if it exits instead.

        A program that exceeds the time limit is killed: its late reply would be taken for that of the next job.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job).encode() + b"\n")
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), SECONDS)
        except TimeoutError:
            await self.stop()
            raise
        assert line, self._log.read_text()
        reply: dict[str, Any] = json.loads(line)
        return reply

    @property
    def ended(self) -> bool:
        """Whether it has exited."""
        return self._process.returncode is not None

    async def stop(self) -> None:
        """Kill it."""
        await _kill(self._process)


class Programs:
    """The programs that tests have started so far, each with its own HOME below `folder`; they run until `stop`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[Client, Program] = {}

    async def started(self, client: Client) -> Program:
        """The client's program, started if it is not running."""
        if client not in self._running or self._running[client].ended:
            folder = self._folder / client.program
            folder.mkdir(exist_ok=True)
            log = folder / "stderr"
            with log.open("wb") as stderr:
                process = await _start(client.command(folder), folder, {}, PIPE, stderr.fileno())
            self._running[client] = Program(process, log)
        return self._running[client]

    async def stop(self) -> None:
        """Kill all programs."""
        for program in self._running.values():
            await program.stop()


async def _start(
    command: Sequence[str], home: Path, environ: Mapping[str, str], stdin: int, stderr: int, folder: Path | None = None
) -> asyncio.subprocess.Process:
    """Start a program that does not inherit this process's environment, except for PATH."""
    own = {"HOME": str(home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", **_QUIET, **environ}
    return await asyncio.create_subprocess_exec(
        *command, cwd=folder or home, env=own, stdin=stdin, stdout=PIPE, stderr=stderr, limit=_LINE_BYTES
    )


async def _kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()


def installed(environment: str, path: str) -> Path:
    """A file of an environment; without it the test is skipped, or fails where skips are forbidden (see conftest)."""
    found = ENVIRONMENTS / environment / path
    if not found.exists():
        pytest.skip(f"{found} is not there: `make test-clients` installs it")
    return found


def node(environment: str) -> str:
    """The Node.js in an environment, since clients require a newer version than distributions ship."""
    found = sorted((ENVIRONMENTS / environment / "node_modules").glob("node-linux-*/bin/node"))
    if not found:
        pytest.skip(f"the environment {environment} has no Node.js: `make test-clients` installs it")
    return str(found[0])
