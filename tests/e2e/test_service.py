"""The daemon as a service: starts, restarts, changes of its state files, and peers that do not respond."""

from __future__ import annotations

import asyncio
import io
import os
import re
import signal
import socket
import sys
from collections import Counter
from pathlib import Path

import aiohttp
import pytest
import stalled_names
from bad_files import device, directory, emptied, huge, pipe, terminal
from daemon import ROOT
from process import Home
from running import add_accounts, api_key
from streams import post

from bridge.access import keys
from bridge.access.passwords import hash_password
from bridge.state.admin import Admin, admin_document
from bridge.state.state import accounts_document, keys_document

PASSWORD = "correct horse battery staple"


async def test_an_unanswered_dns_lookup_delays_neither_other_work_nor_the_stop(home: Home) -> None:
    await admin_document(home.folder).save(Admin(hash_password(PASSWORD)))
    home.configure({"upstream": {"base_url": f"https://site{stalled_names.SUFFIX}"}})
    async with home.serve(program=stalled_names.program(3600)) as daemon, aiohttp.ClientSession() as browser:
        headers = {"Origin": daemon.origin, "Sec-Fetch-Site": "same-origin"}
        url, form = f"{daemon.origin}/dashboard/login", {"password": PASSWORD}
        async with browser.post(url, data=form, headers=headers, allow_redirects=False) as response:
            assert response.status == 303
        await home.add_key(api_key(name="late")[1])
        await daemon.logs("keys.json was changed: 2 keys")
        status, _ = await daemon.stop()  # fails if it waits for the lookup, which takes an hour
        assert status == 0


@pytest.mark.parametrize("form", ["text", pytest.param("json", marks=pytest.mark.slow)])
async def test_the_daemon_keeps_serving_when_its_log_is_not_read(home: Home, form: str) -> None:
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
            for _ in range(6_000):  # over 1 MiB of lines, more than any pipe buffers
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


async def test_no_request_fails_during_restarts_with_an_inherited_socket(home: Home) -> None:
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
                await asyncio.sleep(0.05)  # at most twenty calls per second from each caller

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


async def test_a_second_daemon_cannot_start_with_the_same_state_folder(home: Home) -> None:
    async with home.serve() as first, home.launch() as second:
        assert await second.ends() == 78
        assert f"is in use by the daemon with process id {first.process.pid}" in second.log[-1]


async def test_the_file_descriptor_table_is_large_enough_for_all_streams_at_the_start(home: Home) -> None:
    home.configure({"limits": {"streams": 300}})
    async with home.serve() as daemon:
        status = await asyncio.to_thread(Path(f"/proc/{daemon.process.pid}/status").read_text)
    (size,) = re.findall(r"^FDSize:\s+(\d+)$", status, re.MULTILINE)
    assert int(size) >= 600


@pytest.mark.parametrize(("hard", "allowed"), [(1000, 700), (400, 400)])
async def test_the_limit_on_open_files_is_raised_to_what_the_streams_need(home: Home, hard: int, allowed: int) -> None:
    home.configure({"limits": {"streams": 300}})
    shell = ("sh", "-c", f'ulimit -S -n 256; ulimit -H -n {hard}; exec "$@"', "sh", sys.executable, "-m", "bridge")
    async with home.serve(program=shell) as daemon:
        limits = await asyncio.to_thread(Path(f"/proc/{daemon.process.pid}/limits").read_text)
        assert re.search(rf"^Max open files +{allowed} +{hard} ", limits, re.MULTILINE)
        assert (f"need 700 open files; only {hard} are allowed" in "\n".join(daemon.log)) == (allowed < 700)


async def test_a_port_in_use_is_reported_and_exits_1(home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        home.configure({"server": {"port": port}})
        async with home.launch() as daemon:
            assert await daemon.ends() == 1
            assert f"cannot listen on 127.0.0.1, port {port}: Address already in use" in "\n".join(daemon.log)


async def test_changed_keys_are_read_within_two_seconds(home: Home, http: aiohttp.ClientSession) -> None:
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


@pytest.mark.parametrize("name", ["accounts.json"])  # tests/bridge/state/test_missing_files.py covers the other files
async def test_an_unreadable_state_file_neither_stops_the_daemon_nor_delays_its_stop(
    home: Home, http: aiohttp.ClientSession, name: str
) -> None:
    await admin_document(home.folder).save(Admin())
    path = home.folder.path / name
    whole = path.read_bytes()
    async with home.serve() as daemon:
        for spoil in (pipe, device, terminal, huge, emptied, directory):
            spoil(path)
            assert f"{path} " in await daemon.logs("continuing with what was read before")
            async with await post(http, daemon, home, "/say the same") as response:
                assert response.status == 200, spoil
            if path.is_dir():
                path.rmdir()
            path.unlink(missing_ok=True)
            path.write_bytes(whole)
            await daemon.logs(f"{name} was changed")  # the daemon still watches the file
        assert sum("continuing with what was read before" in line for line in daemon.log) == 6, "each is told once"
        pipe(path)
        await daemon.logs("continuing with what was read before")
        assert (await daemon.stop())[0] == 0


async def test_changed_accounts_are_read_within_two_seconds(home: Home, http: aiohttp.ClientSession) -> None:
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


async def test_a_rotated_cookie_is_saved_at_once_and_survives_a_kill(home: Home, http: aiohttp.ClientSession) -> None:
    document = accounts_document(home.folder)
    async with home.serve() as daemon:
        await daemon.logs("models")  # the list of models has been fetched for the first time
        await document.load()
        home.arena.rotate(home.session)
        async with await post(http, daemon, home, "/say hi") as response:
            assert response.status == 200
        async with asyncio.timeout(10):
            while not await document.changed():  # polled, since a change of a file sets no event
                pass
        daemon.signal(signal.SIGKILL)
        await daemon.ends()
    (account,) = await document.load()
    assert account.session.value == home.session.cookie_value
    async with home.serve() as daemon, await post(http, daemon, home, "/say hi again") as response:
        assert response.status == 200
