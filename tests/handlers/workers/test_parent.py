"""How the parent manages its workers, row by row of its table. The workers are short scripts, which start quickly."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st
from polling import until
from process import DaemonProcess, Home
from service_manager import Manager, listening

from handlers.workers.parent import FINAL, START_TRIES, describe_status, worst_status
from upstream.arena import Arena

#: A worker becomes ready and sleeps until SIGTERM, unless a test sets another `fate`. The rest is the parent.
_PROGRAM = """
import os, signal, sys, time
if "LMARENA_BRIDGE_PLACE" in os.environ:
    number, link, _ = os.environ["LMARENA_BRIDGE_PLACE"].split(" ", 2)
    def tell(kind, value):
        os.write(int(link), (f'["{kind}", {value}]' + chr(10)).encode())
    def notify(text):
        tell("notify", f'"{text}"')
    def ready():
        notify("READY=1")
    def note(text):
        os.write(2, f"{number} {os.getpid()} {text}".encode() + b"\\n")
    def leave(*_):
        note("drains")
        sys.exit(int(os.environ.get("STATUS", "0")))
    def last():
        while True:
            time.sleep(0.05)
            notify("WATCHDOG=1")
    def reload(*_):
        notify("RELOADING=1")
        tell("reread", "true")
        note("reloads")
        ready()
    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGHUP, reload)
    fate = os.path.join(os.environ["FATES"], number)
    exec(open(fate).read() if os.path.exists(fate) else "note('is up'); ready(); last()")
    sys.exit()
import asyncio
from pathlib import Path
from dataclasses import replace
from bridge import log
from bridge.config.file import ConfigSource
from handlers.workers import parent, process
for name in ("START_SECONDS", "KILL_SECONDS", "SILENT_SECONDS", "SOUND_SECONDS"):
    setattr(parent, name, float(os.environ.get(name, getattr(parent, name))))
parent.PAUSES = (0.0, 0.01, 0.02)
process.ABORT_SECONDS = 0.1
source = ConfigSource(Path(sys.argv[3]), os.environ)
config = source.load()
config = replace(config, server=replace(config.server, workers=3))
log.configure("info", "text")
errors = [OSError(5, "Input/output error")] if "BROKEN_DISK" in os.environ else []
def reread():
    if errors:
        raise errors.pop()
    return source.reload()
