"""The daemon and commands write the same files: neither loses what the other wrote. Conversations outlive a stop."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from running import api_key

from bridge import keys
from bridge.conversations import Evaluation
from bridge.keys import KeyRing
from bridge.state import State, accounts_document, conversations_document, kept_conversations, keys_document
from bridge.store import StateError, StateFolder
from bridge.tasks import TaskOwner
from upstream import cookies
from upstream.accounts import Account
from upstream.arena import Arena

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
    while not condition():  # noqa: ASYNC110 — nothing tells of it
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("error", [MemoryError(), RecursionError(), OSError(5, "Input/output error"), KeyError("x")])
async def test_the_watch_goes_on_after_any_error(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    monkeypatch.setattr("bridge.state.WATCH_SECONDS", 0.01)
    state = await loaded(folder)
    real, errors = KeyRing, [error]

    def key_ring(found: tuple[keys.ApiKey, ...]) -> KeyRing:
        if errors:
            raise errors.pop()
        return real(found)

    monkeypatch.setattr("bridge.state.KeyRing", key_ring)
    async with running(state):
        await keys_document(folder).save((api_key(name="one")[1],))
        await comes_true(lambda: not errors)
        await keys_document(folder).save((api_key(name="one")[1], api_key(name="two")[1]))
        await comes_true(lambda: len(state.keys) == 2)
    assert type(error).__name__ in caplog.text


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the files without delay."""
    monkeypatch.setattr("bridge.state.WATCH_SECONDS", 0.001)


# --- what upstream says is written ---

RENEWED = new_account()

LEARNED: dict[str, tuple[Callable[[State, Account], None], Callable[[Account], Account]]] = {
    "rotation": (
        lambda state, account: state.pool.rotation(account)(RENEWED.session.value),
        lambda account: replace(account, session=RENEWED.session),
    ),
    "expiry": (
        lambda state, account: state.pool.expire(account),
        lambda account: replace(account, expired=True),
    ),
    "rest": (
        lambda state, account: state.pool.rest(account, "image", 30),
        lambda account: replace(account, resting={"image": NOW + 30}),
    ),
}
learned = pytest.mark.parametrize(("learn", "expected"), LEARNED.values(), ids=LEARNED.keys())


@learned
async def test_what_upstream_says_is_written(
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
    state.pool.rotation(account)(RENEWED.session.value)
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
    state.pool.rest(account, "chat", 30)
    async with asyncio.TaskGroup() as tasks:
        with folder.locked("accounts"):  # the save waits for its turn
            save = tasks.create_task(state.flush())
            await asyncio.wait([save], timeout=0.02)
            state.pool.rotation(account)(RENEWED.session.value)
    expected = replace(account, session=RENEWED.session, resting={"chat": NOW + 30})
    assert in_memory(state) == {"ada": expected}
    await state.flush()
    assert await on_disk(folder) == in_memory(state) == {"ada": expected}


async def test_a_stop_in_the_middle_of_a_save_loses_nothing(folder: StateFolder) -> None:
    account = new_account()
    await put(folder, account)
    state = await loaded(folder)
    state.pool.rest(account, "chat", 30)
    async with asyncio.TaskGroup() as tasks:
        with folder.locked("accounts"):
            async with TaskOwner() as owner:
                save = owner.spawn(state.save(), name="save")
                await asyncio.wait([save], timeout=0.02)
            state.pool.rotation(account)(RENEWED.session.value)
            flush = tasks.create_task(state.flush())
            await asyncio.wait([flush], timeout=0.02)
            assert not flush.done()
    expected = replace(account, session=RENEWED.session, resting={"chat": NOW + 30})
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
    state.pool.rest(account, "chat", 30)
    await state.flush()
    expected = replace(account, expired=True, resting={"chat": NOW + 30})
    assert await on_disk(folder) == in_memory(state) == {"ada": expected}


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
        await comes_true(lambda: "going on with what was read before" in caplog.text)
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
                state.pool.rest(account, "chat", rests[name])
            await asyncio.sleep(0)
    await state.flush()
    expected = {
        name: replace(account, resting={"chat": NOW + rests[name]}) if name in rests else account
        for name, account in accounts.items()
    }
    assert await on_disk(folder) == in_memory(state) == expected


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
