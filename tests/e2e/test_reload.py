"""SIGHUP: a reload interrupts no stream, and an unusable configuration file changes nothing."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from pathlib import Path

import aiohttp
from bad_files import device, directory, emptied, huge, pipe, terminal
from process import Home
from streams import Play, begin, chat_model, post

STREAMS = 50


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


async def test_a_reload_names_the_changed_settings_that_need_a_restart(home: Home, http: aiohttp.ClientSession) -> None:
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


def _cut(path: Path) -> None:
    path.write_text(path.read_text().partition("[upstream]")[0])


def _nested(path: Path) -> None:
    path.write_text("[limits]\nrpm = " + "[" * 5000 + "]" * 5000)


def _deep_names(path: Path) -> None:
    path.write_text("[" + ".".join("a" * 5000) + "]\nb = 1\n")


def _gone(path: Path) -> None:
    path.unlink()


BAD_FILES = (emptied, _cut, _nested, _deep_names, pipe, directory, device, terminal, huge, _gone)


async def test_an_unreadable_configuration_file_changes_nothing(home: Home, http: aiohttp.ClientSession) -> None:
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
        pipe(home.config)
        daemon.signal(signal.SIGHUP)
        assert (await daemon.stop())[0] == 0


async def test_an_unexpected_exception_in_a_reload_is_logged_and_the_next_reload_works(
    home: Home, http: aiohttp.ClientSession
) -> None:
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
