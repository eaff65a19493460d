"""What upstream says about accounts is saved, even if commands change accounts at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
from states import NOW, RENEWED, command, in_memory, loaded, new_account, on_disk, put

from bridge.state.documents import StateFolder
from bridge.state.state import State, accounts_document
from bridge.tasks import TaskOwner
from upstream.accounts import Account

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
async def test_account_changes_learned_from_upstream_are_saved(
    folder: StateFolder, learn: Callable[[State, Account], None], expected: Callable[[Account], Account]
) -> None:
    account = new_account()
    await put(folder, account)
    state = await loaded(folder)
    learn(state, account)
    await state.flush()
    assert await on_disk(folder) == in_memory(state) == {"ada": expected(account)}


@learned
async def test_changes_learned_from_upstream_are_saved_beside_an_account_that_a_command_added(
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
async def test_a_login_renewed_by_a_command_replaces_changes_learned_from_upstream(
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


async def test_a_command_that_renames_an_account_does_not_restore_its_replaced_cookie(folder: StateFolder) -> None:
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
    learn(state, account)  # a call that is still running reports on the account
    await state.flush()
    assert await on_disk(folder) == in_memory(state) == {}
    assert expected(account) != account


async def test_accounts_are_not_written_if_nothing_was_learned(folder: StateFolder) -> None:
    await put(folder, new_account())
    state = await loaded(folder)
    document = accounts_document(folder)
    await document.load()
    await state.flush()
    assert not await document.changed()


async def test_changes_during_a_save_are_written_by_the_next_save(folder: StateFolder) -> None:
    account = new_account()
    await put(folder, account)
    state = await loaded(folder)
    state.pool.cool_down(account, "chat", 30)
    async with asyncio.TaskGroup() as tasks:
        with folder.locked("accounts"):  # the save waits for the lock
            save = tasks.create_task(state.flush())
            await asyncio.wait([save], timeout=0.02)
            state.pool.credentials(account).rotate(RENEWED.session.value)
    expected = replace(account, session=RENEWED.session, cooldowns={"chat": NOW + 30})
    assert in_memory(state) == {"ada": expected}
    await state.flush()
    assert await on_disk(folder) == in_memory(state) == {"ada": expected}


async def test_a_stop_during_a_save_loses_no_change(folder: StateFolder) -> None:
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


async def test_a_failed_save_of_the_accounts_loses_no_change(
    folder: StateFolder, caplog: pytest.LogCaptureFixture
) -> None:
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


async def test_a_cookie_renewed_during_a_merge_survives_a_command_that_renames_the_account(folder: StateFolder) -> None:
    account = new_account()
    await put(folder, account)
    state = await loaded(folder)
    state.pool.cool_down(account, "chat", 30)
    async with asyncio.TaskGroup() as tasks:
        with folder.locked("accounts"):
            merge = tasks.create_task(state.flush())
            await asyncio.wait([merge], timeout=0.02)
            path = folder.path / "accounts.json"
            path.write_text(path.read_text().replace('"ada"', '"ada lovelace"'))  # a command's new label
            state.pool.credentials(account).rotate(RENEWED.session.value)
    await state.flush()
    expected = replace(account, label="ada lovelace", session=RENEWED.session, cooldowns={"chat": NOW + 30})
    assert in_memory(state) == await on_disk(folder) == {"ada lovelace": expected}


async def test_a_pause_by_a_command_and_a_learned_cooldown_are_both_kept(folder: StateFolder) -> None:
    account = new_account()
    await put(folder, account)
    state = await loaded(folder)
    state.pool.credentials(account).rotate(RENEWED.session.value)
    state.pool.cool_down(account, "chat", 30)
    await put(folder, replace(account, paused=True))
    await state.flush()
    (kept,) = (await loaded(folder)).pool
    assert (kept.paused, kept.can_chat, kept.session.value) == (True, False, RENEWED.session.value)
    assert kept.last_cooldown == ("chat", NOW, 30.0)
    await put(folder, replace(kept, paused=False))
    await state.refresh_accounts()
    assert [(each.paused, each.can_chat) for each in state.pool] == [(False, True)]


@pytest.mark.parametrize("rotations", [1, 2, 3])
async def test_restoring_an_old_copy_of_the_file_does_not_restore_a_replaced_cookie(
    folder: StateFolder, rotations: int
) -> None:
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
