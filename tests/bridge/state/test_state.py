"""The daemon and commands write the same files: neither loses what the other wrote. Conversations outlive a stop."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pytest
from running import api_key

from bridge.access import keys
from bridge.access.keys import KeyRing
from bridge.answering.conversations import Evaluation
from bridge.state.admin import admin_document
from bridge.state.conversations import conversations_document, kept_conversations
from bridge.state.documents import StateError, StateFolder, StateGone
from bridge.state.forms import StoredDocument
from bridge.state.modes import kept_modes, site_document
from bridge.state.state import State, accounts_document, keys_document
from bridge.tasks import TaskOwner
from upstream.accounts import Account
from upstream.arena import Arena
from upstream.protocol import cookies

NOW = 1_000_000.0


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    folder = StateFolder(tmp_path / "state")
    folder.prepare()
    return folder


def new_account(name: str = "ada") -> Account:
    """An account, or the same one with another cookie."""
    return Account(name, cookies.decode(Arena().sign_in(f"{name}@example.org").cookie_value))


async def on_disk(folder: StateFolder) -> dict[str, Account]:
    return {account.label: account for account in await accounts_document(folder).load()}


def in_memory(state: State) -> dict[str, Account]:
    return {account.label: account for account in state.pool}


async def command(folder: StateFolder, change: Callable[[tuple[Account, ...]], tuple[Account, ...]]) -> None:
    """Change accounts as a command does, in a process of its own."""
    await accounts_document(folder).update(change)


async def put(folder: StateFolder, *accounts: Account) -> None:
    """Add accounts, or renew those of the same user."""
    users = {account.user_id for account in accounts}
    await command(folder, lambda kept: (*(a for a in kept if a.user_id not in users), *accounts))


async def loaded(folder: StateFolder) -> State:
    state = State(folder, lambda: NOW)
    await state.load()
    return state


@asynccontextmanager
async def running(state: State) -> AsyncIterator[asyncio.Event]:
    """Let the state watch and save, as in the daemon; the event is set when accounts have been changed outside."""
    told = asyncio.Event()
    async with TaskOwner() as tasks:
        tasks.spawn(state.save(), name="save")
        tasks.spawn(state.watch(told.set), name="watch")
        yield told


async def comes_true(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 — nothing tells of it
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("error", [MemoryError(), RecursionError(), OSError(5, "Input/output error"), KeyError("x")])
async def test_the_watch_goes_on_after_any_error(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    monkeypatch.setattr("bridge.state.documents.WATCH_SECONDS", 0.01)
    state = await loaded(folder)
    real, errors = KeyRing, [error]

    def key_ring(found: tuple[keys.ApiKey, ...]) -> KeyRing:
        if errors:
            raise errors.pop()
        return real(found)

    monkeypatch.setattr("bridge.state.state.KeyRing", key_ring)
    async with running(state):
        await keys_document(folder).save((api_key(name="one")[1],))
        await comes_true(lambda: not errors)
        await keys_document(folder).save((api_key(name="one")[1], api_key(name="two")[1]))
        await comes_true(lambda: len(state.keys) == 2)
    assert type(error).__name__ in caplog.text


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the files without delay."""
    monkeypatch.setattr("bridge.state.documents.WATCH_SECONDS", 0.001)


# --- what upstream says is written ---

RENEWED = new_account()

LEARNED: dict[str, tuple[Callable[[State, Account], None], Callable[[Account], Account]]] = {
    "rotation": (
        lambda state, account: state.pool.credentials(account).rotate(RENEWED.session.value),
        lambda account: replace(account, session=RENEWED.session),
    ),
    "expiry": (
        lambda state, account: state.pool.expire(account),
        lambda account: replace(account, expired=True),
    ),
    "rest": (
        lambda state, account: state.pool.cool_down(account, "image", 30),
        lambda account: replace(account, cooldowns={"image": NOW + 30}),
    ),
}
learned = pytest.mark.parametrize(("learn", "expected"), LEARNED.values(), ids=LEARNED.keys())


@learned
async def test_changes_by_upstream_are_written(
    folder: StateFolder, learn: Callable[[State, Account], None], expected: Callable[[Account], Account]
) -> None:
    account = new_account()
    await put(folder, account)
    state = await loaded(folder)
    learn(state, account)
    await state.flush()
    assert await on_disk(folder) == in_memory(state) == {"ada": expected(account)}


