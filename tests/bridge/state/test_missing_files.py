"""A state file or folder that is missing for a while is waited for, and does not count as empty."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
from polling import until
from running import api_key
from states import RENEWED, in_memory, loaded, new_account, on_disk, put, running

from bridge.access import keys
from bridge.state.admin import admin_document
from bridge.state.documents import StateFolder
from bridge.state.errors import StateGone
from bridge.state.formats import StoredDocument
from bridge.state.state import State, keys_document


class Held(NamedTuple):
    """A running state with keys, accounts and a password, whose folder is held as a daemon holds it."""

    state: State
    folder: StateFolder
    secret: str
    changes: asyncio.Event

    def is_whole(self) -> bool:
        """Whether the state still has everything that it has read."""
        return (
            self.state.keys.find(self.secret) is not None
            and "ada" in in_memory(self.state)
            and self.state.admin.password_hash == HASH
        )


HASH = "$argon2id$v=19$m=65536,t=3,p=4$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA"
FILES = pytest.mark.parametrize("name", ["keys", "accounts", "admin"])


@pytest.fixture
async def held(folder: StateFolder, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Held]:
    """A running state that checks its files without delay."""
    monkeypatch.setattr("bridge.state.documents.WATCH_SECONDS", 0.001)
    monkeypatch.setattr("bridge.state.documents.GAP_SECONDS", 0.0)
    monkeypatch.setattr("bridge.state.state.CHECKS_UNTIL_DELETED", 1_000_000)
    secret, key = api_key()
    await keys_document(folder).save((key,))
    await put(folder, new_account())
    await admin_document(folder).update(lambda admin: replace(admin, password_hash=HASH))
    with folder.hold():
        state = await loaded(folder)
        async with running(state) as told:
            yield Held(state, folder, secret, told)


@FILES
async def test_a_file_moved_away_and_back_leaves_the_state_unchanged(
    held: Held, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = held.folder.path / f"{name}.json"
    for times in (1, 2):
        path.rename(path.with_suffix(".aside"))
        await until(lambda times=times: caplog.text.count("is gone; continuing with what was read") == times)  # type: ignore[misc]
        assert held.is_whole()
        path.with_suffix(".aside").rename(path)
        await until(lambda times=times: caplog.text.count("is back, unchanged") == times)  # type: ignore[misc]
        assert held.is_whole()


@FILES
async def test_a_file_missing_only_briefly_is_not_reported(
    held: Held, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("bridge.state.documents.GAP_SECONDS", 10.0)
    path = held.folder.path / f"{name}.json"
    document = held.state._accounts if name == "accounts" else held.state._keys if name == "keys" else held.state._admin
    path.rename(path.with_suffix(".aside"))
    load = asyncio.get_running_loop().create_task(document.load())
    await asyncio.wait((load,), timeout=0.02)
    assert not load.done()
    path.with_suffix(".aside").rename(path)
    await load
    assert held.is_whole()
    assert "gone" not in caplog.text


@FILES
@pytest.mark.parametrize("rest", [0, 1, 30, -3])
async def test_a_half_written_file_leaves_the_state_unchanged(
    held: Held, name: str, rest: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = held.folder.path / f"{name}.json"
    whole = path.read_bytes()
    path.write_bytes(whole[:rest])
    await until(lambda: "continuing with what was read before" in caplog.text)
    assert held.is_whole()
    caplog.clear()
    caplog.set_level(logging.INFO)
    path.write_bytes(whole)
    await until(lambda: f"{name}.json was changed" in caplog.text)
    assert held.is_whole()


def counted(looks: list[int], folder: StateFolder) -> Callable[..., Awaitable[bool]]:
    """Return the folder's `changes`, wrapped so that its calls are counted."""
    real = folder.changes

    async def look(documents: Sequence[StoredDocument[Any]]) -> bool:
        looks[0] += 1
        return await real(documents)

    return look


async def test_a_missing_folder_is_never_treated_as_empty(
    held: Held, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("bridge.state.state.CHECKS_UNTIL_DELETED", 3)
    aside = held.folder.path.with_name("aside")
    held.folder.path.rename(aside)
    await until(lambda: caplog.text.count("with its whole folder") == 3)
    held.folder.path.mkdir()  # the mount point that a lost mount leaves
    looks = [0]
    monkeypatch.setattr(held.folder, "changes", counted(looks, held.folder))
    await until(lambda: looks[0] > 10)
    assert held.is_whole()
    assert caplog.text.count("with its whole folder") == 3
    with pytest.raises(StateGone):
        await held.state.update_keys(lambda kept: kept)
    account = in_memory(held.state)["ada"]
    held.state.pool.credentials(account).rotate(RENEWED.session.value)
    await held.state.flush()
    assert not list(held.folder.path.iterdir())
    held.folder.path.rmdir()
    aside.rename(held.folder.path)
    await held.state.flush()
    assert held.is_whole()
    assert (await on_disk(held.folder))["ada"].session == RENEWED.session


@FILES
async def test_a_file_missing_in_several_checks_is_treated_as_empty(
    held: Held, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("bridge.state.state.CHECKS_UNTIL_DELETED", 3)
    (held.folder.path / f"{name}.json").unlink()
    await until(lambda: "it is treated as empty" in caplog.text)
    await until(lambda: not held.is_whole())


async def test_updates_of_a_missing_file_are_refused(held: Held) -> None:
    """Otherwise an added key would be the only key, and a changed setting the only setting."""
    for name, update in (
        ("keys", held.state.update_keys),
        ("accounts", held.state.update_accounts),
        ("admin", held.state.update_admin),
    ):
        path = held.folder.path / f"{name}.json"
        path.rename(path.with_suffix(".aside"))
        with pytest.raises(StateGone, match="is gone"):
            await update(lambda kept: kept)
        assert not path.exists()
        path.with_suffix(".aside").rename(path)
        await update(lambda kept: kept)
        assert held.is_whole()


async def test_a_command_waits_for_a_briefly_missing_file(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.state.documents.GAP_SECONDS", 10.0)
    path = held.folder.path / "keys.json"
    path.rename(path.with_suffix(".aside"))
    _, key = api_key(name="new")
    add = asyncio.get_running_loop().create_task(keys_document(held.folder).update(lambda kept: keys.add(kept, key)))
    await asyncio.wait((add,), timeout=0.02)
    assert not add.done()
    path.with_suffix(".aside").rename(path)
    assert len(await add) == 2


async def test_a_missing_file_is_recreated_at_shutdown(held: Held) -> None:
    account = in_memory(held.state)["ada"]
    (held.folder.path / "accounts.json").unlink()
    held.state.pool.credentials(account).rotate(RENEWED.session.value)
    await held.state.finish()
    assert (await on_disk(held.folder))["ada"].session == RENEWED.session


async def test_an_unreadable_file_does_not_hide_changes_of_another_file(
    held: Held, caplog: pytest.LogCaptureFixture
) -> None:
    path = held.folder.path / "keys.json"
    path.unlink()
    path.mkdir()
    await until(lambda: "Is a directory" in caplog.text)
    await put(held.folder, new_account("grace"))
    await until(lambda: "grace" in in_memory(held.state))
    assert held.state.keys.find(held.secret) is not None
    assert caplog.text.count("Is a directory") == 1
