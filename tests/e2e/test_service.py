"""The daemon's life, with real signals: it ends in order, reloads without a loss, and notices what commands change."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
import stalled_names
from caller import calling
from daemon import ROOT
from process import Home
from running import add_accounts, api_key
from streams import Play, begin, chat_model, post

from bridge.access import keys
from bridge.access.passwords import hash_password
from bridge.state.admin import Admin, admin_document
from bridge.state.conversations import conversations_document
from bridge.state.state import accounts_document, keys_document
from upstream.arena import Arena, Line, Step, Turn, Until

STREAMS = 50
PASSWORD = "correct horse battery staple"
#: How long a drain may last beyond what it waits for, in seconds: a loaded machine is slow to end a process.
SLACK = 5.0


@pytest.fixture
async def home(arena: Arena, tmp_path: Path) -> Home:
    home = Home(arena, tmp_path)
    await home.prepare()
    return home


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        yield http


# --- the end ---


async def test_sigterm_lets_streams_end_and_then_ends_the_rest(home: Home, http: aiohttp.ClientSession) -> None:
    play = home.arena.script = Play()
    home.configure({"server": {"drain_seconds": 2}})
    prompts = [f"{'stuck' if number % 2 else 'ends'}-{number}-" for number in range(STREAMS)]
    async with home.serve() as daemon:
        async with asyncio.TaskGroup() as tasks:
            callers = await begin(tasks, http, daemon, home, *prompts)
            began = time.monotonic()
            daemon.signal(signal.SIGTERM)
            await daemon.logs(f"running answers ({STREAMS}) have 2 s to finish")
            play.go.set()
        assert await daemon.ends() == 0
        assert 2 <= time.monotonic() - began <= 2 + SLACK
    for caller in callers:
        if caller.prompt.startswith("ends"):
            assert caller.error is None
            assert caller.texts == play.said[caller.prompt]
        else:
            assert caller.error is not None
            assert caller.error["code"] == "overloaded"
            assert caller.texts == play.said[caller.prompt][: len(caller.texts)]
    assert (await conversations_document(home.folder).load()).clean


async def test_a_drain_ends_with_its_last_stream(home: Home, http: aiohttp.ClientSession) -> None:
    play = home.arena.script = Play()
    async with home.serve() as daemon:
        async with asyncio.TaskGroup() as tasks:
            await begin(tasks, http, daemon, home, "ends")
            daemon.signal(signal.SIGTERM)
            await daemon.logs("stopping")
            play.go.set()
        assert await daemon.ends(SLACK) == 0


async def test_a_draining_daemon_keeps_no_connection(home: Home, http: aiohttp.ClientSession) -> None:
    home.arena.script = Play()
    async with home.serve() as daemon, asyncio.TaskGroup() as tasks:
        await begin(tasks, http, daemon, home, "stuck")
        async with http.get(f"{daemon.origin}/v1/models", headers=home.headers) as response:
            assert response.status == 200
            await response.read()  # its connection stays open
        daemon.signal(signal.SIGTERM)
        await daemon.logs("stopping")
        with pytest.raises(aiohttp.ClientConnectorError):  # it was closed, and no other can be had
            await http.get(f"{daemon.origin}/v1/models", headers=home.headers)
        daemon.signal(signal.SIGTERM)


async def test_a_draining_daemon_is_not_ready_at_once(home: Home, http: aiohttp.ClientSession) -> None:
    home.arena.script = Play()

    async def ready() -> bool:
        try:
            async with http.get(f"{daemon.origin}/readyz") as response:
                return response.status == 200
        except aiohttp.ClientConnectionError:
            return False

    async with home.serve() as daemon, asyncio.TaskGroup() as tasks:
        await begin(tasks, http, daemon, home, "stuck")
        assert await ready()
        last_ready = told = time.monotonic()
        daemon.signal(signal.SIGTERM)
        while asked := time.monotonic():
            if not await ready():
                break
            last_ready = asked
        assert last_ready - told < 5  # and the drain would take four times that
        daemon.signal(signal.SIGTERM)


async def test_a_probe_is_told_of_the_drain_over_any_connection(home: Home, http: aiohttp.ClientSession) -> None:
    """New connections are refused, idle ones closed, and one that has not asked yet is told."""
    home.arena.script = Play()
    request = b"GET /readyz HTTP/1.1\r\nHost: here\r\n\r\n"
    async with home.serve() as daemon, asyncio.TaskGroup() as tasks:
        await begin(tasks, http, daemon, home, "stuck")
        async with calling(daemon.origin, home.secret) as silent, calling(daemon.origin, home.secret) as idle:
            idle.writer.write(request)
            assert b" 200 " in await idle.sees(b"ok\n")
            daemon.signal(signal.SIGTERM)
            await daemon.logs("stopping")
            assert await idle.reader.read() == b""
            silent.writer.write(request)
            assert (await silent.reader.read()).startswith(b"HTTP/1.1 503 ")
            with pytest.raises(ConnectionRefusedError):
                async with calling(daemon.origin, home.secret):
                    pass
        daemon.signal(signal.SIGTERM)


@pytest.mark.parametrize("late", [False, True], ids=["at once", "late"])
async def test_a_connection_from_before_the_end_may_ask_at_once(
    home: Home, http: aiohttp.ClientSession, *, late: bool
) -> None:
    home.arena.script = Play()
    request = f"GET /v1/models HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {home.secret}\r\n\r\n"
    async with home.serve() as daemon, asyncio.TaskGroup() as tasks:
        await begin(tasks, http, daemon, home, "stuck")
        async with calling(daemon.origin, home.secret) as caller:
            async with http.get(f"{daemon.origin}/health") as response:
                assert response.status == 200  # the caller was accepted before it
            daemon.signal(signal.SIGTERM)
            if late:
                await daemon.logs("stopping")
            caller.writer.write(request.encode())
            head, _, body = (await caller.reader.read()).partition(b"\r\n\r\n")
            daemon.signal(signal.SIGTERM)
    if late:
        assert head.startswith(b"HTTP/1.1 503 ")
        assert {b"Connection: close", b"Retry-After: 1"} <= set(head.split(b"\r\n"))
        assert b"x-should-retry" not in head
        assert json.loads(body)["error"]["code"] == "overloaded"
    else:
        assert head.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_hurries(home: Home, http: aiohttp.ClientSession, second: signal.Signals) -> None:
    home.arena.script = Play()
    async with home.serve() as daemon:
        async with asyncio.TaskGroup() as tasks:
            (caller,) = await begin(tasks, http, daemon, home, "stuck")
            daemon.signal(signal.SIGINT)
            await daemon.logs("stopping")
            daemon.signal(second)
        assert await daemon.ends(SLACK) == 0
    assert caller.error is not None
    assert caller.error["code"] == "overloaded"


async def test_a_drain_cuts_whole_answers_with_a_503(home: Home, http: aiohttp.ClientSession) -> None:
    asked = asyncio.Event()

    async def script(_: Turn) -> AsyncIterator[Step]:
        yield Line("a0", "half an answer")
        asked.set()
        yield Until(asyncio.Event())

    home.arena.script = script
    home.configure({"server": {"drain_seconds": 0.3}})
    async with home.serve() as daemon:
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(post(http, daemon, home, "whole"))
            await asked.wait()
            daemon.signal(signal.SIGTERM)
        async with call.result() as response:
            assert response.status == 503
            assert response.headers["Retry-After"] == "1"
            assert (await response.json())["error"]["code"] == "overloaded"
        assert await daemon.ends(SLACK) == 0


async def test_an_idle_daemon_ends_within_a_second(home: Home) -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: here\r\n"
    key = f"Authorization: Bearer {home.secret}\r\n".encode()
    idle = {
        "never sent a byte": b"",
        "half a head": head,
        "half a body": head + key + b"Content-Length: 100\r\n\r\n{",
        "kept alive": b"GET /health HTTP/1.1\r\nHost: here\r\n\r\n",
    }
    async with home.serve() as daemon, AsyncExitStack() as stack:
        host, _, port = daemon.origin.removeprefix("http://").partition(":")
        readers = {}
        for name, sent in idle.items():
            readers[name], writer = await asyncio.open_connection(host, int(port))
            stack.push_async_callback(writer.wait_closed)
            stack.callback(writer.close)
            writer.write(sent)
        assert b"\r\n\r\n" in await readers["kept alive"].readuntil(b"\r\n\r\n")  # the others have come before it
        status, seconds = await daemon.stop()
        assert status == 0
        assert seconds < 10, "neither the drain nor any other timeout was waited for: it takes half a second"
        answers = {name: await reader.read() for name, reader in readers.items()}
    assert answers["never sent a byte"] == answers["half a head"] == b""
    assert answers["half a body"].startswith(b"HTTP/1.1 503 ")


# --- reload ---


async def test_reloads_lose_no_stream(home: Home, http: aiohttp.ClientSession) -> None:
    play = home.arena.script = Play()
    model = chat_model(home)
    async with home.serve() as daemon:
        async with asyncio.TaskGroup() as tasks:
            callers = await begin(tasks, http, daemon, home, *(f"ends-{number}-" for number in range(STREAMS)))
            hidden = False
            for number in range(20):
                if number % 4 == 3:
                    home.config.write_text("[server\n")
                    daemon.signal(signal.SIGHUP)
                    assert "is not TOML" in await daemon.logs("ERROR")
                else:
                    hidden = number % 2 == 0
                    home.configure({"models": {"hide": [model] if hidden else []}})
                    daemon.signal(signal.SIGHUP)
                    await daemon.logs("the configuration was reloaded")
                async with http.get(f"{daemon.origin}/v1/models/{model}", headers=home.headers) as response:
                    assert response.status == (404 if hidden else 200)  # a broken file changes nothing
            play.go.set()
        assert sum(" ERROR " in line for line in daemon.log) == 5
    for caller in callers:
        assert caller.error is None
        assert caller.texts == play.said[caller.prompt]


async def test_what_needs_a_restart_is_said(home: Home, http: aiohttp.ClientSession) -> None:
    async with home.serve() as daemon:
        home.configure({"server": {"port": 1, "state_dir": "elsewhere", "host": "::1"}, "limits": {"streams": 1}})
        daemon.signal(signal.SIGHUP)
        await daemon.logs("the configuration was reloaded")
        warnings = [line for line in daemon.log if "restart the daemon to apply it" in line]
        assert [re.findall(r"\w+\.\w+", line)[0] for line in warnings] == [
            "server.host",
            "server.port",
            "server.state_dir",
            "limits.streams",
        ]
        async with await post(http, daemon, home, "/say still here") as response:
            assert response.status == 200


def _emptied(path: Path) -> None:
    path.write_text("")


def _cut(path: Path) -> None:
    path.write_text(path.read_text().partition("[upstream]")[0])


def _nested(path: Path) -> None:
    path.write_text("[limits]\nrpm = " + "[" * 5000 + "]" * 5000)


def _deep_names(path: Path) -> None:
    path.write_text("[" + ".".join("a" * 5000) + "]\nb = 1\n")


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def _terminal(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/tty")


def _huge(path: Path) -> None:
    os.truncate(path, 1 << 40)


def _gone(path: Path) -> None:
    path.unlink()


BAD_FILES = (_emptied, _cut, _nested, _deep_names, _pipe, _directory, _device, _terminal, _huge, _gone)


async def test_whatever_is_in_the_configuration_s_place_changes_nothing(
    home: Home, http: aiohttp.ClientSession
) -> None:
    async with home.serve() as daemon:
        for spoil in BAD_FILES:
            spoil(home.config)
            daemon.signal(signal.SIGHUP)
            line = await daemon.logs("the configuration was not changed")
            assert str(home.config) in line, spoil
            async with await post(http, daemon, home, "/say the same") as response:
                assert response.status == 200, "base_url is not the default's"
            if home.config.is_dir():
                home.config.rmdir()
            home.config.unlink(missing_ok=True)
            home.configure()
            daemon.signal(signal.SIGHUP)
            await daemon.logs("the configuration was reloaded")
        assert "Traceback" not in "\n".join(daemon.log)
        _pipe(home.config)
        daemon.signal(signal.SIGHUP)
        assert (await daemon.stop())[0] == 0


async def test_a_reload_that_fails_in_a_way_nobody_thought_of(home: Home, http: aiohttp.ClientSession) -> None:
    """It is logged, and the next one is taken."""
    program = """
