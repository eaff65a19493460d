"""Clients that nobody changed, each in its own environment, against a bridge that is a process of its own.

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
#: What a client may take to start and have its conversation, in seconds.
SECONDS: Final = 90
_LINE_BYTES: Final = 16 * 1024 * 1024  # the longest answer of a program
#: The model that clients ask unless a test says otherwise: it sees pictures, and no client knows it by name.
MODEL: Final = "mistral-large-4"
#: Names of models that Codex knows, one of them of its newest family, and what they mean here.
ALIASES: Final = {"gpt-5.5": MODEL, "gpt-6.2-sol": MODEL}

#: Every test of a client: run by `make test-clients` alone, all in the loop in which the daemon's log is read.
CLIENTS: Final = [pytest.mark.clients, pytest.mark.asyncio(loop_scope="session")]  # pytest wants a list

#: What keeps clients from reporting to their makers and from looking for news of themselves.
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
    """A program that has ended by itself."""

    status: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """All that it printed, for a person or a failing test to read."""
        return f"{self.out}\n{self.err}"


@dataclass(frozen=True)
class Conversation:
    """What a client had of a conversation: the pieces of each answer as they came, and what it raised in the end."""

    answers: Sequence[Sequence[str]]
    error: Mapping[str, str] | None

    @property
    def texts(self) -> list[str]:
        """The answers, whole."""
        return ["".join(pieces) for pieces in self.answers]


@dataclass
class Served:
    """A bridge in a process of its own, its arena, and a folder that is this test's alone."""

    origin: str
    key: str
    arena: Arena
    programs: Programs
    folder: Path

    @property
    def base_url(self) -> str:
        """What a client is configured with."""
        return f"{self.origin}/v1"

    @property
    def calls(self) -> list[str]:
        """What the site was asked during this test, in order: `create`, `follow-up` or `regenerate` for each turn."""
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
        """The conversation of the site that was used last."""
        found = next(call.evaluation_id for call in reversed(self.arena.calls) if call.kind in STREAM_KINDS)
        assert found is not None
        return self.arena.evaluations[found]

    async def converse(
        self, client: Client, *turns: str, picture: bytes | None = None, model: str = MODEL, task: str = "talk"
    ) -> Conversation:
        """Let a client's program say `turns`, one after the other, with the picture in the first; `task` is how."""
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
        """Run a command to its end, at home in this test's folder; it works there too, or in `folder`."""
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
        """What starts the program. One of Node.js runs from a copy in `folder`, beside its packages."""
        if not self.program.endswith(".mjs"):
            return [str(installed(self.environment, "bin/python")), str(PROGRAMS / self.program)]
        if not (folder / "node_modules").exists():
            for source in PROGRAMS.glob("*.mjs"):
                shutil.copy(source, folder)
            (folder / "node_modules").symlink_to(installed(self.environment, "node_modules"))
        return [node(self.environment), str(folder / self.program)]


class Program:
    """A client's program while it runs: it takes one job after the other (tests/clients/programs/job.py)."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    async def does(self, job: Mapping[str, object]) -> dict[str, Any]:
        """Have a job done. Raises AssertionError with what the program printed, if it ends instead.

        A program that takes too long is ended: its reply would be taken for that of the next job.
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
        """Whether it runs no more."""
        return self._process.returncode is not None

    async def stop(self) -> None:
        """End it."""
        await _kill(self._process)


class Programs:
    """The programs that tests have started so far, each at home in `folder`; they go on until `stop`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[Client, Program] = {}

    async def started(self, client: Client) -> Program:
        """The client's program, which starts now unless it runs."""
        if client not in self._running or self._running[client].ended:
            folder = self._folder / client.program
            folder.mkdir(exist_ok=True)
            log = folder / "stderr"
            with log.open("wb") as stderr:
                process = await _start(client.command(folder), folder, {}, PIPE, stderr.fileno())
            self._running[client] = Program(process, log)
        return self._running[client]

    async def stop(self) -> None:
        """End all of them."""
        for program in self._running.values():
            await program.stop()


async def _start(
    command: Sequence[str], home: Path, environ: Mapping[str, str], stdin: int, stderr: int, folder: Path | None = None
) -> asyncio.subprocess.Process:
    """Start a program without what this process has in its environment."""
    own = {"HOME": str(home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", **_QUIET, **environ}
    return await asyncio.create_subprocess_exec(
        *command, cwd=folder or home, env=own, stdin=stdin, stdout=PIPE, stderr=stderr, limit=_LINE_BYTES
    )


async def _kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()


def installed(environment: str, path: str) -> Path:
    """A file of an environment; without it the test skips, or fails where no test may (see conftest)."""
    found = ENVIRONMENTS / environment / path
    if not found.exists():
        pytest.skip(f"{found} is not there: `make test-clients` installs it")
    return found


def node(environment: str) -> str:
    """The Node.js that an environment brings along, since clients want a newer one than systems have."""
    found = sorted((ENVIRONMENTS / environment / "node_modules").glob("node-linux-*/bin/node"))
    if not found:
        pytest.skip(f"the environment {environment} has no Node.js: `make test-clients` installs it")
    return str(found[0])
