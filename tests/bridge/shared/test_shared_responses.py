"""Stored responses in Redis: the bounds hold for all keys together, and a lost connection loses no response."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from places import Redis, shared_redis

from bridge.dialects.responses.stored import Stored, StoredResponses
from bridge.shared.responses import RedisResponses
from bridge.shared.script import Script

KEEP = Script("keep")


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[Redis]:
    async with shared_redis(tmp_path) as redis:
        yield redis


async def keep(redis: Redis, id_: str, owner: str, *, ms: int = 60_000, responses: int = 6, size: int = 10_000) -> None:
    words = (id_, owner, "", b"i" * 50, b"r" * 50, ms, responses, size)
    (reply,) = await redis.server.run(KEEP.call(("response:", "responses"), *words))
    assert reply is None


async def owners(redis: Redis) -> Sequence[bytes]:
    ids = await redis.server.call("ZRANGE", "responses", 0, -1)
    return [await redis.server.call("HGET", b"response:" + id_, "owner") for id_ in ids]


@pytest.mark.parametrize(("responses", "size"), [(6, 10_000), (100, 600)])
async def test_the_oldest_response_of_the_key_with_the_most_responses_is_dropped_first(
    responses: int, size: int, redis: Redis
) -> None:
    for number, owner in enumerate(["quiet", "quiet", *["greedy"] * 20, "third", *["greedy"] * 20]):
        await keep(redis, f"id-{number}", owner, responses=responses, size=size)
    assert Counter(await owners(redis)) == {b"quiet": 2, b"third": 1, b"greedy": 3}
    assert await redis.server.call("GET", "responses:bytes") == b"600"
    for id_ in await redis.server.call("ZRANGE", "responses", 0, -1):
        await redis.server.run(KEEP.call(("response:", "responses"), id_, "", "", b"", b"", 60_000, responses, size))
    assert [name for name in await redis.server.call("KEYS", "*") if name.startswith(b"respons")] == []


async def test_expired_responses_no_longer_count(redis: Redis) -> None:
    """Otherwise the sum of the bytes would grow for as long as Redis runs, until no response fits."""
    for number in range(5):
        await keep(redis, f"old-{number}", "one", ms=1)
    await keep(redis, "new", "other")
    await redis.server.call("SET", "some time", "", "PX", 5)
    while await redis.server.call("EXISTS", "some time"):
        pass
    assert not await redis.server.call("EXISTS", *(f"response:old-{number}" for number in range(5)))
    await redis.server.run(KEEP.call(("response:", "responses"), "last", "one", "", b"i", b"r", 1, 6, 10_000))
    assert await redis.server.call("GET", "responses:bytes") == b"2"
    assert await redis.server.call("ZRANGE", "responses", 0, -1) == [b"last"]


async def test_a_response_stored_while_the_connection_breaks_is_stored_after_reconnecting(redis: Redis) -> None:
    process, other = await redis.process(), await redis.process()
    stored, known = StoredResponses(), StoredResponses()
    responses, others = RedisResponses(process.link, stored), RedisResponses(other.link, known)
    redis.server.freeze()  # otherwise it could store and confirm the response before it is killed
    stored.put("id", Stored("me", None, b"[]", b'{"output":[]}'))
    await redis.lose(process, other)
    await others.fetch("me", ["id"])
    assert known.find("me", "id") is not None
    await responses.fetch("me", ["id"])
    assert stored.find("me", "id") is not None


async def test_a_response_refused_by_redis_can_be_continued_in_its_own_process(redis: Redis) -> None:
    process = await redis.process(timeout=10.0)
    stored = StoredResponses()
    responses = RedisResponses(process.link, stored)
    await redis.server.call("SET", "test:responses", "no sorted set")
    stored.put("id", Stored("me", None, b"[]", b'{"output":[]}'))
    await responses.wait_until_confirmed()
    await responses.fetch("me", ["id"])
    assert stored.find("me", "id") is not None


async def test_malformed_stored_responses_count_as_missing(redis: Redis) -> None:
    process = await redis.process()
    known = StoredResponses()
    responses = RedisResponses(process.link, known)
    good = {"input": b"[]", "response": b'{"output":[]}'}
    place, call = "test:response:id", redis.server.call
    await call("HSET", place, "owner", "me", "previous", "", "input", good["input"], "response", good["response"])
    bad = [b"", b"\xff{", b"null", b"{}", b'{"output":1}', b"[" * 100_000]
    for field, value in [*(("input", each) for each in bad), *(("response", each) for each in (*bad, b"[1]"))]:
        await call("HSET", place, field, value)
        await responses.fetch("me", ["id"])
        assert known.find("me", "id") is None
        await call("HSET", place, field, good[field])
        await responses.fetch("me", ["id"])
        assert known.find("me", "id") is not None
