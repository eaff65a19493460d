"""Documents that several tasks and processes write, and callers that are cancelled in the middle of a save."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from word_documents import Words, append, parse_words, words_document

from bridge.state.documents import Document, StateFolder
from bridge.state.errors import StateError
from bridge.state.formats import DocumentFormat

pytestmark = pytest.mark.usefixtures("synced")

KILLS = 50
UPDATES = 50


def fork(work: Callable[..., object], *arguments: object) -> int:
    """Run `work` in a forked process and return its id."""
    if pid := os.fork():
        return pid
    try:
        work(*arguments)
    except BaseException:  # noqa: BLE001 - a forked child must never return into pytest
        os._exit(1)
    os._exit(0)


async def test_concurrent_updates_by_many_tasks_are_not_lost(words: Document[Words]) -> None:
    await asyncio.gather(*(words.update(append(str(i))) for i in range(UPDATES)))
    assert sorted(await words.load(), key=int) == [str(i) for i in range(UPDATES)]


def test_concurrent_updates_by_two_processes_are_not_lost(folder: StateFolder) -> None:
    async def append_all(process: str) -> None:
        words = words_document(folder)
        for i in range(UPDATES):
            await words.update(append(f"{process}{i}"))

    writers = [fork(lambda name: asyncio.run(append_all(name)), name) for name in "xy"]
    assert [os.waitpid(pid, 0)[1] for pid in writers] == [0, 0]
    written = asyncio.run(words_document(folder).load())
    assert set(written) == {f"{process}{i}" for process in "xy" for i in range(UPDATES)}
    assert len(written) == 2 * UPDATES


def test_a_writer_killed_at_any_moment_leaves_a_complete_document(folder: StateFolder) -> None:
    chance = random.Random(21)

    reading, writing = os.pipe()

    async def write_on(kill: int) -> None:
        words = words_document(StateFolder(folder.path))  # the parent's relies on threads that a forked process lacks
        for size in range(20_000, 80_000):
            await words.save((str(kill), "x" * size))
            if size == 20_000:
                os.write(writing, b"x")

    strays = 0
    for kill in range(KILLS):
        writer = fork(lambda kill: asyncio.run(write_on(kill)), kill)
        os.read(reading, 1)  # it has saved once
        time.sleep(chance.uniform(0.0, 0.03))  # the kill must come at a random moment
        os.kill(writer, signal.SIGKILL)
        assert os.waitpid(writer, 0)[1] == signal.SIGKILL
        written_by, text = asyncio.run(words_document(folder).load())
        assert int(written_by) == kill
        assert 20_000 <= len(text) < 80_000
        strays += len(list(folder.path.glob(".*.tmp")))
    assert strays  # at least one kill has hit a write
    os.close(reading)
    os.close(writing)
    (folder.path / ".words.json.tmp").touch()
    folder.prepare()
    assert not list(folder.path.glob(".*.tmp"))


async def test_stale_temporary_files_are_removed_only_after_a_live_writer_has_finished(folder: StateFolder) -> None:
    stray = folder.path / ".words.json.tmp"
    stray.touch()
    with folder.locked("words"):
        sweep = asyncio.get_running_loop().run_in_executor(None, folder.prepare)
        await asyncio.wait([sweep], timeout=0.05)
        assert stray.exists()
    await sweep
    assert not stray.exists()


async def test_a_lock_that_is_never_released_is_a_state_error(
    folder: StateFolder, words: Document[Words], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.state.folder.LOCK_TIMEOUT", 0.02)
    with folder.locked("words"), pytest.raises(StateError, match="look for a suspended process"):
        await words.save(())


class Stalled:
    """A change that reports its beginning in `begun` and then waits for `go_on`."""

    def __init__(self, outcome: Words) -> None:
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.outcome = outcome

    def __call__(self, _: Words) -> Words:
        self.begun.set()
        self.go_on.wait(10)
        return self.outcome


async def test_a_cancelled_save_that_has_begun_completes_before_the_next_one(words: Document[Words]) -> None:
    change = Stalled(("first",))
    async with asyncio.TaskGroup() as tasks:
        caller = tasks.create_task(words.update(change))
        await asyncio.to_thread(change.begun.wait)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller  # ends at once, while the thread still runs
        later = tasks.create_task(words.update(append("second")))
        await asyncio.wait([later], timeout=0.02)
        assert not later.done()
        change.go_on.set()
    assert await words.load() == ("first", "second")


async def test_a_failed_save_whose_caller_was_cancelled_is_logged(
    words: Document[Words], caplog: pytest.LogCaptureFixture
) -> None:
    change = Stalled(("lost",))
    async with asyncio.TaskGroup() as tasks:
        caller = tasks.create_task(words.update(change))
        await asyncio.to_thread(change.begun.wait)
        caller.cancel()
    words.path.mkdir()
    change.go_on.set()
    with pytest.raises(StateError):
        await words.load()  # it runs after the failed save
    assert ("bridge.state.documents", logging.ERROR) in [record[:2] for record in caplog.record_tuples]
    assert "its caller was cancelled" in caplog.text


async def test_a_document_is_saved_as_it_was_when_save_was_called(folder: StateFolder) -> None:
    live: list[str] = ["a"]
    document: Document[Any] = Document(
        folder, DocumentFormat("live", 1, parse_words, lambda value: value, (), precious=False)
    )
    async with asyncio.TaskGroup() as tasks:
        with folder.locked("live"):
            save = tasks.create_task(document.save(live))
            await asyncio.wait([save], timeout=0.02)
            live.append("b")
    assert await document.load() == ("a",)


async def test_only_one_daemon_can_hold_the_folder_while_commands_write(
    folder: StateFolder, words: Document[Words]
) -> None:
    with folder.hold():
        rival = StateFolder(folder.path)
        with pytest.raises(StateError, match=f"in use by the daemon with process id {os.getpid()}"), rival.hold():
            pytest.fail("two daemons hold one folder")
        await words.save(("a",))
    with folder.hold():
        pass


def test_checking_for_a_running_daemon_creates_no_files(folder: StateFolder) -> None:
    assert not folder.is_held()
    assert not list(folder.path.iterdir())
    with folder.hold():
        assert StateFolder(folder.path).is_held()
    assert not folder.is_held()
    assert not StateFolder(folder.path / "none").is_held()


def test_a_daemon_can_start_while_another_process_checks_for_one(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.state.folder.DAEMON_LOCK_TIMEOUT", 10.0)
    with folder.hold():
        pass
    asking = os.open(folder.path / ".daemon.lock", os.O_RDONLY)
    fcntl.flock(asking, fcntl.LOCK_SH)  # as `holder` takes it for a moment
    threading.Timer(0.01, os.close, [asking]).start()
    with folder.hold():
        assert folder.is_held()


def test_a_killed_daemon_releases_the_folder(folder: StateFolder) -> None:
    held, tell = os.pipe()

    def serve() -> None:
        with folder.hold():
            os.write(tell, b"!")
            signal.pause()

    daemon = fork(serve)
    os.read(held, 1)
    with pytest.raises(StateError, match=f"process id {daemon}"), folder.hold():
        pass
    os.kill(daemon, signal.SIGKILL)
    os.waitpid(daemon, 0)
    with folder.hold():
        pass
    os.close(held)
    os.close(tell)
