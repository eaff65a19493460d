"""Documents in Redis when it is frozen, gone, restarted empty or from an old snapshot, or holds foreign data."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

import pytest
from places import Redis, SharedProcess, shared_redis
from polling import until

from bridge.shared.availability import Phase
from bridge.shared.errors import SharedStateDown
from bridge.shared.waiting_cookies import WaitingCookies
from bridge.state.errors import StateError
from bridge.state.formats import DocumentFormat
from bridge.state.state import State
from bridge.tasks import TaskOwner
from upstream.accounts import Account
from upstream.arena import Arena
from upstream.protocol import cookies

Words: TypeAlias = tuple[str, ...]
NOW = 1_000_000.0


def parse(value: object) -> Words:
    if not isinstance(value, list):
        raise TypeError("canary")
    return tuple(map(str, value))


WORDS: DocumentFormat[Words] = DocumentFormat("words", 1, parse, list, (), precious=True, max_bytes=20_000)


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[Redis]:
    async with shared_redis(tmp_path) as redis:
        yield redis


async def test_without_redis_documents_can_be_read_but_not_changed(redis: Redis) -> None:
    process = await redis.process()
    words = process.documents.open(WORDS)
    await words.save(("a",))
    await redis.server.kill()
    await until(lambda: not process.link.usable)
    assert await words.load() == ("a",)
    with pytest.raises(SharedStateDown, match="Nothing was changed"):
        await words.update(lambda known: (*known, "b"))
    assert await words.load() == ("a",)


async def test_an_update_without_a_change_creates_no_new_version(redis: Redis) -> None:
    """Otherwise two processes that merge each other's versions would write new ones forever."""
    process, other = await redis.process(), await redis.process()
    words, seen = process.documents.open(WORDS), other.documents.open(WORDS)
    heard = asyncio.Event()
    other.link.on_news("end", lambda _: heard.set())

    async def all_is_heard() -> None:
        """Wait until the other process has received all news."""
        heard.clear()
        await process.link.call(process.link.publish_command("end"))
        await heard.wait()

    await words.save(("a",))
    await all_is_heard()
    assert await seen.load() == ("a",)
    version = words.version
    assert await words.update(lambda known: known) == ("a",)
    await words.save(("a",))
    await all_is_heard()
    assert (words.version, seen.looks_changed()) == (version, False)
    await words.save(("b",))
    await until(seen.looks_changed)
    assert await seen.load() == ("b",)


async def test_a_save_to_a_frozen_redis_fails_after_the_timeout(redis: Redis) -> None:
    process = await redis.process(timeout=0.2)
    words = process.documents.open(WORDS)
    await words.save(("a",))
    redis.server.freeze()
    with pytest.raises(SharedStateDown):
        await words.save(("b",))
    assert await words.load() == ("a",)
    redis.server.thaw()
    await until(lambda: process.link.usable, within=10)
    assert (await words.load()) in (("a",), ("b",))  # Redis may run the command once it is thawed
    await words.save(("c",))
    assert await words.load() == ("c",)


async def test_a_start_without_redis_reads_the_local_copy(redis: Redis) -> None:
    first = await redis.process()
    await first.documents.open(WORDS).save(("a",))
    await redis.server.kill()
    second = await redis.process(copies=first.copies.path, connect_timeout=0.1)
    assert await second.documents.open(WORDS).load() == ("a",)
    third = await redis.process(connect_timeout=0.1)
    assert await third.documents.open(WORDS).load() == ()


