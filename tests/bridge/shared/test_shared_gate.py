"""A wall or an outage that one process meets is known to all processes at once, and so is its end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from manual_clock import Clock
from places import Redis, shared_redis
from polling import until

from bridge.shared.gate import RedisGate
from upstream.gate import FAILURES_TO_OPEN, Gate
from upstream.protocol.errors import Challenge, CircuitOpen, Unreachable, UpstreamError


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[Redis]:
    async with shared_redis(tmp_path) as redis:
        yield redis


async def gate(redis: Redis) -> tuple[Gate, Clock]:
    process, clock = await redis.process(), Clock()
    found = Gate(clock)
    await RedisGate(process.link, found)._catch_up()
    await process.link.call(process.link.publish_command("nothing"))
    return found, clock


def fail(gate: Gate, error: UpstreamError) -> None:
    with pytest.raises(type(error)), gate.request():
        raise error


async def test_a_challenge_is_known_to_all_processes_until_a_request_of_one_succeeds(redis: Redis) -> None:
    (one, _), (two, _) = await gate(redis), await gate(redis)
    fail(one, Challenge("the site shows its challenge page", status=403))
    await until(lambda: isinstance(two.wall, Challenge))
    assert two.wall is not None
    assert (two.wall.message, two.wall.status) == ("the site shows its challenge page", 403)
    late, _ = await gate(redis)
    assert isinstance(late.wall, Challenge)
    with two.request():
        pass
    await until(lambda: one.wall is None and late.wall is None)


async def test_an_open_circuit_is_open_for_all_processes_until_its_delay_is_over(redis: Redis) -> None:
    (one, _), (two, clock) = await gate(redis), await gate(redis)
    for _ in range(FAILURES_TO_OPEN):
        fail(one, Unreachable("no connection"))
    await until(lambda: two.outage is not None)
    with pytest.raises(CircuitOpen):
        two.request()
    clock.now += one.open_for + 0.1
    with two.request():
        pass
    await until(lambda: one.outage is None)


async def test_a_challenge_published_while_the_news_connection_is_lost_is_read_afterwards(redis: Redis) -> None:
    (one, _), (two, _) = await gate(redis), await gate(redis)
    while await redis.server.call("CLIENT", "KILL", "TYPE", "pubsub") < 2:
        pass
    fail(one, Challenge("the site shows its challenge page", status=403))
    await until(lambda: isinstance(two.wall, Challenge))


async def test_foreign_data_in_redis_does_not_change_the_gate(redis: Redis) -> None:
    one, _ = await gate(redis)
    for text in ("x", "[]", '{"wall": {"kind": "Exception"}, "outage": 1, "open_for": 0}'):
        await redis.server.call("PUBLISH", "test:news", f"gate other {text}")
    await redis.server.call("SET", "test:gate", "{")
    two, _ = await gate(redis)
    assert one.wall is two.wall is one.outage is two.outage is None
