"""`demo` as a user sees it: a process that prints lines to paste, and leaves no files behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from programs import need_program

from handlers.commands.main import main

CHECKOUT = Path(__file__).parents[2]


@dataclass
class Demo:
    """A running demo and the lines that it has printed."""

    process: Process
    lines: list[str]

    def after(self, label: str) -> str:
        """The text after `label` on its line."""
        return next(line.removeprefix(label).strip() for line in self.lines if line.startswith(label))


@asynccontextmanager
async def running(folder: Path, *options: str) -> AsyncIterator[Demo]:
    """Run a demo whose working folder and temporary files are in `folder`."""
    env = {**os.environ, "PYTHONPATH": str(CHECKOUT), "TMPDIR": str(folder), "COLUMNS": "40"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bridge", "demo", *options, cwd=folder, env=env, stdout=PIPE, stderr=PIPE
    )
    assert process.stdout is not None
    try:
        demo = Demo(process, [])
        async with asyncio.timeout(60):
            while not (demo.lines and demo.lines[-1].startswith("Ctrl-C")):
                demo.lines.append((await process.stdout.readuntil()).decode().rstrip("\n"))
        yield demo
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def paste(line: str) -> str:
    """Run a printed line in a shell, as a user would; return its output."""
    process = await asyncio.create_subprocess_shell(line, stdout=PIPE, stderr=PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


def told(stream: str) -> list[dict[str, object]]:
    """The events of a stream, except `[DONE]`."""
    data = [line.removeprefix("data: ") for line in stream.splitlines() if line.startswith("data: ")]
    return [json.loads(text) for text in data if text != "[DONE]"]


def files_in(folder: Path) -> list[Path]:
    """Everything in `folder`."""
    return list(folder.iterdir())


async def test_the_printed_password_opens_the_dashboard(tmp_path: Path) -> None:
    cookies = aiohttp.CookieJar(unsafe=True)  # accepts cookies of an IP address
    async with running(tmp_path, "--port", "0") as demo, aiohttp.ClientSession(cookie_jar=cookies) as browser:
        address, password = demo.after("dashboard"), demo.after("password")
        async with browser.post(f"{address}/login", data={"password": password}, allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, "/dashboard")
        async with browser.get(demo.after("trouble").split()[0], allow_redirects=False) as answer:
            assert answer.status == 200
            assert "Make the embedded arena fail" in await answer.text()


async def test_the_printed_curl_command_streams_an_answer(tmp_path: Path) -> None:
    need_program("curl")
    async with running(tmp_path, "--port", "0") as demo:
        base_url = demo.after("base URL")
        assert demo.lines[0] == f"LMArena Bridge is ready on {base_url}"
        (curl,) = (line for line in demo.lines if line.startswith("curl "))
        assert shlex.split(curl)[1:3] == ["-N", f"{base_url}/chat/completions"]
        assert f"Bearer {demo.after('API key')}" in curl
        answer = await paste(curl)
        assert answer.endswith("data: [DONE]\n\n")
        assert len(told(answer)) > 3


async def test_the_printed_command_arms_a_fault(tmp_path: Path) -> None:
    need_program("curl")
    async with running(tmp_path, "--port", "0") as demo:
        assert "model_failed_middle" in await paste(demo.after("list faults"))
        await paste(demo.after("arm a fault"))
        broken = await paste(next(line for line in demo.lines if line.startswith("curl ")))
        assert "error" in told(broken)[-1]
        assert "[DONE]" not in broken


async def test_ctrl_c_ends_the_demo_with_status_0_and_leaves_no_files(tmp_path: Path) -> None:
    async with running(tmp_path, "--port", "0") as demo:
        assert files_in(tmp_path)
        demo.process.send_signal(signal.SIGINT)
        async with asyncio.timeout(60):
            assert await demo.process.wait() == 0
        assert demo.process.stderr is not None
        assert b"Traceback" not in await demo.process.stderr.read()
    assert not files_in(tmp_path)


async def test_a_port_in_use_is_replaced_and_reported(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with running(tmp_path, "--port", str(port)) as demo:
            assert f":{port}/" not in demo.after("base URL")
            demo.process.send_signal(signal.SIGINT)
            _, errors = await demo.process.communicate()
            assert f"Port {port} is not available (Address already in use)" in errors.decode()


async def test_a_given_configuration_applies_except_for_the_state_folder_and_the_site(tmp_path: Path) -> None:
    need_program("curl")
    own = tmp_path / "own.toml"
    own.write_text('[server]\nstate_dir = "mine"\n[upstream]\nbase_url = "https://lmarena.ai"\n[limits]\nrpm = 7\n')
    async with running(tmp_path, "--port", "0", "--config", str(own)) as demo:
        answer = await paste(next(line for line in demo.lines if line.startswith("curl ")).replace("-N", "-i", 1))
        assert "x-ratelimit-limit-requests: 7\r" in answer.lower()
        assert "[DONE]" in answer
    assert not (tmp_path / "mine").exists()


def test_the_default_port_is_8000() -> None:
    command = main.get_command(main.make_context("lmarena-bridge", ["demo"]), "demo")
    assert command is not None
    assert {parameter.name: parameter.default for parameter in command.params}["port"] == 8000