async def test_documents_are_restored_to_a_redis_that_lost_its_data(
    redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = await redis.process(), await redis.process()
    of_one, of_two = one.documents.open(WORDS), two.documents.open(WORDS)
    await of_one.save(("a",))
    await of_one.save(("a", "b"))
    await redis.server.kill()
    await until(lambda: not one.link.usable and not two.link.usable)
    await redis.server.start()
    await until(lambda: one.link.usable and two.link.usable)
    assert await of_two.load() == ("a", "b")
    await of_two.update(lambda words: (*words, "c"))
    assert await of_one.load() == ("a", "b", "c")
    assert "Redis had lost test:doc:words" in caplog.text


async def test_an_older_snapshot_in_redis_does_not_replace_a_newer_document(redis: Redis) -> None:
    process = await redis.process()
    words = process.documents.open(WORDS)
    await words.save(("old",))
    (old,) = await redis.server.run(("HGET", "test:doc:words", "data"))
    await words.save(("new",))
    await redis.server.call("HSET", "test:doc:words", "version", 1, "data", old)
    assert await words.load() == ("new",)
    assert await redis.server.call("HGET", "test:doc:words", "version") == b"%d" % words.version


async def test_a_start_with_an_emptied_redis_restores_the_local_copy(redis: Redis) -> None:
    first = await redis.process()
    await first.documents.open(WORDS).save(("a",))
    await redis.server.kill()
    await redis.server.start()
    second = await redis.process(copies=first.copies.path)
    assert await second.documents.open(WORDS).load() == ("a",)
    assert await redis.server.call("HEXISTS", "test:doc:words", "version")


HOSTILE: dict[str, tuple[bytes | str | int, ...]] = {
    "another type": ("SET", "test:doc:words", "x"),
    "no version": ("HSET", "test:doc:words", "data", "x"),
    "no data": ("HSET", "test:doc:words", "version", 7),
    "a version that is no number": ("HSET", "test:doc:words", "version", "x", "data", "{}"),
    "a negative version": ("HSET", "test:doc:words", "version", -5, "data", "{}"),
    "an endless version": ("HSET", "test:doc:words", "version", "1e400", "data", "{}"),
    "not JSON": ("HSET", "test:doc:words", "version", 7, "data", b"\xff\x00"),
    "another schema": ("HSET", "test:doc:words", "version", 7, "data", '{"version": 2, "words": []}'),
    "another form": ("HSET", "test:doc:words", "version", 7, "data", '{"version": 1, "words": {"canary": 1}}'),
    "deep nesting": ("HSET", "test:doc:words", "version", 7, "data", "[" * 10_000),
    "a huge value": ("HSET", "test:doc:words", "version", 7, "data", b"x" * 20_001),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_foreign_data_in_the_place_of_a_document_is_left_untouched_and_reported(redis: Redis, name: str) -> None:
    process = await redis.process()
    words = process.documents.open(WORDS)
    await redis.server.run(HOSTILE[name])
    before = await redis.server.call("DUMP", "test:doc:words")
    wishes: tuple[Callable[[], Awaitable[object]], ...] = (words.load, partial(words.save, ("a",)))
    for wish in wishes:
        with pytest.raises(StateError, match="left untouched") as refused:
            await wish()
        assert "test:doc:words" in str(refused.value)
        assert "canary" not in str(refused.value)
    assert await redis.server.call("DUMP", "test:doc:words") == before
    assert process.link.usable
    await redis.server.call("DEL", "test:doc:words")
    await words.save(("a",))
    assert await words.load() == ("a",)


async def test_foreign_data_in_one_document_does_not_block_restoring_the_others(redis: Redis) -> None:
    process = await redis.process()
    first, words = process.documents.open(replace(WORDS, name="first")), process.documents.open(WORDS)
    await first.save(("a",))
    await words.save(("b",))
    caught_up: list[str] = []

    async def catch_up() -> None:
        caught_up.append("behind it")

    process.link.on_reconnect(catch_up)
    await redis.server.call("DEL", "test:doc:first", "test:doc:words")
    await redis.server.call("RPUSH", "test:doc:first", "x")
    await redis.server.call("CLIENT", "KILL", "TYPE", "normal")
    await until(lambda: caught_up and process.link.availability.phase is Phase.UP, within=10)
    assert await redis.server.call("TYPE", "test:doc:first") == b"list"
    assert await redis.server.call("EXISTS", "test:doc:words") == 1


async def test_documents_under_another_prefix_are_left_alone(redis: Redis) -> None:
    await redis.server.call("HSET", "lmab:doc:words", "version", 9, "data", "another bridge's")
    words = (await redis.process()).documents.open(WORDS)
    assert await words.load() == ()
    await words.save(("a",))
    assert await redis.server.call("HGET", "lmab:doc:words", "version") == b"9"


async def test_a_local_copy_that_cannot_be_written_is_logged_and_does_not_fail_the_save(
    redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    process = await redis.process()
    words = process.documents.open(WORDS)
    (process.copies.path / "words.json").mkdir()
    await words.save(("a",))
    await words.save(("b",))
    assert await words.load() == ("b",)
    assert caplog.text.count("could not start without Redis") == 1


# --- accounts ---


async def state_of(process: SharedProcess, *, is_killed: bool = False) -> State:
    """Load the state as the daemon does; with `is_killed`, the process writes nothing when Redis is back."""
    unsaved_cookies = WaitingCookies(process.copies)
    state = State(process.documents, lambda: NOW, unsaved_cookies=unsaved_cookies, shared=True)
    await state.load()
    if not is_killed:
        process.link.on_reconnect(state.flush)
    return state


def new_account() -> Account:
    return Account("ada", cookies.decode(Arena().sign_in("ada@example.org").cookie_value))


def cookie_of(state: State) -> str:
    (account,) = state.pool
    return account.session.value


async def test_a_cookie_renewed_during_an_outage_is_saved_to_redis_afterwards(redis: Redis) -> None:
    process = await redis.process()
    state = await state_of(process)
    async with TaskOwner() as tasks:
        tasks.spawn(state.save(), name="save")
        account, renewed = new_account(), new_account().session.value
        await state.update_accounts(lambda _: (account,))
        redis.server.freeze()
        state.pool.credentials(account).rotate(renewed)
        await until(lambda: not process.link.usable)
        redis.server.thaw()
        other = await state_of(await redis.process())
        await until(lambda: process.link.usable)

        async def known() -> bool:
            await other.load()
            return cookie_of(other) == renewed

        for _ in range(100):
            if await known():
                break
        assert await known()


async def test_a_cookie_renewed_during_an_outage_survives_a_kill_of_the_process(redis: Redis) -> None:
    process = await redis.process()
    state = await state_of(process, is_killed=True)
    account, renewed = new_account(), new_account().session.value
    await state.update_accounts(lambda _: (account,))
    await redis.server.kill()
    await until(lambda: not process.link.usable)
    state.pool.credentials(account).rotate(new_account().session.value)
    await state.flush()
    state.pool.credentials(next(iter(state.pool))).rotate(renewed)
    await state.flush()  # the process is killed here
    second = await redis.process(copies=process.copies.path, connect_timeout=0.1)
    again = await state_of(second)
    assert cookie_of(again) == renewed
    await redis.server.start()
    await until(lambda: second.link.usable)
    await again.flush()
    third = await state_of(await redis.process())
    assert cookie_of(third) == renewed
    assert await WaitingCookies(process.copies).applied([account]) == (account,)


async def test_a_cookie_waiting_for_redis_is_dropped_if_its_login_was_replaced(redis: Redis) -> None:
    process = await redis.process()
    state = await state_of(process, is_killed=True)
    account, pasted = new_account(), new_account()
    await state.update_accounts(lambda _: (account,))
    await redis.server.kill()
    await until(lambda: not process.link.usable)
    state.pool.credentials(account).rotate(new_account().session.value)
    await state.flush()
    await redis.server.start()
    await until(lambda: process.link.availability.phase is Phase.UP)  # Redis has the accounts again
    other = await state_of(await redis.process())
    await other.update_accounts(lambda _: (pasted,))
    again = await state_of(await redis.process(copies=process.copies.path))
    assert cookie_of(again) == pasted.session.value