@learned
async def test_it_is_written_beside_what_a_command_added(
    folder: StateFolder, learn: Callable[[State, Account], None], expected: Callable[[Account], Account]
) -> None:
    account, other = new_account(), new_account("grace")
    await put(folder, account)
    state = await loaded(folder)
    learn(state, account)
    await put(folder, other)
    await state.flush()
    assert await on_disk(folder) == in_memory(state) == {"ada": expected(account), "grace": other}


@learned
async def test_a_command_s_renewal_wins(
    folder: StateFolder, learn: Callable[[State, Account], None], expected: Callable[[Account], Account]
) -> None:
    account, renewed = new_account(), new_account()
    await put(folder, account)
    state = await loaded(folder)
    learn(state, account)
    await put(folder, renewed)
    await state.flush()
    assert await on_disk(folder) == in_memory(state) == {"ada": renewed}
    assert expected(account) != renewed


async def test_a_command_that_leaves_the_cookie_does_not_bring_back_one_that_was_replaced(folder: StateFolder) -> None:
    account = new_account()
    await put(folder, account)
    state = await loaded(folder)
    state.pool.credentials(account).rotate(RENEWED.session.value)
    await command(folder, lambda kept: tuple(replace(each, label="countess") for each in kept))
    await state.flush()
    renamed = replace(account, label="countess", session=RENEWED.session)
    assert await on_disk(folder) == in_memory(state) == {"countess": renamed}


@learned
async def test_an_account_that_a_command_removed_stays_removed(
    folder: StateFolder, learn: Callable[[State, Account], None], expected: Callable[[Account], Account]
) -> None:
    account = new_account()
    await put(folder, account)
    state = await loaded(folder)
    learn(state, account)
    await command(folder, lambda _: ())
    await state.flush()
    assert await on_disk(folder) == in_memory(state) == {}
    learn(state, account)  # a call that was under way brings news of it
    await state.flush()
    assert await on_disk(folder) == in_memory(state) == {}
    assert expected(account) != account


async def test_nothing_learned_is_nothing_written(folder: StateFolder) -> None:
    await put(folder, new_account())
    state = await loaded(folder)
    document = accounts_document(folder)
    await document.load()
    await state.flush()
    assert not await document.changed()


async def test_news_during_a_save_are_written_by_the_next(folder: StateFolder) -> None:
    account = new_account()
    await put(folder, account)
    state = await loaded(folder)
    state.pool.cool_down(account, "chat", 30)
    async with asyncio.TaskGroup() as tasks:
        with folder.locked("accounts"):  # the save waits for its turn
            save = tasks.create_task(state.flush())
            await asyncio.wait([save], timeout=0.02)
            state.pool.credentials(account).rotate(RENEWED.session.value)
    expected = replace(account, session=RENEWED.session, cooldowns={"chat": NOW + 30})
    assert in_memory(state) == {"ada": expected}
    await state.flush()
    assert await on_disk(folder) == in_memory(state) == {"ada": expected}


async def test_a_stop_in_the_middle_of_a_save_loses_nothing(folder: StateFolder) -> None:
    account = new_account()
    await put(folder, account)
    state = await loaded(folder)
    state.pool.cool_down(account, "chat", 30)
    async with asyncio.TaskGroup() as tasks:
        with folder.locked("accounts"):
            async with TaskOwner() as owner:
                save = owner.spawn(state.save(), name="save")
                await asyncio.wait([save], timeout=0.02)
            state.pool.credentials(account).rotate(RENEWED.session.value)
            flush = tasks.create_task(state.flush())
            await asyncio.wait([flush], timeout=0.02)
            assert not flush.done()
    expected = replace(account, session=RENEWED.session, cooldowns={"chat": NOW + 30})
    assert await on_disk(folder) == in_memory(state) == {"ada": expected}


async def test_a_disk_that_refuses_loses_nothing(folder: StateFolder, caplog: pytest.LogCaptureFixture) -> None:
    account = new_account()
    await put(folder, account)
    state = await loaded(folder)
    saved = accounts_document(folder).path.read_bytes()
    accounts_document(folder).path.write_bytes(b"{")
    state.pool.expire(account)
    await state.flush()
    assert "accounts are not saved" in caplog.text
    accounts_document(folder).path.write_bytes(saved)
    state.pool.cool_down(account, "chat", 30)
    await state.flush()
    expected = replace(account, expired=True, cooldowns={"chat": NOW + 30})
    assert await on_disk(folder) == in_memory(state) == {"ada": expected}


# --- a disk that refuses ---


@contextmanager
def full(_: StateFolder) -> Iterator[None]:
    """No room for another file."""

    def refuse(_: int) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bridge.state.documents.os.fsync", refuse)
        yield


