"""The units as systemd reads them, and the daemon under their restrictions."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from daemon import ROOT
from process import Home
from programs import need_program
from workers import SERVE

from bridge.config.schema import Config
from upstream.arena import Arena

UNITS = ROOT / "systemd"
UNIT = UNITS / "lmarena-bridge.service"
#: The units by their names in systemd; a template is represented by an instance.
NAMES = {unit.name.replace("@", "@8001"): unit for unit in sorted(UNITS.glob("lmarena-bridge*"))}
#: The template, and the settings in which it differs from the service.
TEMPLATE = UNITS / "lmarena-bridge@.service"
DIFFERING = {"Description", "ExecStart", "StateDirectory"}
PROGRAM = "/opt/lmarena-bridge/bin/lmarena-bridge"
MAX_EXPOSURE = 1.2

#: The option of prctl(2) after which no memory of this process, even after exec, may become executable.
PR_SET_MDWE = 65
_WITH_MDWE = f"""
import ctypes, os, sys
if ctypes.CDLL(None, use_errno=True).prctl({PR_SET_MDWE}, 1, 0, 0, 0):
    sys.exit(os.strerror(ctypes.get_errno()))
os.execv(sys.argv[1], sys.argv[1:])
"""
WITH_MDWE = (sys.executable, "-c", _WITH_MDWE, sys.executable)

#: The dashboard's use of libraries that may contain native code: a password hash and a chart.
_DASHBOARD = """
import argon2, pygal
assert argon2.PasswordHasher().verify(argon2.PasswordHasher().hash("secret"), "secret")
assert b"<svg" in pygal.Line().render()
"""


@pytest.fixture
async def home(arena: Arena, tmp_path: Path) -> Home:
    home = Home(arena, tmp_path / "home")
    await home.prepare()
    return home


def analyze(*arguments: str | Path, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze; return its result."""
    return subprocess.run(
        [need_program("systemd-analyze"), *arguments],
        env={**os.environ, "LC_ALL": "C.UTF-8", **(environ or {})},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


class TestUnits:
    """The checks use the output of `systemd-analyze verify`, since it mostly exits with 0 even for a faulty unit."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """Copies of the units whose program exists on this machine."""
        for name, unit in NAMES.items():
            text = unit.read_text()
            assert unit != UNIT or f"ExecStart={PROGRAM} serve --config /etc/lmarena-bridge/bridge.toml\n" in text
            (tmp_path / name).write_text(text.replace(PROGRAM, "/bin/true"))
        return tmp_path

    def verify(self, folder: Path, name: str) -> str:
        outcome = analyze("verify", "--man=no", folder / name, environ={"SYSTEMD_UNIT_PATH": f"{folder}:"})
        return outcome.stdout + outcome.stderr

    def test_the_template_unit_differs_from_the_service_only_in_instance_settings(self) -> None:
        ours, its = (
            [line for line in unit.read_text().splitlines() if line and not line.startswith("#")]
            for unit in (UNIT, TEMPLATE)
        )
        differing = [(our, it) for our, it in zip(ours, its, strict=True) if our != it]
        assert {key for pair in differing for key in (line.partition("=")[0] for line in pair)} == DIFFERING
        assert all("%i" in it for _, it in differing)

    @pytest.mark.parametrize("name", NAMES)
    def test_systemd_verifies_the_units_without_any_message(self, folder: Path, name: str) -> None:
        assert self.verify(folder, name) == ""

    @pytest.mark.parametrize(("name", "key"), [(UNIT.name, "WatchdogSec"), ("lmarena-bridge.socket", "ListenStream")])
    def test_a_misspelt_key_in_a_unit_is_reported(self, folder: Path, name: str, key: str) -> None:
        unit = folder / name
        unit.write_text(unit.read_text().replace(key, f"{key}s"))
        assert f"'{key}s'" in self.verify(folder, name)

    def test_a_missing_program_of_a_unit_is_reported(self, folder: Path) -> None:
        (folder / UNIT.name).write_text(UNIT.read_text())
        assert f"{PROGRAM} is not executable" in self.verify(folder, UNIT.name)

    def test_the_exposure_of_the_service_is_below_the_limit(self) -> None:
        report = analyze("security", "--offline=true", UNIT).stdout
        overall = re.search(r"Overall exposure level for lmarena-bridge.service: (\d+\.\d)", report)
        assert overall is not None, report
        assert float(overall[1]) <= MAX_EXPOSURE

    def test_failed_starts_are_retried_for_ever_except_after_exit_status_78(self) -> None:
        """Restarts are too slow to reach the limit on starts, so that even a disk that is full for long is survived."""
        (pause,), (burst,), (interval,) = map(settings, ("RestartSec", "StartLimitBurst", "StartLimitIntervalSec"))
        assert float(pause) * float(burst) >= float(interval)
        assert settings("RestartPreventExitStatus") == ["78"]

    def test_systemd_waits_longer_than_the_drain_before_killing_the_daemon(self) -> None:
        (seconds,) = settings("TimeoutStopSec")
        assert (
            float(seconds) >= Config.read({}).server.drain_seconds + 10
        )  # the rest of the shutdown takes 3 s, and more on a slow disk


class TestMemory:
    """MemoryDenyWriteExecute, as implemented in the kernel since 6.3."""

    @pytest.fixture(autouse=True)
    def _kernel(self) -> None:
        outcome = subprocess.run([*WITH_MDWE, "-c", ""], capture_output=True, text=True, timeout=30, check=False)
        if outcome.stderr.strip() == os.strerror(22):
            pytest.skip("the kernel is older than 6.3: it knows no PR_SET_MDWE")
        assert outcome.returncode == 0, outcome.stderr

    async def test_the_daemon_serves_without_writable_and_executable_memory(self, home: Home) -> None:
        async with home.serve(program=(*WITH_MDWE, "-m", "bridge")) as daemon:
            await ask(home, daemon.origin)

    def test_the_dashboards_libraries_work_without_writable_and_executable_memory(self) -> None:
        subprocess.run([*WITH_MDWE, "-c", _DASHBOARD], check=True, timeout=30)

    def test_mapping_writable_and_executable_memory_is_forbidden(self) -> None:
        forbidden = "import mmap; mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)"
        outcome = subprocess.run([*WITH_MDWE, "-c", forbidden], capture_output=True, text=True, timeout=30, check=False)
        assert "PermissionError" in outcome.stderr


@pytest.mark.parametrize(
    ("program", "readings"), [((sys.executable, "-m", "bridge"), 1), pytest.param(SERVE, 2, marks=pytest.mark.slow)]
)
async def test_the_daemon_uses_only_system_calls_and_sockets_that_the_unit_allows(
    home: Home, tmp_path: Path, program: tuple[str, ...], readings: int
) -> None:
    """This also applies to a daemon with two workers."""
    home.configure({"server": {"host": "localhost"}})  # so that a name is resolved
    trace = tmp_path / "trace"
    # The tracer is a separate process, so that signals reach the daemon; it keeps the log open until it has ended.
    strace = (need_program("strace"), "--daemonize", "--follow-forks", "--output", str(trace))
    async with home.serve(program=(*strace, *program), environ={"WORKERS": "2"}) as daemon:
        await ask(home, daemon.origin)
        daemon.signal(signal.SIGHUP)
        for _ in range(readings):
            await daemon.logs("the configuration was reloaded")
        assert (await daemon.stop())[0] == 0
    traced = trace.read_text()
    calls = set(re.findall(r"^(?:\d+ +)?(\w+)\(", traced, re.MULTILINE))
    assert {"execve", "accept4", "fsync"} <= calls
    if os.geteuid() == 0:
        calls -= {"fchown"}  # only root hands files over to the folder's owner, and the unit's user is never root
    assert calls <= filtered()
    families = set(re.findall(r"\bsocket\((AF_\w+)", traced))
    assert "AF_INET" in families
    families -= {"AF_NETLINK"}  # the C library queries the local addresses with it, but works without it
    assert families <= set(settings("RestrictAddressFamilies")[0].split())


async def ask(home: Home, origin: str) -> None:
    """Request an answer that is not streamed, and check it."""
    model = next(model.public_name for model in home.arena.models if model.organization and model.modality == "chat")
    body = {"model": model, "messages": [{"role": "user", "content": "/say hi"}]}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{origin}/v1/chat/completions", json=body, headers=home.headers) as response,
    ):
        assert response.status == 200
        assert (await response.json())["choices"][0]["message"]["content"] == "hi"


def settings(name: str) -> list[str]:
    """The values of a setting of the service, in order."""
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)


def filtered() -> set[str]:
    """The system calls that the unit's SystemCallFilter= allows; lines with `~` remove calls."""
    calls: set[str] = set()
    for line in settings("SystemCallFilter"):
        named = {call for name in line.removeprefix("~").split() for call in expanded(name)}
        calls = calls - named if line.startswith("~") else calls | named
    return calls


def expanded(name: str) -> Iterator[str]:
    """The system calls in one of systemd's groups, including nested groups."""
    if not name.startswith("@"):
        yield name
        return
    _, *members = analyze("syscall-filter", name).stdout.splitlines()
    for member in members:
        if not member.strip().startswith("#"):
            yield from expanded(member.strip())
