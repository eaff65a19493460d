"""Rules of limits that hold wherever calls are counted: in one process, or in several through Redis."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from places import PLACES, shared_redis

from bridge.access.limits import Admission, Limiter, LimitExceeded
from bridge.shared.limits import RedisLimits


class Caller:
    """Makes calls with a key at one process or, with Redis, at several in turn."""

    def __init__(self, processes: list[tuple[Limiter, RedisLimits | None]]) -> None:
        self._processes = processes
        self._turn = 0

    async def call(self, rpm: int = 9, concurrency: int = 9, *, during: int = 0, streams: int = 99) -> Admission:
        """Make a call, and `during` others while it runs. Raises LimitExceeded."""
        limiter, shared = self._processes[self._turn % len(self._processes)]
        self._turn += 1
        with limiter.slot("key", rpm=rpm, concurrency=concurrency, streams=streams) as admission:
            if shared is not None:
                limits = {"rpm": rpm, "concurrency": concurrency, "streams": streams}
                admission = await shared.claim("key", **limits) or admission
            for _ in range(during):
                await self.call(rpm, concurrency, streams=streams)
            return admission


@pytest.fixture(params=PLACES)
async def caller(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Caller]:
    if request.param == "files":
        yield Caller([(Limiter(time.monotonic), None)])
        return
    async with shared_redis(tmp_path) as redis:
        limiters = [Limiter(time.monotonic) for _ in range(3)]
        yield Caller([(limiter, RedisLimits((await redis.process(timeout=10)).link, limiter)) for limiter in limiters])


async def test_requests_over_the_limit_per_minute_are_refused(caller: Caller) -> None:
    assert [(await caller.call(rpm=3)).remaining for _ in range(3)] == [2, 1, 0]
    for _ in range(3):
        with pytest.raises(LimitExceeded) as refused:
            await caller.call(rpm=3)
        assert refused.value.kind == "rpm"
        assert 50 < refused.value.retry_after <= 60.1
        assert 50 < refused.value.admission.reset_seconds <= 60
    assert (await caller.call(rpm=4)).allowed  # a refused request took no slot


async def test_calls_over_the_concurrency_limit_of_a_key_are_refused(caller: Caller) -> None:
    await caller.call(concurrency=2, during=1)
    with pytest.raises(LimitExceeded) as refused:
        await caller.call(concurrency=1, during=1)
    assert refused.value.kind == "concurrency"
    assert refused.value.retry_after >= 1
    for _ in range(3):
        assert (await caller.call(concurrency=1)).allowed


async def test_calls_over_the_concurrency_limit_of_all_keys_are_refused(caller: Caller) -> None:
    await caller.call(streams=2, during=1)
    with pytest.raises(LimitExceeded) as refused:
        await caller.call(streams=1, during=1)
    assert (refused.value.kind, refused.value.limit) == ("streams", 1)
    assert refused.value.retry_after >= 1
    for _ in range(3):
        assert (await caller.call(streams=1)).allowed


@pytest.mark.parametrize("limit", ["concurrency", "streams"])
async def test_a_refused_call_takes_no_slot(limit: str, caller: Caller) -> None:
    for _ in range(4):
        with pytest.raises(LimitExceeded):
            await caller.call(rpm=50, during=1, **{limit: 1})
    assert (await caller.call(rpm=50, concurrency=1, streams=1)).allowed


@pytest.mark.parametrize("value", ["9" * 400, "1e300", "inf", "nan", "-5", "x"])
async def test_foreign_values_in_the_counters_of_other_processes_refuse_no_call(value: str, tmp_path: Path) -> None:
    async with shared_redis(tmp_path) as redis:
        one, other = await redis.process(), await redis.process()
        limiter = Limiter(time.monotonic)
        caller = Caller([(limiter, RedisLimits(one.link, limiter))])
        for place in ("test:streams", "test:running:key"):
            await redis.server.call("HSET", place, other.link.settings.instance, value)
        assert (await caller.call(concurrency=2, streams=2)).allowed