@contextmanager
def read_only(_: StateFolder) -> Iterator[None]:
    """Nothing can be put in another's place."""

    def refuse(*_: object) -> NoReturn:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", refuse)
        yield


@contextmanager
def unwritable(folder: StateFolder) -> Iterator[None]:
    """Nothing can be written beside the file; root, whom no mode keeps from it, meets a folder there."""
    (folder.path / ".accounts.json.tmp").mkdir()
    yield
    (folder.path / ".accounts.json.tmp").rmdir()


@contextmanager
def locked(folder: StateFolder) -> Iterator[None]:
    """A command was stopped while it wrote."""
    with pytest.MonkeyPatch.context() as patch, folder.locked("accounts"):
        patch.setattr("bridge.state.documents.LOCK_TIMEOUT", 0.01)
        yield


@contextmanager
def damaged(folder: StateFolder) -> Iterator[None]:
    """The file itself is not whole."""
    path = folder.path / "accounts.json"
    good = path.read_bytes()
    path.write_bytes(good[:-20])
    yield
    path.write_bytes(good)


@contextmanager
def moved_away(folder: StateFolder) -> Iterator[None]:
    """The folder is gone, as with a mount that is lost."""
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
async def test_a_cookie_that_was_refused_is_saved_without_another_change(
    folder: StateFolder, trouble: Trouble, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("bridge.state.saving.FIRST_PAUSE_SECONDS", 0.001)
    account = new_account()
    await put(folder, account)
    state = await loaded(folder)
    path = accounts_document(folder).path
    async with TaskOwner() as tasks, asyncio.timeout(10):
        with trouble(folder):
            state.pool.credentials(account).rotate(RENEWED.session.value)
            await state.flush()
            tasks.spawn(state.save(), name="save")
            await comes_true(lambda: "accounts are not saved" in caplog.text)
        await comes_true(lambda: RENEWED.session.value in path.read_text())
    expected = replace(account, session=RENEWED.session)
    assert await on_disk(folder) == in_memory(state) == {"ada": expected}
    assert caplog.text.count("accounts are not saved") == 1
    assert RENEWED.session.value not in caplog.text


@TROUBLES
async def test_a_cookie_that_was_refused_is_tried_again_at_the_end(
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
async def test_a_cookie_that_is_lost_at_the_end_is_named_and_not_shown(
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


async def test_without_a_new_cookie_none_is_lost_at_the_end(
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


async def test_modes_that_were_refused_are_saved_later(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("bridge.state.saving.FIRST_PAUSE_SECONDS", 0.001)
    path = site_document(folder).path
    async with kept_modes(folder, lambda _: True) as modes, asyncio.timeout(5):
        with full(folder):
            modes.accepted("ada", "direct")
            await comes_true(lambda: "the site's modes are not saved" in caplog.text)
        await comes_true(path.exists)
        assert "ada" in path.read_text()


# --- both sides change at once ---


async def test_a_rotation_during_a_merge_outlives_a_command_s_other_change(folder: StateFolder) -> None:
    account = new_account()
    await put(folder, account)
    state = await loaded(folder)
    state.pool.cool_down(account, "chat", 30)
    async with asyncio.TaskGroup() as tasks:
        with folder.locked("accounts"):
            merge = tasks.create_task(state.flush())
            await asyncio.wait([merge], timeout=0.02)
            path = folder.path / "accounts.json"
            path.write_text(path.read_text().replace('"ada"', '"ada lovelace"'))  # a label by a command
            state.pool.credentials(account).rotate(RENEWED.session.value)
    await state.flush()
    expected = replace(account, label="ada lovelace", session=RENEWED.session, cooldowns={"chat": NOW + 30})
    assert in_memory(state) == await on_disk(folder) == {"ada lovelace": expected}


async def test_a_pause_by_a_command_and_a_rest_are_both_kept(folder: StateFolder) -> None:
    account = new_account()
    await put(folder, account)
    state = await loaded(folder)
    state.pool.credentials(account).rotate(RENEWED.session.value)
    state.pool.cool_down(account, "chat", 30)
    await put(folder, replace(account, paused=True))
    await state.flush()
    (kept,) = (await loaded(folder)).pool
    assert (kept.paused, kept.able, kept.session.value) == (True, False, RENEWED.session.value)
    assert kept.last_cooldown == ("chat", NOW, 30.0)
    await put(folder, replace(kept, paused=False))
    await state.refresh_accounts()
    assert [(each.paused, each.able) for each in state.pool] == [(False, True)]


@pytest.mark.parametrize("rotations", [1, 2, 3])
async def test_an_old_copy_of_the_file_brings_no_dead_cookie_back(folder: StateFolder, rotations: int) -> None:
    account = new_account()
    await put(folder, account)
    state = await loaded(folder)
    path = folder.path / "accounts.json"
    copies = []
    current = account
    for _ in range(rotations):
        copies.append(path.read_bytes())
        renewed = new_account()
        state.pool.credentials(current).rotate(renewed.session.value)
        await state.flush()
        current = replace(current, session=renewed.session)
    for copy in copies:
        restored = path.with_suffix(".restored")
        restored.write_bytes(copy)
        restored.replace(path)
        state.pool.cool_down(current, "image", 30)
        await state.flush()
        expected = replace(current, cooldowns={"image": NOW + 30})
        assert in_memory(state) == await on_disk(folder) == {"ada": expected}


# --- what commands change is noticed ---


@pytest.mark.usefixtures("quick")
async def test_accounts_are_noticed(folder: StateFolder) -> None:
    account, other, renewed = new_account(), new_account("grace"), new_account()
    await put(folder, account)
    state = await loaded(folder)
    async with running(state) as told, asyncio.timeout(5):
        for accounts in ((account, other), (renewed, other), (other,)):
            await accounts_document(folder).save(accounts)
            await told.wait()
            told.clear()
            assert tuple(state.pool) == accounts


@pytest.mark.usefixtures("quick")
async def test_keys_are_noticed(folder: StateFolder) -> None:
    secret, key = api_key()
    state = await loaded(folder)
    async with running(state), asyncio.timeout(5):
        await keys_document(folder).save((key,))
        await comes_true(lambda: state.keys.find(secret) is not None)
        await keys_document(folder).update(lambda kept: keys.remove(kept, key.name))
        await comes_true(lambda: state.keys.find(secret) is None)


@pytest.mark.usefixtures("quick")
async def test_a_file_broken_by_hand_changes_nothing(folder: StateFolder, caplog: pytest.LogCaptureFixture) -> None:
    account = new_account()
    await put(folder, account)
    state = await loaded(folder)
    path = accounts_document(folder).path
    good = path.read_bytes()
    async with running(state) as told, asyncio.timeout(5):
        path.write_bytes(b"{")
        await comes_true(lambda: "continuing with what was read before" in caplog.text)
        assert in_memory(state) == {"ada": account}
        path.write_bytes(good)
        await told.wait()
        assert in_memory(state) == {"ada": account}


async def test_a_broken_file_at_the_start_stops_it(folder: StateFolder) -> None:
    accounts_document(folder).path.write_bytes(b"{")
    with pytest.raises(StateError, match=r"accounts\.json"):
        await loaded(folder)


@pytest.mark.usefixtures("quick")
async def test_commands_and_the_daemon_race_and_lose_nothing(folder: StateFolder) -> None:
    chance = random.Random(4)
    names = [f"account {number}" for number in range(10)]
    accounts = {name: new_account(name) for name in names}
    await put(folder, *accounts.values())
    state = await loaded(folder)
    rests: dict[str, float] = {}
    async with running(state):
        for turn in range(50):
            name = chance.choice(names)
            if turn % 5 == 0:
                added = f"added {turn}"
                accounts[added] = new_account(added)
                await put(folder, accounts[added])
            if (account := state.pool.get(accounts[name].user_id)) is not None:
                rests[name] = float(turn + 1)
                state.pool.cool_down(account, "chat", rests[name])
            await asyncio.sleep(0)
    await state.flush()
    expected = {
        name: replace(account, cooldowns={"chat": NOW + rests[name]}) if name in rests else account
        for name, account in accounts.items()
    }
    assert await on_disk(folder) == in_memory(state) == expected


# --- a file that is gone is not an empty one ---


class Held(NamedTuple):
    """A state that runs over keys, accounts and a password, whose folder is held as a daemon's is."""

    state: State
    folder: StateFolder
    secret: str
    changes: asyncio.Event

    def is_whole(self) -> bool:
        """Whether all that it has read is there."""
        return (
            self.state.keys.find(self.secret) is not None
            and "ada" in in_memory(self.state)
            and self.state.admin.password_hash == HASH
        )


HASH = "$argon2id$v=19$m=65536,t=3,p=4$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA"
FILES = pytest.mark.parametrize("name", ["keys", "accounts", "admin"])


@pytest.fixture
async def held(folder: StateFolder, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Held]:
    """It looks at its files without delay."""
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
async def test_a_file_that_is_moved_away_and_back_changes_nothing(
    held: Held, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = held.folder.path / f"{name}.json"
    for times in (1, 2):
        path.rename(path.with_suffix(".aside"))
        await comes_true(lambda times=times: caplog.text.count("is gone; continuing with what was read") == times)  # type: ignore[misc]
        assert held.is_whole()
        path.with_suffix(".aside").rename(path)
        await comes_true(lambda times=times: caplog.text.count("is back, unchanged") == times)  # type: ignore[misc]
        assert held.is_whole()


@FILES
async def test_a_gap_of_an_editor_s_is_not_even_noticed(
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
async def test_a_file_that_is_half_written_changes_nothing(
    held: Held, name: str, rest: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = held.folder.path / f"{name}.json"
    whole = path.read_bytes()
    path.write_bytes(whole[:rest])
    await comes_true(lambda: "continuing with what was read before" in caplog.text)
    assert held.is_whole()
    caplog.clear()
    caplog.set_level(logging.INFO)
    path.write_bytes(whole)
    await comes_true(lambda: f"{name}.json was changed" in caplog.text)
    assert held.is_whole()


def counted(looks: list[int], folder: StateFolder) -> Callable[..., Awaitable[bool]]:
    """The folder's `changes`, which counts how often it is asked."""
    real = folder.changes

    async def look(documents: Sequence[StoredDocument[Any]]) -> bool:
        looks[0] += 1
        return await real(documents)

    return look


async def test_a_folder_that_is_gone_is_waited_for_however_long(
    held: Held, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("bridge.state.state.CHECKS_UNTIL_DELETED", 3)
    aside = held.folder.path.with_name("aside")
    held.folder.path.rename(aside)
    await comes_true(lambda: caplog.text.count("with its whole folder") == 3)
    held.folder.path.mkdir()  # the folder beneath a mount that was lost
    looks = [0]
    monkeypatch.setattr(held.folder, "changes", counted(looks, held.folder))
    await comes_true(lambda: looks[0] > 10)
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
async def test_a_file_that_stays_gone_is_believed_after_several_looks(
    held: Held, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("bridge.state.state.CHECKS_UNTIL_DELETED", 3)
    (held.folder.path / f"{name}.json").unlink()
    await comes_true(lambda: "it is treated as empty" in caplog.text)
    await comes_true(lambda: not held.is_whole())


async def test_nothing_is_written_over_a_file_that_is_gone(held: Held) -> None:
    """An added key would be the only one, and an owner's change the only setting."""
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


async def test_a_command_does_not_take_a_gap_for_an_empty_file(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
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


async def test_one_file_that_cannot_be_read_hides_no_change_of_another(
    held: Held, caplog: pytest.LogCaptureFixture
) -> None:
    path = held.folder.path / "keys.json"
    path.unlink()
    path.mkdir()
    await comes_true(lambda: "Is a directory" in caplog.text)
    await put(held.folder, new_account("grace"))
    await comes_true(lambda: "grace" in in_memory(held.state))
    assert held.state.keys.find(held.secret) is not None
    assert caplog.text.count("Is a directory") == 1


# --- conversations ---

EVALUATIONS = tuple(
    Evaluation(f"id-{number}", "user", "message", f"asked {number}", ("answered",)) for number in range(3)
)


async def test_conversations_outlive_a_clean_stop(folder: StateFolder) -> None:
    async with kept_conversations(folder) as conversations:
        for evaluation in EVALUATIONS:
            conversations.put(evaluation)
    async with kept_conversations(folder) as conversations:
        assert tuple(conversations) == EVALUATIONS
    async with kept_conversations(folder) as conversations:
        assert tuple(conversations) == EVALUATIONS


async def test_a_daemon_that_runs_has_no_saved_conversations(folder: StateFolder) -> None:
    async with kept_conversations(folder) as conversations:
        conversations.put(EVALUATIONS[0])
    async with kept_conversations(folder):
        saved = await conversations_document(folder).load()
        assert (saved.clean, saved.evaluations) == (False, ())


async def test_conversations_end_with_a_daemon_that_broke(folder: StateFolder) -> None:
    async with kept_conversations(folder) as conversations:
        conversations.put(EVALUATIONS[0])
    with pytest.raises(RuntimeError):
        async with kept_conversations(folder):
            raise RuntimeError
    async with kept_conversations(folder) as conversations:
        assert len(conversations) == 0
