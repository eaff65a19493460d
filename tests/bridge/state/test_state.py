"""The state in memory and its files: changes by commands and editors are noticed, and races lose nothing."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest
from polling import until
from running import api_key
from states import NOW, in_memory, loaded, new_account, on_disk, put, running

from bridge.access import keys
from bridge.access.keys import KeyRing
from bridge.state.documents import StateFolder
from bridge.state.errors import StateError
from bridge.state.state import accounts_document, keys_document


@pytest.mark.parametrize("error", [MemoryError(), RecursionError(), OSError(5, "Input/output error"), KeyError("x")])
async def test_watching_the_files_continues_after_any_error(
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
        await until(lambda: not errors)
        await keys_document(folder).save((api_key(name="one")[1], api_key(name="two")[1]))
        await until(lambda: len(state.keys) == 2)
    assert type(error).__name__ in caplog.text


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check the files without delay."""
    monkeypatch.setattr("bridge.state.documents.WATCH_SECONDS", 0.001)


@pytest.mark.usefixtures("quick")
async def test_changed_accounts_on_disk_are_loaded(folder: StateFolder) -> None:
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
async def test_changed_keys_on_disk_are_loaded(folder: StateFolder) -> None:
    secret, key = api_key()
    state = await loaded(folder)
    async with running(state), asyncio.timeout(5):
        await keys_document(folder).save((key,))
        await until(lambda: state.keys.find(secret) is not None)
        await keys_document(folder).update(lambda kept: keys.remove(kept, key.name))
        await until(lambda: state.keys.find(secret) is None)


@pytest.mark.usefixtures("quick")
async def test_a_file_damaged_while_running_leaves_the_accounts_unchanged(
    folder: StateFolder, caplog: pytest.LogCaptureFixture
) -> None:
    account = new_account()
    await put(folder, account)
    state = await loaded(folder)
    path = accounts_document(folder).path
    good = path.read_bytes()
    async with running(state) as told, asyncio.timeout(5):
        path.write_bytes(b"{")
        await until(lambda: "continuing with what was read before" in caplog.text)
        assert in_memory(state) == {"ada": account}
        path.write_bytes(good)
        await told.wait()
        assert in_memory(state) == {"ada": account}


async def test_a_damaged_file_prevents_the_start(folder: StateFolder) -> None:
    accounts_document(folder).path.write_bytes(b"{")
    with pytest.raises(StateError, match=r"accounts\.json"):
        await loaded(folder)


@pytest.mark.usefixtures("quick")
async def test_concurrent_changes_by_commands_and_the_daemon_are_not_lost(folder: StateFolder) -> None:
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
