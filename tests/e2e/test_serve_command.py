"""`serve` and `reload`: the exit code and the message on stderr when the daemon cannot start."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from certificates import server_context
from commands import COMMAND, SECONDS, arun, run, spawn
from running import RunningBridge

from upstream.arena import Arena

pytestmark = pytest.mark.usefixtures("elsewhere")

#: A configuration with any free port, since the user of this machine may run a bridge on the default port.
ANY_PORT = "[server]\nport = 0\n"


def configure(arena: Arena) -> None:
    """Write a configuration for a daemon that talks to `arena`, on any free port."""
    Path("bridge.toml").write_text(f'{ANY_PORT}[upstream]\nbase_url = "{arena.origin}"\n')


@asynccontextmanager
async def serving(*words: str, **env: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Run a daemon as a separate process; yield it and its origin when it is ready."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *words, stderr=asyncio.subprocess.PIPE, env={**os.environ, **env}
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(60):
            async for line in process.stderr:
                if ready := re.search(r"LMArena Bridge is ready on (http://\S+)/v1$", line.decode().rstrip()):
                    yield process, ready[1]
                    break
            else:
                raise AssertionError("the daemon never became ready")
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("words", [["serve"], []], ids=["serve", "no command"])
async def test_the_daemon_serves_until_sigterm(words: list[str], arena: Arena) -> None:
    configure(arena)
    secret = (await arun("keys", "add", "--name", "me")).stdout.strip()
    await arun("accounts", "add", stdin=arena.sign_in().cookie_value)
    async with serving(*words) as (process, origin):
        answer = await arun("chat", "--url", origin, "/say", "all", "is", "well", OPENAI_API_KEY=secret)
        assert (answer.stdout, answer.exit_code) == ("all is well\n", 0)
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        pytest.param("bridge.toml", "[server]\nport = -1\n", "server.port", id="value out of range"),
        pytest.param("bridge.toml", "[server\n", "is not TOML", id="no TOML"),
        pytest.param("bridge.toml", '[server]\ntls_cert = "a"\ntls_key = "b"\n', "tls_cert", id="no certificate"),
        pytest.param("state/keys.json", "{", "is not JSON", id="broken keys"),
        pytest.param("state/accounts.json", "[]", "accounts.json", id="broken accounts"),
    ],
)
async def test_a_bad_configuration_or_state_file_exits_78(file: str, text: str, said: str, tmp_path: Path) -> None:
    tmp_path.joinpath("state").mkdir(mode=0o700)
    tmp_path.joinpath("bridge.toml").write_text(ANY_PORT)
    path = tmp_path / file
    path.write_text(text)
    served = await spawn("serve")
    assert served.returncode == 78
    assert said in served.stderr
    assert "Traceback" not in served.stderr
    assert path.read_text() == text


def _huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


@pytest.mark.parametrize(
    ("place", "said"),
    [
        pytest.param(lambda path: os.mkfifo(path), "is a pipe", id="a pipe"),
        pytest.param(lambda path: path.symlink_to("/dev/zero"), "is a device", id="a device"),
        pytest.param(lambda path: path.mkdir(), "Is a directory", id="a directory"),
        pytest.param(_huge, "bytes or more", id="a huge file"),
        pytest.param(lambda path: path.write_text("[" * 100_000), "is not|nested too", id="nested"),
    ],
)
@pytest.mark.parametrize("file", ["bridge.toml", "state/keys.json", "state/accounts.json", "state/admin.json"])
def test_a_configuration_or_state_path_that_is_no_usable_file_exits_78_at_once(
    file: str, place: Callable[[Path], object], said: str, tmp_path: Path
) -> None:
    tmp_path.joinpath("state").mkdir(mode=0o700)
    if file != "bridge.toml":
        tmp_path.joinpath("bridge.toml").write_text(ANY_PORT)
    place(tmp_path / file)
    served = run("serve")
    assert served.exit_code == 78
    assert file in served.stderr
    assert re.search(said, served.stderr)
    assert "Traceback" not in served.stderr


@pytest.mark.parametrize(
    ("place", "said"),
    [
        pytest.param(os.mkfifo, "a pipe", id="a pipe"),
        pytest.param(lambda path: path.symlink_to("/dev/zero"), "a device", id="a device"),
        pytest.param(Path.mkdir, "a directory", id="a directory"),
    ],
)
def test_a_certificate_that_is_no_regular_file_exits_78(
    place: Callable[[Path], object], said: str, tmp_path: Path
) -> None:
    tmp_path.joinpath("bridge.toml").write_text('[server]\ntls_cert = "cert.pem"\ntls_key = "cert.pem"\n')
    place(tmp_path / "cert.pem")
    served = run("serve")
    assert served.exit_code == 78
    assert f"must be regular files; this is {said}" in served.stderr


def test_an_encrypted_tls_key_exits_78_without_a_prompt_for_the_passphrase(tmp_path: Path) -> None:
    tmp_path.joinpath("bridge.toml").write_text('[server]\ntls_cert = "cert.pem"\ntls_key = "locked.pem"\n')
    server_context(tmp_path)
    key = ("pkey", "-in", "key.pem", "-aes128", "-passout", "pass:abcd", "-out", "locked.pem")
    subprocess.run(["openssl", *key], check=True, cwd=tmp_path, capture_output=True)
    served = subprocess.run([*COMMAND, "serve"], capture_output=True, text=True, timeout=SECONDS)
    assert served.returncode == 78
    assert served.stderr.startswith(f"Error: {tmp_path / 'locked.pem'}: server.tls_key: is encrypted")


@pytest.mark.parametrize("error", ["ENOSPC", "EROFS", "EDQUOT", "EIO", "EACCES"])
def test_a_disk_that_cannot_be_written_at_the_start_exits_75(error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files can be neither created nor changed."""
    number = getattr(errno, error)
    real = os.open

    def refuse(path: str, flags: int, *args: Any, **options: Any) -> int:
        if flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR):
            raise OSError(number, os.strerror(number), str(path))
        return real(path, flags, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        served = run("serve")
    assert served.exit_code == 75
    assert os.strerror(number) in served.stderr
    assert "Traceback" not in served.stderr


async def test_a_state_folder_in_use_exits_78_and_names_the_daemon(arena: Arena) -> None:
    configure(arena)
    async with serving() as (process, _):
        second = await spawn("serve")
        assert second.returncode == 78
        assert f"process id {process.pid}" in second.stderr


async def test_reload_reaches_the_daemon_and_restart_refuses_a_single_process(arena: Arena) -> None:
    configure(arena)
    nobody = await arun("reload")
    assert (nobody.exit_code, nobody.stdout) == (1, "")
    assert "no daemon is running with the state folder" in nobody.stderr
    async with serving() as (process, _):
        assert process.stderr is not None
        reloaded = await arun("reload")
        assert (reloaded.exit_code, f"process {process.pid}" in reloaded.stdout) == (0, True)
        while b"the configuration was reloaded" not in await process.stderr.readline():
            pass
        refused = await arun("reload", "--restart")
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert "server.workers is 1" in refused.stderr
        process.send_signal(signal.SIGUSR1)  # the signal that restarts workers
        while b"nothing is restarted" not in await process.stderr.readline():
            pass
        assert process.returncode is None


async def test_a_port_in_use_exits_1_with_an_explanation() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        served = await spawn("serve", LMARENA_BRIDGE_SERVER__PORT=str(port))
    assert served.returncode == 1
    assert f"cannot listen on 127.0.0.1, port {port}: Address already in use; that may be another" in served.stderr


@pytest.mark.parametrize("command", ["serve", "demo"])
@pytest.mark.parametrize("host", ["a..b", "192.0.2.1"], ids=["not a name", "another machine's"])
async def test_a_host_that_cannot_be_listened_on_exits_1_with_an_explanation(command: str, host: str) -> None:
    served = await spawn(command, "--host", host, "--port", "0")
    assert served.returncode == 1
    assert re.search(rf"^Error: cannot listen on {host}[:,]", served.stderr, re.MULTILINE)
    assert "another program" not in served.stderr
    assert "Traceback" not in served.stderr


async def test_a_port_used_by_another_bridge_is_reported_as_such(bridge: RunningBridge) -> None:
    served = await spawn("serve", "--port", str(urlsplit(bridge.base_url).port))
    assert served.returncode == 1
    assert "it is another lmarena-bridge, or its demo: stop it" in served.stderr
