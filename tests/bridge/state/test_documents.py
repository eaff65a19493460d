"""Promises: a reader finds the old or the new document whole, whatever kills the writer; nothing is lost or leaks."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import logging
import os
import posix
import random
import re
import resource
import signal
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import pytest
from no_files import NO_FILES, socket_at

from bridge.state.documents import Document, StateError, StateFolder, StateUnavailable
from bridge.state.forms import DocumentForm

Words: TypeAlias = tuple[str, ...]

KILLS = 100
UPDATES = 50


def parse_words(value: object) -> Words:
    if not isinstance(value, list):
        raise TypeError(f"canary-secret in {value}")
    return tuple(word.upper() if word.isupper() else word for word in value)


def words_document(folder: StateFolder, *, precious: bool = True) -> Document[Words]:
    return Document(folder, DocumentForm("words", 1, parse_words, list, (), precious=precious))


@pytest.fixture(autouse=True)
def synced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here files do wait for the disk, during which a kill is most likely to hit a write."""
    monkeypatch.setattr(os, "fsync", posix.fsync)


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    folder = StateFolder(tmp_path / "state")
    folder.prepare()
    return folder


@pytest.fixture
def words(folder: StateFolder) -> Document[Words]:
    return words_document(folder)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def append(word: str) -> Callable[[Words], Words]:
    return lambda old: (*old, word)


def fork(work: Callable[..., object], *arguments: object) -> int:
    """A process of its own that does `work`; its id."""
    if pid := os.fork():
        return pid
    try:
        work(*arguments)
    except BaseException:  # noqa: BLE001 - a forked child must never return into pytest
        os._exit(1)
    os._exit(0)


# --- documents ---


async def test_absent_is_empty(words: Document[Words]) -> None:
    assert await words.load() == ()


async def test_saved_is_loaded(folder: StateFolder, words: Document[Words]) -> None:
    await words.save(("a", "é", "中"))
    assert await words_document(folder).load() == ("a", "é", "中")
    assert json.loads(words.path.read_bytes()) == {"version": 1, "words": ["a", "é", "中"]}


async def test_update_gives_and_writes_the_outcome(folder: StateFolder, words: Document[Words]) -> None:
    await words.save(("a",))
    assert await words.update(append("b")) == ("a", "b")
    assert await words_document(folder).load() == ("a", "b")


async def test_an_update_that_raises_writes_nothing(words: Document[Words]) -> None:
    await words.save(("a",))

    def refuse(_: Words) -> NoReturn:
        raise KeyError("no such word")

    with pytest.raises(KeyError):
        await words.update(refuse)
    assert await words.load() == ("a",)
    await words.save(("b",))  # and no lock is left behind


async def test_only_the_writing_of_others_is_a_change(folder: StateFolder, words: Document[Words]) -> None:
    other = words_document(folder)
    assert not await words.changed()
    await other.save(("a",))
    assert await words.changed()
    await words.load()
    assert not await words.changed()
    await words.save(("b",))
    assert not await words.changed()
    await other.update(lambda old: old)
    assert await words.changed()
    await words.load()
    words.path.unlink()
    assert await words.changed()


