"""Rules of documents and of the state that hold both in files and in Redis."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import pytest
from places import PLACES, Place, placed
from polling import until
from running import api_key

from bridge.access import keys
from bridge.state.errors import StateError
from bridge.state.formats import DocumentFormat
from bridge.state.state import State
from bridge.tasks import TaskOwner
from upstream.accounts import Account
from upstream.arena import Arena
from upstream.protocol import cookies

Words: TypeAlias = tuple[str, ...]

NOW = 1_000_000.0
HASH = "$argon2id$v=19$m=65536,t=3,p=4$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA"


def parse(value: object) -> Words:
    if not isinstance(value, list):
        raise TypeError("words are a list")
    return tuple(map(str, value))


WORDS: DocumentFormat[Words] = DocumentFormat("words", 1, parse, list, (), precious=True, max_bytes=20_000)


@pytest.fixture(params=PLACES)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    async with placed(request.param, tmp_path) as place:
        yield place


def new_account(name: str) -> Account:
    return Account(name, cookies.decode(Arena().sign_in(f"{name}@example.org").cookie_value))


# --- documents ---


async def test_a_document_that_was_never_written_is_empty(place: Place) -> None:
    assert await (await place.source()).open(WORDS).load() == ()


async def test_a_document_written_by_one_process_is_read_by_another(place: Place) -> None:
    one, two = (await place.source()).open(WORDS), (await place.source()).open(WORDS)
    await two.load()
    await one.save(("a", "é\ud7ff\U0001f600"))
    assert await two.load() == ("a", "é\ud7ff\U0001f600")
    assert await two.update(lambda words: (*words, "b")) == ("a", "é\ud7ff\U0001f600", "b")
    assert await one.load() == await two.load()


async def test_concurrent_updates_of_a_document_are_not_lost(place: Place) -> None:
    documents = [(await place.source()).open(WORDS) for _ in range(3)]

    async def add(at: int) -> None:
        for number in range(10):
            await documents[at].update(lambda words, number=number: (*words, f"{at}-{number}"))  # type: ignore[misc]
            await asyncio.sleep(random.random() / 1000)

    await asyncio.gather(*map(add, range(3)))
    assert sorted(await documents[0].load()) == sorted(f"{at}-{number}" for at in range(3) for number in range(10))


async def test_a_failed_update_leaves_the_document_unchanged(place: Place) -> None:
    document = (await place.source()).open(WORDS)
    await document.save(("a",))

    def fail(_: Words) -> Words:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await document.update(fail)
    with pytest.raises(StateError, match="of at most 20,000"):
        await document.save(("b" * 20_000,))
    assert await document.load() == ("a",)


async def test_a_cancelled_update_is_applied_entirely_or_not_at_all(place: Place) -> None:
    one, two = (await place.source()).open(WORDS), (await place.source()).open(WORDS)
    for number in range(20):
        update = asyncio.get_running_loop().create_task(one.update(lambda words, number=number: (*words, f"{number}")))  # type: ignore[misc]
        await asyncio.sleep(random.random() / 500)
        update.cancel()
        await asyncio.wait((update,))
    await one.update(lambda words: (*words, "last"))
    words = await two.load()
    assert words[-1] == "last"
    assert len(set(words)) == len(words)


async def test_changes_by_another_process_are_noticed(place: Place) -> None:
    source, other = await place.source(), await place.source()
    one, two = source.open(WORDS), other.open(WORDS)
    await one.save(("a",))
    await one.load()
    await two.load()
    while await source.changes((one,)):  # it may notice its own change
        await one.load()
    await two.save(("b",))
    async with asyncio.timeout(5):
        while not await source.changes((one,)):
            pass
    assert await one.changed()
    assert await one.load() == ("b",)


# --- the state ---


@asynccontextmanager
async def watching(place: Place) -> AsyncIterator[State]:
    """The state of one process, watched and saved as in the daemon."""
    state = State(await place.source(), lambda: NOW, shared=place.kind == "redis")
    await state.load()
    async with TaskOwner() as tasks:
        tasks.spawn(state.save(), name="save")
        tasks.spawn(state.watch(lambda: None), name="watch")
        yield state


async def test_changed_keys_accounts_and_passwords_reach_every_process(place: Place) -> None:
    async with watching(place) as one, watching(place) as two:
        secret, key = api_key(name="new")
        account = new_account("ada")
        await one.update_keys(lambda known: keys.add(known, key))
        await one.update_accounts(lambda known: (*known, account))
        await one.update_admin(lambda admin: replace(admin, password_hash=HASH))
        await until(lambda: two.keys.find(secret) == key, within=10)
        await until(lambda: tuple(two.pool) == (account,), within=10)
        await until(lambda: two.admin.password_hash == HASH, within=10)
        await two.update_keys(lambda known: keys.remove(known, "new"))
        await until(lambda: one.keys.find(secret) is None, within=10)


async def test_what_one_process_learns_about_an_account_reaches_every_process(place: Place) -> None:
    async with watching(place) as one, watching(place) as two:
        account = new_account("ada")
        await one.update_accounts(lambda known: (*known, account))
        await until(lambda: len(two.pool), within=10)
        renewed = new_account("ada").session.value
        one.pool.credentials(account).rotate(renewed)
        if place.kind == "files":  # a folder has one daemon, so this cookie counts as a command's and ends a cooldown
            await until(lambda: _is(two, renewed, {}), within=10)
        two.pool.cool_down(account, "chat", 60.0)
        await until(lambda: all(_is(state, renewed, cooldowns={"chat": NOW + 60.0}) for state in (one, two)), within=4)
        one.pool.expire(next(iter(one.pool)))
        await until(lambda: not two.pool.usable("search"), within=10)


def _is(state: State, cookie: str, cooldowns: dict[str, float]) -> bool:
    (account,) = state.pool
    return account.session.value == cookie and dict(account.cooldowns) == cooldowns
