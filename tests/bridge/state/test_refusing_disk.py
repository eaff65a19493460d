"""Failed saves: nothing learned is lost, and what is lost at shutdown is reported without a secret."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest
from polling import until
from states import RENEWED, in_memory, loaded, new_account, on_disk, put

from bridge.state.documents import StateFolder
from bridge.state.modes import SITE, kept_modes
from bridge.state.state import accounts_document
from bridge.tasks import TaskOwner


@contextmanager
def full(_: StateFolder) -> Iterator[None]:
    """The disk has no room for another file."""

    def refuse(_: int) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bridge.state.documents.os.fsync", refuse)
        yield


@contextmanager
def read_only(_: StateFolder) -> Iterator[None]:
    """No file can be replaced by another."""

    def refuse(*_: object) -> NoReturn:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", refuse)
        yield


@contextmanager
def unwritable(folder: StateFolder) -> Iterator[None]:
    """No temporary file can be written: a folder is in its place, since file modes do not stop root."""
    (folder.path / ".accounts.json.tmp").mkdir()
    yield
    (folder.path / ".accounts.json.tmp").rmdir()


@contextmanager
def locked(folder: StateFolder) -> Iterator[None]:
    """The file is locked, as by a command that was stopped while it wrote."""
    with pytest.MonkeyPatch.context() as patch, folder.locked("accounts"):
        patch.setattr("bridge.state.folder.LOCK_TIMEOUT", 0.01)
        yield


@contextmanager
def damaged(folder: StateFolder) -> Iterator[None]:
    """The file is truncated."""
    path = folder.path / "accounts.json"
    good = path.read_bytes()
    path.write_bytes(good[:-20])
    yield
    path.write_bytes(good)


@contextmanager
def moved_away(folder: StateFolder) -> Iterator[None]:
    """The folder is gone, as when a mount is lost."""
    aside = folder.path.with_name("aside")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bridge.state.documents.GAP_SECONDS", 0.0)
        folder.path.rename(aside)
        yield
        aside.rename(folder.path)


TROUBLES = pytest.mark.parametrize(
    "trouble", [full, read_only, unwritable, locked, damaged, moved_away], ids=lambda trouble: trouble.__name__
)
Trouble = Callable[[StateFolder], AbstractContextManager[None]]


@TROUBLES
async def test_a_cookie_whose_save_failed_is_saved_later_without_another_change(
    folder: StateFolder, trouble: Trouble, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("bridge.state.saving.FIRST_DELAY_SECONDS", 0.001)
    account = new_account()
    await put(folder, account)
    state = await loaded(folder)
    path = accounts_document(folder).path
    async with TaskOwner() as tasks, asyncio.timeout(10):
        with trouble(folder):
            state.pool.credentials(account).rotate(RENEWED.session.value)
            await state.flush()
            tasks.spawn(state.save(), name="save")
            await until(lambda: "accounts are not saved" in caplog.text)
        await until(lambda: RENEWED.session.value in path.read_text())
    expected = replace(account, session=RENEWED.session)
    assert await on_disk(folder) == in_memory(state) == {"ada": expected}
    assert caplog.text.count("accounts are not saved") == 1
    assert RENEWED.session.value not in caplog.text


@TROUBLES
async def test_a_cookie_whose_save_failed_is_saved_at_shutdown(
    folder: StateFolder, trouble: Trouble, caplog: pytest.LogCaptureFixture
) -> None:
    account = new_account()
    await put(folder, account)
    state = await loaded(folder)
    with trouble(folder):
        state.pool.credentials(account).rotate(RENEWED.session.value)
        await state.flush()
    await state.finish()
    assert await on_disk(folder) == {"ada": replace(account, session=RENEWED.session)}
    assert "LOST" not in caplog.text


@TROUBLES
async def test_a_cookie_lost_at_shutdown_is_reported_by_account_and_not_shown(
    folder: StateFolder, trouble: Trouble, caplog: pytest.LogCaptureFixture
) -> None:
    account, other = new_account(), new_account("grace")
    await put(folder, account, other)
    state = await loaded(folder)
    with trouble(folder):
        state.pool.credentials(account).rotate(RENEWED.session.value)
        state.pool.cool_down(other, "chat", 30)
        await state.finish()
    (said,) = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert "LOST: the new session cookies of 'ada'; add these accounts again" in said.getMessage()
    assert str(folder.path / "accounts.json") in said.getMessage()
    assert RENEWED.session.value not in caplog.text
    assert await on_disk(folder) == {"ada": account, "grace": other}


async def test_no_cookie_is_reported_lost_at_shutdown_if_none_was_renewed(
    folder: StateFolder, caplog: pytest.LogCaptureFixture
) -> None:
    account = new_account()
    await put(folder, account)
    state = await loaded(folder)
    with full(folder):
        state.pool.expire(account)
        await state.finish()
    assert "No cookie is lost" in caplog.text
    assert "LOST" not in caplog.text


async def test_modes_whose_save_failed_are_saved_later(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("bridge.state.saving.FIRST_DELAY_SECONDS", 0.001)
    path = folder.open(SITE).path
    async with kept_modes(folder, lambda _: True) as modes, asyncio.timeout(5):
        with full(folder):
            modes.accepted("ada", "direct")
            await until(lambda: "the site's modes are not saved" in caplog.text)
        await until(path.exists)
        assert "ada" in path.read_text()
