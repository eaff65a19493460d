"""`stats.json`: counts survive a stop, and a kill except for the last seconds; the file's size is bounded."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from counted import DAY, DAYS, SHORT, Clock, Happened, assert_adds_up
from killed import last_report_of_killed

from bridge.state.documents import StateFolder
from bridge.state.errors import StateError
from bridge.statistics.counts import DURATION_BOUNDS, NAMES, OTHERS, TTFT_BOUNDS, Outcome
from bridge.statistics.file import StatsFile
from bridge.statistics.spans import TABLE_DAYS
from bridge.statistics.stats import Stats
from bridge.tasks import TaskOwner
from upstream.protocol.errors import Reason

ANSWERED = Outcome(200, Reason.OK, 2.0, model="m", key="k", ttft=0.5)


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    folder = StateFolder(tmp_path / "state")
    folder.prepare()
    return folder


def document(folder: StateFolder) -> Path:
    return folder.path / "stats.json"


async def started(folder: StateFolder, clock: Clock) -> StatsFile:
    """Open the file as a new run of the daemon does."""
    file = StatsFile(folder, clock)
    await file.load()
    return file


# --- writing ---


async def test_a_flush_writes_the_file_only_after_a_change(folder: StateFolder) -> None:
    file = await started(folder, Clock())
    await file.flush()
    assert not document(folder).exists()
    file.stats.record(ANSWERED)
    await file.flush()
    written = document(folder).stat().st_ino
    await file.flush()
    assert document(folder).stat().st_ino == written
    file.stats.record_upload(ok=True)
    await file.flush()
    assert document(folder).stat().st_ino != written
    file = await started(folder, Clock())
    await file.flush()
    assert (file.stats.totals.requests, file.stats.totals.uploaded) == (1, 1)


async def test_keep_flushes_periodically_and_can_be_cancelled_without_loss(folder: StateFolder) -> None:
    file = StatsFile(folder, Clock(), flush_seconds=0.001)
    await file.load()
    counted = 0
    for _ in range(5):
        async with TaskOwner() as tasks, asyncio.timeout(10):
            tasks.spawn(file.keep(), name="statistics")
            file.stats.record(ANSWERED)
            counted += 1
            while (await file.read()).totals.requests < counted:
                pass  # each read runs in a thread, which gives the writer a turn
            file.stats.record(ANSWERED)
            counted += 1
    await file.flush()
    assert (await started(folder, Clock())).stats.totals.requests == counted


async def test_a_failed_flush_is_logged_once_and_retried(folder: StateFolder, caplog: pytest.LogCaptureFixture) -> None:
    file = await started(folder, Clock())
    document(folder).mkdir()
    for _ in range(3):
        file.stats.record(ANSWERED)
        await file.flush()
    assert [(record.levelno, "stats.json cannot be saved" in record.message) for record in caplog.records] == [
        (logging.ERROR, True)
    ]
    document(folder).rmdir()
    await file.flush()
    assert (await started(folder, Clock())).stats.totals.requests == 3
    document(folder).unlink()
    document(folder).mkdir()
    file.stats.record(ANSWERED)
    await file.flush()
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.ERROR], "another failure"


async def test_a_damaged_stats_json_is_moved_aside(folder: StateFolder, caplog: pytest.LogCaptureFixture) -> None:
    document(folder).write_text('{"version": 1, "stats": {"since": "yesterday"}}')
    file = await started(folder, Clock())
    assert "moved aside" in caplog.text
    assert len(list(folder.path.glob("stats.json.corrupt-*"))) == 1
    file.stats.record(ANSWERED)
    await file.flush()
    assert (await started(folder, Clock())).stats.totals.requests == 1


# --- reading ---


async def test_reading_returns_the_statistics_last_written_to_the_file(folder: StateFolder) -> None:
    clock = Clock()
    file = await started(folder, clock)
    assert (await file.read()).totals.requests == 0
    file.stats.record(ANSWERED)
    assert (await file.read()).totals.requests == 0
    await file.flush()
    seen = await file.read()
    assert (seen.totals.requests, seen is file.stats) == (1, False)
    assert await file.read() is seen, "nothing was written since"
    clock.now += 60
    assert [bucket.requests for bucket in seen.series("minute")[-2:]] == [1, 0], "its series go on with the clock"
    file.stats.record(ANSWERED)
    await file.flush()
    assert ((await file.read()).totals.requests, seen.totals.requests) == (2, 1)


async def test_an_unreadable_stats_json_is_a_state_error(folder: StateFolder) -> None:
    document(folder).mkdir()
    with pytest.raises(StateError, match=r"stats\.json cannot be read"):
        await StatsFile(folder, Clock()).read()


# --- a day, with restarts and a kill ---

#: Simulated seconds between two flushes: more than FLUSH_SECONDS, since each one writes to the real disk.
INTERVAL = 300


def a_request(rng: random.Random) -> Outcome:
    status = rng.choices([200, 400, 401, 404, 429, 499, 502, 503, 504], [90, 2, 1, 1, 2, 2, 1, 1, 1])[0]
    resolved = status not in (401, 404)
    reason = Reason.OK if status == 200 and rng.random() < 0.95 else rng.choice(list(Reason))
    begun = status in (200, 499)
    return Outcome(
        status,
        reason,
        rng.lognormvariate(2, 1),
        model=f"model-{rng.randrange(120)}" if resolved else None,
        key=f"key {rng.randrange(20)}" if status != 401 else None,
        ttft=rng.lognormvariate(0, 1) if begun else None,
        chunks=rng.randrange(500) if begun else 0,
        prompt_tokens=rng.randrange(5000) if resolved else 0,
        completion_tokens=rng.randrange(2000) if begun else 0,
    )


async def test_a_day_of_traffic_adds_up_across_restarts_and_a_kill(folder: StateFolder) -> None:
    rng, clock, happened = random.Random(7), Clock(), Happened()
    file = await started(folder, clock)
    midnight, kept, flushed_at = clock.now, Happened(), clock.now
    requests, restarts, kill = 30_000, {5_000, 5_001, 12_000, 29_000}, 20_000
    for number in range(requests):
        clock.now = midnight + DAY * number / requests
        now = int(clock.now)
        if clock.now >= flushed_at + INTERVAL or number in restarts:
            await file.flush()
            flushed_at = clock.now
            kept = Happened(list(happened.outcomes), list(happened.attempts), list(happened.uploads))
        if number in restarts:
            file = await started(folder, clock)
        if number == kill:
            lost = happened.outcomes[len(kept.outcomes) :]
            assert lost
            assert lost[0][0] >= now - INTERVAL
            happened = kept
            file = await started(folder, clock)
        outcome = a_request(rng)
        file.stats.record(outcome)
        happened.outcomes.append((now, outcome))
        if outcome.model:
            label = rng.choice(["ada", "bob"])
            file.stats.record_attempt(label, outcome.reason)
            happened.attempts.append((now, label, outcome.reason))
        if rng.random() < 0.05:
            uploaded = rng.random() < 0.9
            file.stats.record_upload(uploaded)
            happened.uploads.append(uploaded)
    assert len(happened.outcomes) > requests - requests * INTERVAL / DAY - 1
    assert_adds_up(file.stats, happened, clock.now, (*DAYS, *SHORT))
    await file.flush()
    assert (await started(folder, clock)).stats.to_json() == file.stats.to_json()
    assert (await file.read()).to_json() == file.stats.to_json()
    assert document(folder).stat().st_size < 320_000


def test_a_kill_loses_no_flushed_statistics(folder: StateFolder) -> None:
    flushed = last_report_of_killed(partial(_count_for_ever, folder))
    stats = asyncio.run(started(folder, Clock())).stats
    # At most one flush has completed without being reported.
    assert stats.totals.requests in (flushed, flushed + 7)
    assert stats.totals.requests == stats.statuses.total() == stats.models["m"].requests


async def _count_for_ever(folder: StateFolder, reports: int) -> None:
    file = StatsFile(folder, time.time)
    while True:
        for _ in range(7):
            file.stats.record(ANSWERED)
        await file.flush()
        os.write(reports, f"{file.stats.totals.requests}\n".encode())


# --- the bound ---


def two_years(clock: Clock, name: str, names: int, amount: int) -> Stats:
    """Return statistics with traffic in every stored period and in every histogram slot; each name is used every day.

    `amount` is the number of chunks, and of tokens of each kind, in one request.
    """
    stats = Stats(clock)
    slots = [
        ANSWERED._replace(seconds=seconds + 0.1, ttft=ttft + 0.1, chunks=amount, prompt_tokens=amount)
        for seconds, ttft in zip((0.0, *DURATION_BOUNDS), (0.0, *TTFT_BOUNDS, 0.0, 0.0), strict=True)
    ]
    start = clock.now
    days = [start + day * DAY for day in range(731)]
    hours = [days[-15] + hour * 3600 for hour in range(14 * 24)]
    minutes = [days[-1] - 7200 + minute * 60 for minute in range(121)]
    for clock.now in (*days[:-15], *hours, *minutes):
        for outcome in slots:
            stats.record(outcome)
        if clock.now in days[-16:] or clock.now in hours[-24:] or clock.now in minutes[1::10]:
            for number in range(names):
                label = f"{number}{name}"
                stats.record(ANSWERED._replace(model=label, key=label, prompt_tokens=amount, completion_tokens=amount))
                for reason in Reason if clock.now == days[-1] else ():
                    stats.record_attempt(label, reason)
    return stats


@pytest.mark.parametrize(
    ("name", "names", "amount", "megabytes"),
    [
        pytest.param("-20260401-thinking", 30, 1000, 0.5, id="ordinary"),
        pytest.param("-preview-20260401-thinking", NAMES + 100, 10**4, 5.0, id="every table full"),
        pytest.param("😀" * 200, NAMES + 100, 10**12, 30.0, id="the longest names and numbers"),
    ],
)
async def test_the_size_of_stats_json_is_bounded(
    folder: StateFolder, name: str, names: int, amount: int, megabytes: float
) -> None:
    clock = Clock()
    file = StatsFile(folder, clock)
    file.stats = two_years(clock, name, names, amount)
    await file.flush()
    assert megabytes / 2 < document(folder).stat().st_size / 1e6 < megabytes
    seen = await file.read()
    plain: Any = seen.to_json()
    assert plain == file.stats.to_json()
    assert [len(plain[kind]) for kind in ("minute", "hour", "day", "day_tables")] == [120, 336, 730, TABLE_DAYS]
    assert [len(plain[kind]) for kind in ("ten_minute_tables", "hour_tables")] == [12, 24]
    assert len(seen.models) == min(names + 1, NAMES + 1)
    assert (OTHERS in seen.models) == (names >= NAMES)
