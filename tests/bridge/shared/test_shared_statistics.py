"""Statistics of several processes add up to those of one, and nothing is counted twice or lost with Redis."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from counted import Clock
from places import Redis, SharedProcess, shared_redis
from polling import until

from bridge.shared.availability import Phase
from bridge.shared.statistics import COPY_SECONDS, MAX_WAITS, SharedStats
from bridge.statistics.counts import Outcome
from bridge.statistics.leaves import leaves
from bridge.statistics.stats import Stats
from upstream.protocol.errors import Reason


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[Redis]:
    async with shared_redis(tmp_path) as redis:
        yield redis


@dataclass
class Counting:
    """A process that counts requests; `whole` has the counts of all processes."""

    process: SharedProcess
    shared: SharedStats
    clock: Clock
    whole: Stats

    def count(self, requests: int = 5) -> None:
        """Count requests of all kinds, in this process and in `whole`."""
        for _ in range(requests):
            self.clock.now += random.choice([0, 1, 70, 200])
            outcome = Outcome(
                random.choice([200, 502]),
                random.choice([Reason.OK, Reason.TIMEOUT]),
                random.random(),
                model=random.choice(["a", "b"]),
                key="k",
                ttft=random.choice([None, 0.3]),
                chunks=2,
                prompt_tokens=3,
                api="chat",
            )
            for stats in (self.shared.stats, self.whole):
                stats.record(outcome)
                stats.record_attempt("ada", outcome.reason)
                stats.record_upload(outcome.status == 200)

    async def shown(self) -> dict[str, str]:
        self.shared._read_at = float("-inf")
        return comparable(await self.shared.read())


def comparable(stats: Stats) -> dict[str, str]:
    found = leaves(stats.to_json())
    del found["since"]
    return {path: " ".join(sorted(row.split(" "))) for path, row in found.items()}  # words in canonical order


async def several(redis: Redis, number: int) -> list[Counting]:
    clock = Clock()
    whole = Stats(clock)
    found = []
    for _ in range(number):
        process = await redis.process()
        shared = SharedStats(process.link, process.copies, clock)
        await shared.load()
        found.append(Counting(process, shared, clock, whole))
    return found


async def begun(redis: Redis, number: int = 2) -> list[Counting]:
    """Return processes that have already counted and flushed."""
    found = await several(redis, number)
    for counting in found:
        counting.count()
    for _ in range(MAX_WAITS + 1):  # at first each waits in vain for one that has a history
        for counting in found:
            await counting.shared.flush()
    return found


async def test_statistics_of_all_processes_are_added_up(redis: Redis) -> None:
    found = await begun(redis, 3)
    for _ in range(3):
        for counting in found:
            counting.count()
            await counting.shared.flush()
    for counting in found:
        assert await counting.shown() == comparable(counting.whole)


async def test_a_flush_whose_reply_is_lost_counts_once(redis: Redis) -> None:
    one, two = await begun(redis)
    one.count()
    call, lost = one.process.link.call, [True]

    async def losing(command: object) -> object:
        reply = await call(command)  # type: ignore[arg-type]
        if lost.pop() if lost else False:
            raise one.process.link._down()
        return reply

    one.process.link.call = losing  # type: ignore[method-assign]
    await one.shared.flush()
    one.count()
    await one.shared.flush()
    assert await two.shown() == comparable(one.whole)


async def test_an_outage_of_redis_loses_no_statistics(redis: Redis) -> None:
    one, two = await begun(redis)
    one.count()
    await one.shared.flush()
    redis.server.freeze()
    for _ in range(5):
        for counting in (one, two):
            counting.count()
            await counting.shared.flush()
    assert (await one.shown()).keys() <= comparable(one.whole).keys()
    redis.server.thaw()
    await until(lambda: one.process.link.usable and two.process.link.usable)
    for _ in range(2):
        await one.shared.flush()
        await two.shared.flush()
    two.count()  # the latest answers of all: those before were sent in any order, as soon as Redis was back
    await two.shared.flush()
    assert await one.shown() == await two.shown() == comparable(one.whole)


async def test_statistics_are_restored_to_a_redis_that_lost_its_data(redis: Redis) -> None:
    one, two = await begun(redis)
    for counting in (one, two, one):
        counting.count()
        await counting.shared.flush()
    await one.shared._copy_all()
    for counting in (one, two):
        counting.count()
        await counting.shared.flush()
    await redis.lose(one.process, two.process)
    two.count()
    for _ in range(5):
        for counting in (two, one):
            await counting.shared.flush()
    assert await one.shown() == await two.shown() == comparable(one.whole)


async def test_a_process_without_the_history_does_not_restart_the_statistics(redis: Redis) -> None:
    """Another process, which is back a moment later, has the history of all."""
    one, two = await begun(redis)
    await one.shared._copy_all()
    two.process.link.settings = two.process.link.settings._replace(settle_seconds=600.0)
    address = one.process.link.address
    one.process.link.address = replace(address, path="/nowhere")
    await redis.lose(two.process)
    two.count()
    await two.shared.flush()
    assert not one.process.link.usable
    one.process.link.address = address
    await until(lambda: one.process.link.availability.phase is Phase.UP)
    await two.shared.flush()
    assert await one.shown() == await two.shown() == comparable(one.whole)


async def test_the_local_copy_of_an_earlier_run_is_restored_to_an_emptied_redis(redis: Redis) -> None:
    (one,) = await begun(redis, 1)
    one.count()
    await one.shared.finish()
    await redis.server.kill()
    await redis.server.start()
    again = SharedStats((await redis.process()).link, one.process.copies, one.clock)
    await again.load()
    await again.flush()
    one.whole.record(outcome := Outcome(200, Reason.OK, 1.0))
    again.stats.record(outcome)
    await again.flush()
    again._read_at = float("-inf")
    assert comparable(await again.read()) == comparable(one.whole)


async def test_expired_periods_are_deleted_from_redis(redis: Redis) -> None:
    (one,) = await begun(redis, 1)
    one.count()
    await one.shared.flush()
    one.clock.now += 800 * 86_400
    await one.shared._copy_all()
    kept = await redis.server.call("HKEYS", "test:stats")
    assert not [path for path in kept if path.startswith((b"minute", b"hour", b"day", b"ten_minute"))]
    assert b"totals" in kept
    assert COPY_SECONDS <= 60


@pytest.mark.parametrize(
    "command",
    [
        ("SET", "test:stats", "x"),
        ("HSET", "test:stats", "totals", "canary"),
        ("HSET", "test:stats", "minute", "1 2"),
        ("HSET", "test:stats", "minute\x1fx", "1 2"),
        ("HSET", "test:stats:shares", "", "e"),
        ("SET", "test:stats:shares", "x"),
    ],
)
async def test_foreign_data_in_redis_does_not_break_the_statistics(redis: Redis, command: tuple[str, ...]) -> None:
    await redis.server.call(*command)
    (one,) = await begun(redis, 1)
    one.count()
    await one.shared.flush()
    await one.shared._copy_all()
    assert (await one.shared.read()).totals.requests >= 0
    assert one.process.link.usable