sys.exit(asyncio.run(parent.Parent(config, reread, lambda url: os.write(2, b"all are up" + b"\\n")).run()))
"""


@dataclass
class Stage:
    """A parent to start, and a folder with the code that its workers run (`fates`)."""

    home: Home
    fates: Path
    environ: dict[str, str] = field(default_factory=dict)

    def fate(self, number: int, code: str) -> None:
        """Set the code that worker `number` runs from its next start on."""
        (self.fates / str(number)).write_text(code)

    @asynccontextmanager
    async def launched(self, **environ: str) -> AsyncIterator[DaemonProcess]:
        program = (sys.executable, "-c", _PROGRAM)
        async with self.home.launch(program=program, environ={"FATES": str(self.fates), **environ}) as parent:
            yield parent

    @asynccontextmanager
    async def running(self, **environ: str) -> AsyncIterator[DaemonProcess]:
        async with self.launched(**environ) as parent:
            await parent.logs("all are up", 30)
            yield parent


@pytest.fixture
async def stage(arena: Arena, tmp_path: Path) -> Stage:
    home = Home(arena, tmp_path)
    home.configure({"server": {"drain_seconds": 0}})
    (tmp_path / "fates").mkdir()
    return Stage(home, tmp_path / "fates")


def pids(parent: DaemonProcess, text: str) -> dict[int, list[int]]:
    """The ids of the processes that have logged this text, by worker."""
    found: dict[int, list[int]] = {}
    for line in parent.log:
        if line.endswith(f" {text}"):
            number, pid = map(int, line.split(" ")[:2])
            found.setdefault(number, []).append(pid)
    return found


async def test_all_workers_start_and_end_with_the_parent(stage: Stage) -> None:
    async with stage.running() as parent:
        started = pids(parent, "is up")
        assert sorted(started) == [1, 2, 3]
        assert stage.home.folder.is_held()
        assert (await parent.stop())[0] == 0
    assert pids(parent, "drains") == started
    assert not stage.home.folder.is_held()


async def test_a_killed_worker_is_started_again(stage: Stage) -> None:
    async with stage.running() as parent:
        ((first,), (second,), (third,)) = (pids(parent, "is up")[number] for number in (1, 2, 3))
        os.kill(second, signal.SIGKILL)
        await parent.logs(f"worker 2 (process {second}) ended unexpectedly, by SIGKILL")
        await parent.logs("2 ")
        os.kill(pids(parent, "is up")[2][-1], signal.SIGKILL)  # and again
        await parent.logs("it is started again in 0.01 s")
        await parent.logs("2 ")
        assert (await parent.stop())[0] == 0
    assert (len(pids(parent, "is up")[2]), pids(parent, "drains")[1], pids(parent, "drains")[3]) == (
        3,
        [first],
        [third],
    )


@pytest.mark.parametrize("status", FINAL)
async def test_a_final_status_of_a_worker_ends_the_daemon_at_once(stage: Stage, status: int) -> None:
    stage.fate(1, f"note('fails'); sys.exit({status})")
    async with stage.launched() as parent:
        assert await parent.ends() == status
    assert len(pids(parent, "fails")[1]) == 1
    assert f"worker 1 has ended before all workers were ready, with status {status}" in "\n".join(parent.log)
    assert "is up" not in "\n".join(parent.log)  # the other workers were not even started, so the error is logged once


async def test_a_worker_that_keeps_failing_at_startup_ends_the_daemon(stage: Stage) -> None:
    stage.fate(2, "note('fails'); sys.exit(75)")
    async with stage.launched() as parent:
        assert await parent.ends() == 75
    assert len(pids(parent, "fails")[2]) == START_TRIES
    assert "all are up" not in parent.log
    assert pids(parent, "is up")[1] == pids(parent, "drains")[1]


async def test_a_worker_that_is_never_ready_is_killed(stage: Stage) -> None:
    stage.fate(1, "time.sleep(60)")
    async with stage.launched(START_SECONDS="0.1", SILENT_SECONDS="0.2") as parent:
        assert await parent.ends() == 1
    assert f"worker 1 has ended before all workers were ready, {START_TRIES} times, by SIGABRT" in parent.log[-1]


async def test_an_unresponsive_worker_is_killed_and_started_again(stage: Stage) -> None:
    async with stage.running(SILENT_SECONDS="1") as parent:
        (frozen,) = pids(parent, "is up")[2]
        os.kill(frozen, signal.SIGSTOP)
        await parent.logs(f"worker 2 (process {frozen}) does not respond")
        await parent.logs(f"worker 2 (process {frozen}) ended unexpectedly, by SIGKILL")  # SIGABRT has no effect
        await parent.logs("2 ")
        assert len(pids(parent, "is up")[1]) == 1
        assert (await parent.stop())[0] == 0


async def test_a_restart_replaces_the_workers_one_after_the_other(stage: Stage) -> None:
    async with stage.running() as parent:
        before = pids(parent, "is up")
        parent.signal(signal.SIGUSR1)
        await parent.logs("all workers have been restarted")
        after = pids(parent, "is up")
        assert (await parent.stop())[0] == 0
    assert all(len(after[number]) == 2 and after[number][0] == before[number][0] for number in (1, 2, 3))
    notes = [(line.split(" ")[0], line.split(" ", 2)[2]) for line in parent.log if line[0] in "123" and line[1] == " "]
    assert notes[3:9] == [(number, what) for number in "123" for what in ("is up", "drains")]


async def test_a_restart_is_given_up_if_a_successor_fails(stage: Stage) -> None:
    async with stage.running() as parent:
        before = pids(parent, "is up")
        stage.fate(2, "note('fails'); sys.exit(78)")
        parent.signal(signal.SIGUSR1)
        await parent.logs("the restart is given up: worker 2's successor has ended before it was ready, with status 78")
        assert (await parent.stop())[0] == 0
    after = pids(parent, "drains")
    assert (after[2], after[3]) == (before[2], before[3])
    assert len(pids(parent, "is up")[1]) == 2


async def test_a_reload_reaches_all_workers(stage: Stage) -> None:
    async with stage.running() as parent:
        parent.signal(signal.SIGHUP)
        await noted(parent, "reloads", 3)
        assert (await parent.stop())[0] == 0


async def test_a_reload_that_fails_in_the_parent_still_reaches_the_workers(stage: Stage) -> None:
    async with stage.running(BROKEN_DISK="1") as parent:
        parent.signal(signal.SIGHUP)
        await parent.logs("OSError: [Errno 5] Input/output error")
        await noted(parent, "reloads", 3)
        assert (await parent.stop())[0] == 0


#: A worker that logs the messages from its parent, except rosters; `asks` is code that it runs first.
_HEARS = """
import json
note("is up"); ready(); {asks}
rest = b""
while True:
    *lines, rest = (rest + os.read(int(link), 65536)).split(b"\\n")
    for kind, value in map(json.loads, lines):
        if kind != "roster":
            note(f"hears {{kind}} {{json.dumps(value)}}")
