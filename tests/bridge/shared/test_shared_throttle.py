"""The password throttle: all processes together follow the rules of one; without Redis, each counts by itself."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from places import Redis, SharedProcess, shared_redis
from polling import until

from bridge.access.throttle import Throttle, TooManyAttempts
from bridge.shared.throttle import RedisThrottle

HOME = "192.0.2.7"


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[Redis]:
    async with shared_redis(tmp_path) as redis:
        yield redis


def throttle_of(process: SharedProcess) -> RedisThrottle:
    return RedisThrottle(process.link, Throttle(time.monotonic))


async def wait(throttle: RedisThrottle, address: str) -> float:
    """Make an attempt; return the seconds that it must wait, or 0 if it was counted."""
    try:
        await throttle.attempt(address)
    except TooManyAttempts as error:
        return error.retry_after
    return 0.0


async def test_password_failures_at_one_process_count_at_all_processes(redis: Redis) -> None:
    first, second = [throttle_of(await redis.process()) for _ in range(2)]
    assert [await wait(each, HOME) for each in (first, second, first, second, first)] == [0] * 5
    waits = []
    for failures in (5, 6, 9, 14, 15, 40):
        await redis.server.call("HSET", f"test:attempts:of:{HOME}", "count", failures)
        waits += [await wait(first, HOME), await wait(second, HOME)]
    assert waits == pytest.approx([1, 1, 2, 2, 16, 16, 512, 512, 900, 900, 900, 900], abs=3)
    assert min(waits) > 0
    assert await wait(second, "2001:db8::1") == 0
    await first.succeeded(HOME)
    assert await wait(second, HOME) == 0


async def test_many_failures_slow_down_new_addresses_but_not_ones_that_logged_in_before(redis: Redis) -> None:
    first, second = [throttle_of(await redis.process()) for _ in range(2)]
    assert await wait(first, HOME) == 0
    await first.succeeded(HOME)
    assert await redis.server.call("HGET", "test:attempts", "count") == b"0"
    await redis.server.run(("HSET", "test:attempts", "count", 70, "last", 4_102_444_800_000))
    assert await wait(second, "2001:db8::2") > 0
    assert await wait(second, HOME) == 0


async def test_without_redis_each_process_counts_the_failures_it_has_seen(redis: Redis) -> None:
    process = await redis.process()
    throttle = throttle_of(process)
    assert [await wait(throttle, HOME) for _ in range(3)] == [0] * 3
    await redis.server.kill()
    await until(lambda: not process.link.usable)
    assert [await wait(throttle, HOME) for _ in range(2)] == [0] * 2
    assert 0 < await wait(throttle, HOME) <= 1