import runpy, sys
from bridge.config.file import ConfigSource
real, errors = ConfigSource.reload, [MemoryError(), RecursionError(), KeyError("x"), OSError(5, "Input/output error")]
def reload(self):
    if errors:
        raise errors.pop()
    return real(self)
ConfigSource.reload = reload
sys.argv[0] = "lmarena-bridge"
runpy.run_module("bridge", run_name="__main__", alter_sys=True)
"""
    async with home.serve(program=(sys.executable, "-c", program)) as daemon:
        for error in ("Input/output error", "KeyError", "RecursionError", "MemoryError"):
            daemon.signal(signal.SIGHUP)
            await daemon.logs("the configuration was not changed")
            await daemon.logs(error)
        daemon.signal(signal.SIGHUP)
        await daemon.logs("the configuration was reloaded")
        async with await post(http, daemon, home, "/say well") as response:
            assert response.status == 200


# --- what does not answer, and who does not listen ---


async def test_a_name_that_is_not_answered_holds_up_neither_others_nor_the_end(home: Home) -> None:
    await admin_document(home.folder).save(Admin(hash_password(PASSWORD)))
    home.configure({"upstream": {"base_url": f"https://site{stalled_names.SUFFIX}"}})
    async with home.serve(program=stalled_names.program(3600)) as daemon, aiohttp.ClientSession() as browser:
        headers = {"Origin": daemon.origin, "Sec-Fetch-Site": "same-origin"}
        url, form = f"{daemon.origin}/dashboard/login", {"password": PASSWORD}
        async with browser.post(url, data=form, headers=headers, allow_redirects=False) as response:
            assert response.status == 303
        await home.add_key(api_key(name="late")[1])
        await daemon.logs("keys.json was changed: 2 keys")
        status, _ = await daemon.stop()  # the lookup lasts an hour, and `ends` waits for seconds
        assert status == 0


@pytest.mark.parametrize("form", ["text", pytest.param("json", marks=pytest.mark.slow)])
async def test_a_daemon_whose_log_nobody_reads_goes_on(home: Home, form: str) -> None:
    home.configure({"log": {"format": form}})
    reading, writing = os.pipe()
    words = [sys.executable, "-m", "bridge", "serve", "--config", str(home.config)]
    process = await asyncio.create_subprocess_exec(*words, cwd=ROOT, stderr=writing)
    os.close(writing)
    with os.fdopen(reading, "rb", buffering=0) as log:
        seen = b""
        while b"/v1" not in seen:
            seen += await asyncio.to_thread(log.read, 1 << 16)
        match = re.search(rb"http://[^/]+", seen)
        assert match is not None
        origin = match[0].decode()
        async with aiohttp.ClientSession(headers={"X-Request-Id": "x" * 128}) as http:
            for _ in range(6_000):  # 1 MiB of lines, and more than any pipe holds
                async with http.get(f"{origin}/v1/models") as response:
                    assert response.status == 401
            reader = asyncio.get_running_loop().run_in_executor(None, _until, log, b"of the log are missing here")
            while not reader.done():
                async with http.get(f"{origin}/v1/models") as response:
                    assert response.status == 401
            assert b"of the log are missing here" in await reader
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 20) == 0


def _until(log: io.FileIO, text: bytes) -> bytes:
    seen = b""
    while text not in seen:
        seen += log.read(1 << 16)
    return seen


# --- restarts ---


async def test_a_restart_with_an_inherited_socket_refuses_nobody(home: Home) -> None:
    outcomes: Counter[int | str] = Counter()
    served, over = asyncio.Event(), asyncio.Event()

    async def call(url: str) -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http:
            while not over.is_set():
                try:
                    async with http.get(url, headers=home.headers) as response:
                        await response.read()
                        outcomes[response.status] += 1
                        if response.status == 200:
                            served.set()
                except aiohttp.ClientError as error:
                    outcomes[type(error).__name__] += 1
                await asyncio.sleep(0.05)  # twenty calls a second from each

    with socket.create_server(("127.0.0.1", 0)) as held:
        url = f"http://127.0.0.1:{held.getsockname()[1]}/v1/models"
        async with asyncio.TaskGroup() as callers:
            calls = [callers.create_task(call(url)) for _ in range(3)]
            for _ in range(5):
                async with home.serve(held) as daemon:
                    assert url.startswith(daemon.origin)
                    served.clear()
                    await served.wait()
                    assert (await daemon.stop())[0] == 0
            async with home.serve(held):
                over.set()
                await asyncio.wait(calls, timeout=10)
    assert set(outcomes) == {200}


async def test_one_state_folder_has_one_daemon(home: Home) -> None:
    async with home.serve() as first, home.launch() as second:
        assert await second.ends() == 78
        assert f"is in use by the daemon with process id {first.process.pid}" in second.log[-1]


async def test_the_table_of_open_files_has_room_before_the_first_stream(home: Home) -> None:
    home.configure({"limits": {"streams": 300}})
    async with home.serve() as daemon:
        status = await asyncio.to_thread(Path(f"/proc/{daemon.process.pid}/status").read_text)
    (size,) = re.findall(r"^FDSize:\s+(\d+)$", status, re.MULTILINE)
    assert int(size) >= 600


@pytest.mark.parametrize(("hard", "allowed"), [(1000, 700), (400, 400)])
async def test_as_many_files_may_be_open_as_the_streams_need(home: Home, hard: int, allowed: int) -> None:
    home.configure({"limits": {"streams": 300}})
    shell = ("sh", "-c", f'ulimit -S -n 256; ulimit -H -n {hard}; exec "$@"', "sh", sys.executable, "-m", "bridge")
    async with home.serve(program=shell) as daemon:
        limits = await asyncio.to_thread(Path(f"/proc/{daemon.process.pid}/limits").read_text)
        assert re.search(rf"^Max open files +{allowed} +{hard} ", limits, re.MULTILINE)
        assert (f"needs 700 open files; allowed are {hard}" in "\n".join(daemon.log)) == (allowed < 700)


async def test_a_port_in_use_is_said(home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        home.configure({"server": {"port": port}})
        async with home.launch() as daemon:
            assert await daemon.ends() == 1
            assert f"cannot listen on 127.0.0.1, port {port}: Address already in use" in "\n".join(daemon.log)


# --- what commands change, and what upstream does ---


async def test_keys_are_noticed_within_two_seconds(home: Home, http: aiohttp.ClientSession) -> None:
    secret, key = api_key(name="added")

    async def status() -> int:
        headers = {"Authorization": f"Bearer {secret}"}
        async with http.get(f"{daemon.origin}/v1/models", headers=headers) as response:
            return response.status

    async with home.serve() as daemon:
        assert await status() == 401
        await home.add_key(key)
        await daemon.logs("keys.json was changed: 2 keys")
        assert await status() == 200
        await keys_document(home.folder).update(lambda kept: keys.remove(kept, "added"))
        await daemon.logs("keys.json was changed: 1 keys")
        assert await status() == 401


@pytest.mark.parametrize("name", ["accounts.json"])  # tests/bridge/state/test_missing_files.py tries the others
async def test_whatever_is_in_a_state_file_s_place_the_daemon_goes_on_and_ends(
    home: Home, http: aiohttp.ClientSession, name: str
) -> None:
    await admin_document(home.folder).save(Admin())
    path = home.folder.path / name
    whole = path.read_bytes()
    async with home.serve() as daemon:
        for spoil in (_pipe, _device, _terminal, _huge, _emptied, _directory):
            spoil(path)
            assert f"{path} " in await daemon.logs("continuing with what was read before")
            async with await post(http, daemon, home, "/say the same") as response:
                assert response.status == 200, spoil
            if path.is_dir():
                path.rmdir()
            path.unlink(missing_ok=True)
            path.write_bytes(whole)
            await daemon.logs(f"{name} was changed")  # the watch goes on
        assert sum("continuing with what was read before" in line for line in daemon.log) == 6, "each is told once"
        _pipe(path)
        await daemon.logs("continuing with what was read before")
        assert (await daemon.stop())[0] == 0


async def test_accounts_are_noticed_within_two_seconds(home: Home, http: aiohttp.ClientSession) -> None:
    async def total() -> int:
        async with http.get(f"{daemon.origin}/health") as response:
            found: int = (await response.json())["accounts"]["total"]
            return found

    another = home.arena.sign_in("grace@example.org")
    async with home.serve() as daemon:
        assert await total() == 1
        await add_accounts(home.folder, another)
        await daemon.logs("accounts.json was changed: 2 accounts")
        assert await total() == 2
        await accounts_document(home.folder).update(lambda kept: tuple(a for a in kept if a.label == another.email))
        await daemon.logs("accounts.json was changed: 1 accounts")
        assert await total() == 1


async def test_a_rotated_cookie_is_saved_at_once(home: Home, http: aiohttp.ClientSession) -> None:
    document = accounts_document(home.folder)
    async with home.serve() as daemon:
        await daemon.logs("models")  # the first reading of the page has ended
        await document.load()
        home.arena.rotate(home.session)
        async with await post(http, daemon, home, "/say hi") as response:
            assert response.status == 200
        async with asyncio.timeout(10):
            while not await document.changed():  # asked again and again: a file has no event
                pass
        daemon.signal(signal.SIGKILL)
        await daemon.ends()
    (account,) = await document.load()
    assert account.session.value == home.session.cookie_value
    async with home.serve() as daemon, await post(http, daemon, home, "/say hi again") as response:
        assert response.status == 200