"""


async def test_a_worker_can_request_a_reload_and_a_log_level_for_all_workers(stage: Stage) -> None:
    stage.fate(1, _HEARS.format(asks=""))
    stage.fate(2, "signal.signal(signal.SIGHUP, lambda *_: (notify('RELOADING=1'), ready())); ready(); last()")
    stage.fate(3, _HEARS.format(asks="""tell("log", '{"level": "debug"}'); tell("reload", 7)"""))
    async with stage.running() as parent:
        await noted(parent, "hears reloaded [7, [[1, true], [2, null], [3, true]]]", 1)
        assert sorted(pids(parent, "reloads")) == [1, 3]
        await noted(parent, 'hears log {"level": "debug"}', 2)
        os.kill(pids(parent, "is up")[1][0], signal.SIGKILL)
        while len(set(pids(parent, 'hears log {"level": "debug"}')[1])) < 2:  # its successor gets the message too
            await parent.logs("hears log")
        assert (await parent.stop())[0] == 0


async def test_a_worker_that_does_not_end_is_killed(stage: Stage) -> None:
    stage.fate(2, "signal.signal(signal.SIGTERM, lambda *_: note('refuses')); ready(); last()")
    async with stage.running(KILL_SECONDS="0.3") as parent:
        status, seconds = await parent.stop()
        assert status == 1  # since the worker was killed
        assert 0.3 <= seconds <= 10
    assert sorted(pids(parent, "drains")) == [1, 3]


async def test_a_second_signal_reaches_the_workers_too(stage: Stage) -> None:
    stubborn = "signal.signal(signal.SIGTERM, lambda *_: (signal.signal(signal.SIGTERM, leave), note('waits')))"
    stage.fate(2, f"{stubborn}; ready(); last()")
    async with stage.running() as parent:
        parent.signal(signal.SIGINT)
        await noted(parent, "waits", 1)
        parent.signal(signal.SIGINT)
        assert await parent.ends() == 0


async def test_the_parent_exits_with_the_worst_status_of_its_workers(stage: Stage) -> None:
    stage.fate(3, "signal.signal(signal.SIGTERM, lambda *_: sys.exit(75)); ready(); last()")
    async with stage.running() as parent:
        assert (await parent.stop())[0] == 75


async def test_a_signal_during_startup_ends_the_daemon(stage: Stage) -> None:
    stage.fate(1, "signal.signal(signal.SIGTERM, signal.SIG_DFL); note('starts'); time.sleep(60)")
    async with stage.launched() as parent:
        await parent.logs("starts", 30)
        assert (await parent.stop())[0] == 0


# --- notifications to the service manager ---


@pytest.fixture
async def manager(tmp_path: Path) -> AsyncIterator[Manager]:
    async with listening(str(tmp_path / "notify")) as manager:
        yield manager


async def test_the_service_manager_is_notified_about_all_workers(stage: Stage, manager: Manager) -> None:
    async with stage.launched(**manager.environ) as parent:
        await manager.hears("STATUS=workers ready: 0 of 3; answers running: 0", 30)
        await manager.hears("READY=1")
        await noted(parent, "is up", 3)  # the manager may be notified before the log is read
        assert sorted(pids(parent, "is up")) == [1, 2, 3]
        parent.signal(signal.SIGHUP)
        await manager.hears("RELOADING=1")
        await noted(parent, "reloads", 3)
        await manager.hears("READY=1")
        await until(
            lambda: manager.status == "workers ready: 3 of 3; answers running: 0"
        )  # it may have been sent at any time since then
        parent.signal(signal.SIGTERM)
        await manager.hears("STOPPING=1")
        assert await parent.ends() == 0


async def test_the_watchdog_is_notified_while_at_least_one_worker_runs(stage: Stage, manager: Manager) -> None:
    async with stage.running(**manager.environ, WATCHDOG_USEC="1000000") as parent:
        await manager.hears("WATCHDOG=1")
        living = [pid for (pid,) in pids(parent, "is up").values()]
        for number in (1, 2, 3):
            stage.fate(number, "note('hangs'); time.sleep(60)")  # from its next start on
        for pid in living[1:]:
            os.kill(pid, signal.SIGKILL)
        await noted(parent, "hangs", 2)
        manager.heard()
        await manager.hears("WATCHDOG=1")
        os.kill(living[0], signal.SIGKILL)
        await noted(parent, "hangs", 3)
        manager.heard()
        with pytest.raises(TimeoutError):
            await manager.hears("WATCHDOG=1", 1.0)
        assert (await parent.stop())[0] == 0


async def noted(parent: DaemonProcess, text: str, workers: int) -> None:
    """Wait until this many workers have logged the text."""
    while len(pids(parent, text)) < workers:
        await parent.logs("")


# --- statuses ---


@a_share(of=20)
@given(st.lists(st.integers(-64, 255)))
def test_the_worst_status_is_one_of_the_statuses_and_0_only_if_all_are_0(statuses: list[int]) -> None:
    found = worst_status(statuses)
    assert (found == 0) == (not any(statuses))
    assert found in statuses or (found == 1 and min(statuses) < 0) or not statuses


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ([0, 78, 1], 78),
        ([70, 78], 78),
        ([75, 70], 70),
        ([75, -9], 1),
        ([75, 0], 75),
        ([-15], 1),
        ([2, 75], 75),
        ([], 0),
    ],
)
def test_the_worst_status_follows_the_order_of_severity(statuses: list[int], expected: int) -> None:
    assert worst_status(statuses) == expected


@pytest.mark.parametrize(
    ("status", "words"), [(0, "with status 0"), (-9, "by SIGKILL"), (-40, "by signal 40"), (78, "with status 78")]
)
def test_a_status_is_described_in_words(status: int, words: str) -> None:
    assert describe_status(status) == words
