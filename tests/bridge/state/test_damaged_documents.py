"""Documents that cannot be read or saved: damage, paths that are not files, and disk errors."""

from __future__ import annotations

import errno
import os
import re
import resource
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from no_files import NO_FILES, socket_at
from word_documents import Words, append, words_document

from bridge.state.documents import Document, StateFolder
from bridge.state.errors import StateError, StateUnavailable

pytestmark = pytest.mark.usefixtures("synced")

DAMAGE = {
    "empty file": (b"", "is not JSON at line 1, column 1"),
    "not JSON": (b'{"version": 1,\n "words": oops}', "is not JSON at line 2, column 11"),
    "truncated": (b'{"version": 1, "words": ["a"', "is not JSON at line 1"),
    "not UTF-8": (b'{"version": 1, "words": ["\xff"]}', "is not JSON"),
    "not an object": (b"[]", 'is not an object with "version" and "words"'),
    "no version": (b'{"words": []}', 'is not an object with "version" and "words"'),
    "no value": (b'{"version": 1}', 'is not an object with "version" and "words"'),
    "later version": (b'{"version": 2, "words": []}', "has version 2, this bridge reads 1"),
    "TypeError": (b'{"version": 1, "words": {"a": 1}}', r"holds a value of the wrong format \(TypeError\)"),
}
damaged = pytest.mark.parametrize(("data", "what"), DAMAGE.values(), ids=DAMAGE.keys())


@damaged
async def test_a_damaged_precious_document_is_an_error_and_left_untouched(
    words: Document[Words], data: bytes, what: str
) -> None:
    words.path.write_bytes(data)
    for use in (words.load, lambda: words.update(lambda old: old)):
        with pytest.raises(StateError, match=rf"words\.json {what}.*left untouched: repair it") as caught:
            await use()
        assert "canary-secret" not in str(caught.value)
    assert words.path.read_bytes() == data


@damaged
async def test_a_damaged_replaceable_document_is_moved_aside(
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


async def test_an_update_of_a_damaged_replaceable_document_starts_from_empty(folder: StateFolder) -> None:
    words = words_document(folder, precious=False)
    words.path.write_bytes(b"{")
    assert await words.update(append("a")) == ("a",)
    assert len(list(folder.path.glob("words.json.corrupt-*"))) == 1


async def test_parse_errors_do_not_quote_the_document_in_tracebacks(words: Document[Words]) -> None:
    words.path.write_bytes(b'{"version": 1, "words": {"a": 1}}')
    with pytest.raises(StateError) as caught:
        await words.load()
    assert "canary-secret" not in str(caught.getrepr(style="long", chain=True))


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
        with pytest.raises(StateError, match=rf"words\.json cannot be saved; free disk space.*{what}"):
            await words.save(("new",))
    assert not await words.changed()
    assert await words.load() == ("old",)
    assert not list(folder.path.glob("*.tmp"))


async def test_a_save_that_fails_halfway_leaves_the_old_file(folder: StateFolder, words: Document[Words]) -> None:
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


async def test_a_folder_in_place_of_a_document_is_a_state_error(words: Document[Words]) -> None:
    words.path.mkdir()
    with pytest.raises(StateError, match="cannot be read: Is a directory"):
        await words.load()
    with pytest.raises(StateError, match="cannot be saved"):
        await words.save(())


def test_a_file_in_place_of_the_state_folder_is_a_state_error(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.touch()
    with pytest.raises(StateError, match=r"server\.state_dir must name a folder"):
        StateFolder(path).prepare()


no_files = pytest.mark.parametrize(("place", "said"), NO_FILES.values(), ids=NO_FILES)


def _identity(path: Path) -> tuple[int, ...]:
    """Return what a change to the file would alter; the access time is left out, since reading may alter it."""
    stat = path.lstat()
    return stat.st_ino, stat.st_mode, stat.st_size, stat.st_mtime_ns


@no_files
async def test_a_document_path_that_is_not_a_file_is_reported_and_left_untouched(
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
async def test_a_replaceable_document_that_is_not_a_file_is_moved_aside(
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
async def test_a_lock_that_is_not_a_file_is_refused(
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


async def test_a_document_that_is_a_link_to_a_file_is_read(tmp_path: Path, words: Document[Words]) -> None:
    elsewhere = tmp_path / "elsewhere.json"
    await words.save(("a",))
    words.path.rename(elsewhere)
    words.path.symlink_to(elsewhere)
    assert await words.load() == ("a",)


@pytest.mark.parametrize("data", [b'{"version": 1, "words": ' + b"[" * 900 + b"]" * 900 + b"}", b"[" * 1_000_000])
async def test_deeply_nested_json_is_reported_as_damage(words: Document[Words], data: bytes) -> None:
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


def test_a_file_in_place_of_the_state_folder_is_not_a_temporary_error(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.touch()
    with pytest.raises(StateError) as caught:
        StateFolder(path / "deeper").prepare()
    assert not isinstance(caught.value, StateUnavailable)