async def test_many_are_looked_at_together(
    folder: StateFolder, words: Document[Words], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.state.documents.WATCH_SECONDS", 0.0)
    await words.save(("a",))
    none = Document(folder, DocumentForm("none", 1, str, str, "", precious=False))
    await none.load()
    assert not await folder.changes((words, none))
    await words_document(folder).update(lambda old: old)
    assert await folder.changes((none, words))
    await words.load()
    assert not await folder.changes((words, none))


# --- damage ---

DAMAGE = {
    "empty file": (b"", "is not JSON at line 1, column 1"),
    "not JSON": (b'{"version": 1,\n "words": oops}', "is not JSON at line 2, column 11"),
    "truncated": (b'{"version": 1, "words": ["a"', "is not JSON at line 1"),
    "not UTF-8": (b'{"version": 1, "words": ["\xff"]}', "is not JSON"),
    "not an object": (b"[]", 'is not an object with "version" and "words"'),
    "no version": (b'{"words": []}', 'is not an object with "version" and "words"'),
    "no value": (b'{"version": 1}', 'is not an object with "version" and "words"'),
    "later version": (b'{"version": 2, "words": []}', "has version 2, this bridge reads 1"),
    "TypeError": (b'{"version": 1, "words": {"a": 1}}', r"holds a value of the wrong form \(TypeError\)"),
}
damaged = pytest.mark.parametrize(("data", "what"), DAMAGE.values(), ids=DAMAGE.keys())


@damaged
async def test_damage_to_a_precious_document_stops_and_is_untouched(
    words: Document[Words], data: bytes, what: str
) -> None:
    words.path.write_bytes(data)
    for use in (words.load, lambda: words.update(lambda old: old)):
        with pytest.raises(StateError, match=rf"words\.json {what}.*left untouched: repair it") as caught:
            await use()
        assert "canary-secret" not in str(caught.value)
    assert words.path.read_bytes() == data


@damaged
async def test_damage_to_another_document_is_moved_aside(
    folder: StateFolder, caplog: pytest.LogCaptureFixture, data: bytes, what: str
) -> None:
    words = words_document(folder, precious=False)
    words.path.write_bytes(data)
    assert await words.load() == ()
    (aside,) = folder.path.glob("words.json.corrupt-*")
    assert aside.read_bytes() == data
    assert re.search(rf"words\.json {what}.*; moved aside to {aside.name}", caplog.text)
    assert not words.path.exists()
    assert not await words.changed()


async def test_an_update_of_a_damaged_document_starts_from_empty(folder: StateFolder) -> None:
    words = words_document(folder, precious=False)
    words.path.write_bytes(b"{")
    assert await words.update(append("a")) == ("a",)
    assert len(list(folder.path.glob("words.json.corrupt-*"))) == 1


async def test_a_parser_is_not_quoted_in_tracebacks(words: Document[Words]) -> None:
    words.path.write_bytes(b'{"version": 1, "words": {"a": 1}}')
    with pytest.raises(StateError) as caught:
        await words.load()
    assert "canary-secret" not in str(caught.getrepr(style="long", chain=True))


# --- a disk that refuses ---


def refuse_fsync(patch: pytest.MonkeyPatch) -> None:
    def fsync(_: int) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    patch.setattr(os, "fsync", fsync)


def refuse_rename(patch: pytest.MonkeyPatch) -> None:
    def replace(*_: object) -> NoReturn:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    patch.setattr(Path, "replace", replace)


@pytest.mark.parametrize(
    ("refuse", "what"), [(refuse_fsync, "No space left on device"), (refuse_rename, "Read-only file system")]
)
async def test_a_failed_save_leaves_the_old_file(
    folder: StateFolder, words: Document[Words], refuse: Callable[[pytest.MonkeyPatch], None], what: str
) -> None:
    await words.save(("old",))
    with pytest.MonkeyPatch.context() as patch:
        refuse(patch)
        with pytest.raises(StateError, match=rf"words\.json cannot be saved, make room.*{what}"):
            await words.save(("new",))
    assert not await words.changed()
    assert await words.load() == ("old",)
    assert not list(folder.path.glob("*.tmp"))


async def test_a_full_disk_in_the_middle_of_a_file(folder: StateFolder, words: Document[Words]) -> None:
    await words.save(("old",))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(StateError, match="File too large"):
            await words.save(("new" * 10_000,))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert await words.load() == ("old",)
    assert not list(folder.path.glob("*.tmp"))


async def test_a_missing_folder_is_a_state_error(tmp_path: Path) -> None:
    words = words_document(StateFolder(tmp_path / "nowhere"))
    assert await words.load() == ()
    with pytest.raises(StateError, match="nowhere"):
        await words.save(())


async def test_a_folder_in_the_file_s_place(words: Document[Words]) -> None:
    words.path.mkdir()
    with pytest.raises(StateError, match="cannot be read: Is a directory"):
        await words.load()
    with pytest.raises(StateError, match="cannot be saved"):
        await words.save(())


def test_a_file_in_the_folder_s_place(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.touch()
    with pytest.raises(StateError, match=r"server\.state_dir must name a folder"):
        StateFolder(path).prepare()


# --- who may read ---


async def test_everything_is_private(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "deep" / "state")
    umask = os.umask(0)
    try:
        folder.prepare()
        await words_document(folder).save(())
        with folder.hold():
            modes = {path.name: mode(path) for path in folder.path.iterdir()}
    finally:
        os.umask(umask)
    assert mode(folder.path) == 0o700
    assert modes == {"words.json": 0o600, ".words.lock": 0o600, ".daemon.lock": 0o600}


async def test_wider_modes_are_tightened(folder: StateFolder, caplog: pytest.LogCaptureFixture) -> None:
    words = words_document(folder)
    await words.save(("a",))
    words.path.chmod(0o644)
    folder.path.chmod(0o755)
    folder.prepare()
    assert await words.load() == ("a",)
    assert (mode(folder.path), mode(words.path)) == (0o700, 0o600)
    assert caplog.text.count("was accessible to other users") == 2


async def test_a_link_is_replaced_not_followed(tmp_path: Path, words: Document[Words]) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    words.path.symlink_to(target)
    words.path.with_name(".words.json.tmp").symlink_to(target)
    await words.save(("a",))
    assert target.read_bytes() == b"precious"
    assert not words.path.is_symlink()


async def test_a_lock_file_that_is_a_link_is_refused(tmp_path: Path, folder: StateFolder) -> None:
    (folder.path / ".words.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateError, match=r"\.words\.lock cannot be locked"):
        await words_document(folder).save(())
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can write for another user")
async def test_root_writes_for_the_owner_of_the_folder(folder: StateFolder) -> None:
    os.chown(folder.path, 12345, 12345)
    await words_document(folder).save(())
    assert {path.stat().st_uid for path in folder.path.iterdir()} == {12345}


# --- other tasks and processes ---


async def test_updates_of_many_tasks_lose_nothing(words: Document[Words]) -> None:
    await asyncio.gather(*(words.update(append(str(i))) for i in range(UPDATES)))
    assert sorted(await words.load(), key=int) == [str(i) for i in range(UPDATES)]


def test_updates_of_two_processes_lose_nothing(folder: StateFolder) -> None:
    async def append_all(process: str) -> None:
        words = words_document(folder)
        for i in range(UPDATES):
            await words.update(append(f"{process}{i}"))

    writers = [fork(lambda name: asyncio.run(append_all(name)), name) for name in "xy"]
    assert [os.waitpid(pid, 0)[1] for pid in writers] == [0, 0]
    written = asyncio.run(words_document(folder).load())
    assert set(written) == {f"{process}{i}" for process in "xy" for i in range(UPDATES)}
    assert len(written) == 2 * UPDATES


def test_a_writer_killed_at_any_moment_leaves_a_whole_document(folder: StateFolder) -> None:
    chance = random.Random(21)

    async def write_on(kill: int) -> None:
        words = words_document(folder)
        for size in range(20_000, 80_000):
            await words.save((str(kill), "x" * size))

    asyncio.run(words_document(folder).save(("-1", "x" * 20_000)))
    strays = 0
    for kill in range(KILLS):
        writer = fork(lambda kill: asyncio.run(write_on(kill)), kill)
        time.sleep(chance.uniform(0.005, 0.04))  # the moment of the kill is the point: nothing to await
        os.kill(writer, signal.SIGKILL)
        assert os.waitpid(writer, 0)[1] == signal.SIGKILL
        written_by, text = asyncio.run(words_document(folder).load())
        assert -1 <= int(written_by) <= kill
        assert 20_000 <= len(text) < 80_000
        strays += len(list(folder.path.glob(".*.tmp")))
    assert strays  # else no kill ever hit a write
    (folder.path / ".words.json.tmp").touch()
    folder.prepare()
    assert not list(folder.path.glob(".*.tmp"))


async def test_the_sweep_waits_for_a_live_writer(folder: StateFolder) -> None:
    stray = folder.path / ".words.json.tmp"
    stray.touch()
    with folder.locked("words"):
        sweep = asyncio.get_running_loop().run_in_executor(None, folder.prepare)
        await asyncio.wait([sweep], timeout=0.05)
        assert stray.exists()
    await sweep
    assert not stray.exists()


async def test_a_lock_that_never_comes_free_is_an_error(
    folder: StateFolder, words: Document[Words], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.state.documents.LOCK_TIMEOUT", 0.02)
    with folder.locked("words"), pytest.raises(StateError, match="look for a suspended process"):
        await words.save(())


# --- a caller who leaves ---


class Stalled:
    """A change that reports that it has begun and goes on when it is told."""

    def __init__(self, outcome: Words) -> None:
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.outcome = outcome

    def __call__(self, _: Words) -> Words:
        self.begun.set()
        self.go_on.wait(10)
        return self.outcome


async def test_a_save_once_begun_completes_and_keeps_its_turn(words: Document[Words]) -> None:
    change = Stalled(("first",))
    async with asyncio.TaskGroup() as tasks:
        caller = tasks.create_task(words.update(change))
        await asyncio.to_thread(change.begun.wait)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller  # at once, while the thread still runs
        later = tasks.create_task(words.update(append("second")))
        await asyncio.wait([later], timeout=0.02)
        assert not later.done()
        change.go_on.set()
    assert await words.load() == ("first", "second")


async def test_a_failure_after_its_caller_was_cancelled_is_logged(
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
        await words.load()  # its turn comes after the failure
    assert ("bridge.state.documents", logging.ERROR) in [record[:2] for record in caplog.record_tuples]
    assert "its caller was cancelled" in caplog.text


async def test_a_document_is_saved_as_it_was_when_save_was_called(folder: StateFolder) -> None:
    live: list[str] = ["a"]
    document: Document[Any] = Document(
        folder, DocumentForm("live", 1, parse_words, lambda value: value, (), precious=False)
    )
    async with asyncio.TaskGroup() as tasks:
        with folder.locked("live"):
            save = tasks.create_task(document.save(live))
            await asyncio.wait([save], timeout=0.02)
            live.append("b")
    assert await document.load() == ("a",)


# --- one daemon ---


async def test_one_daemon_holds_the_folder_while_commands_write(folder: StateFolder, words: Document[Words]) -> None:
    with folder.hold():
        rival = StateFolder(folder.path)
        with pytest.raises(StateError, match=f"in use by the daemon with process id {os.getpid()}"), rival.hold():
            pytest.fail("two daemons hold one folder")
        await words.save(("a",))
    with folder.hold():
        pass


def test_checking_for_a_daemon_leaves_no_trace(folder: StateFolder) -> None:
    assert not folder.is_held()
    assert not list(folder.path.iterdir())
    with folder.hold():
        assert StateFolder(folder.path).is_held()
    assert not folder.is_held()
    assert not StateFolder(folder.path / "none").is_held()


def test_a_daemon_starts_while_it_is_asked_whether_one_runs(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.state.documents.DAEMON_LOCK_TIMEOUT", 10.0)
    with folder.hold():
        pass
    asking = os.open(folder.path / ".daemon.lock", os.O_RDONLY)
    fcntl.flock(asking, fcntl.LOCK_SH)  # as `is_held` has it for a moment
    threading.Timer(0.01, os.close, [asking]).start()
    with folder.hold():
        assert folder.is_held()


def test_a_killed_daemon_lets_go(folder: StateFolder) -> None:
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


# --- what is no file ---


no_files = pytest.mark.parametrize(("place", "said"), NO_FILES.values(), ids=NO_FILES)


def _identity(path: Path) -> tuple[int, ...]:
    """What a change of a path would change; its time of access, which looking at it may change, is left out."""
    stat = path.lstat()
    return stat.st_ino, stat.st_mode, stat.st_size, stat.st_mtime_ns


@no_files
async def test_a_path_that_is_not_a_file_is_named_and_left_untouched(
    words: Document[Words], monkeypatch: pytest.MonkeyPatch, place: Callable[[Path], object], said: str
) -> None:
    monkeypatch.chdir(words.path.parent)
    place(words.path)
    before = _identity(words.path)
    for use in (words.load, lambda: words.update(lambda old: old)):
        with pytest.raises(StateError, match=rf"words\.json {said}.*left untouched") as caught:
            await use()
        assert not isinstance(caught.value, StateUnavailable)
    assert _identity(words.path) == before
    assert not await words.changed(), "said once, not with every look"


@no_files
async def test_another_document_starts_without_it(
    folder: StateFolder,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    place: Callable[[Path], object],
    said: str,
) -> None:
    monkeypatch.chdir(folder.path)
    words = words_document(folder, precious=False)
    place(words.path)
    assert await words.update(append("a")) == ("a",)
    assert len(list(folder.path.glob("words.json.corrupt-*"))) == 1
    assert said in caplog.text


@pytest.mark.parametrize("place", [os.mkfifo, socket_at, Path.mkdir], ids=["a pipe", "a socket", "a directory"])
@pytest.mark.parametrize("name", [".words.lock", ".daemon.lock"])
async def test_a_lock_that_is_no_file_is_refused(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch, place: Callable[[Path], object], name: str
) -> None:
    monkeypatch.chdir(folder.path)
    place(folder.path / name)
    if name == ".words.lock":
        with pytest.raises(StateError, match=name):
            await words_document(folder).save(())
        return
    with pytest.raises(StateError, match=name), folder.hold():
        pass
    with pytest.raises(StateError, match=name):
        folder.is_held()


async def test_a_link_to_a_file_is_followed(tmp_path: Path, words: Document[Words]) -> None:
    elsewhere = tmp_path / "elsewhere.json"
    await words.save(("a",))
    words.path.rename(elsewhere)
    words.path.symlink_to(elsewhere)
    assert await words.load() == ("a",)


async def test_a_document_is_never_saved_larger_than_it_may_be_read(folder: StateFolder) -> None:
    words: Document[Words] = Document(
        folder, DocumentForm("words", 1, parse_words, list, (), precious=True, max_bytes=200)
    )
    await words.save(("a",))
    with pytest.raises(StateError, match="of at most 200"):
        await words.update(lambda old: (*old, "b" * 200))
    assert await words.load() == ("a",)


@pytest.mark.parametrize("data", [b'{"version": 1, "words": ' + b"[" * 900 + b"]" * 900 + b"}", b"[" * 1_000_000])
async def test_nested_damage(words: Document[Words], data: bytes) -> None:
    words.path.write_bytes(data)
    with pytest.raises(StateError, match="left untouched"):
        await words.load()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO, errno.EACCES, errno.EMFILE])
def test_a_temporary_disk_error_is_distinguished_from_damage(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StateUnavailable, match=os.strerror(number)), folder.hold():
        pass


def test_a_file_in_the_folder_s_place_is_not_for_now(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.touch()
    with pytest.raises(StateError) as caught:
        StateFolder(path / "deeper").prepare()
    assert not isinstance(caught.value, StateUnavailable)
