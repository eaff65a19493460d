"""Statistics add up: every sum, every series and every table agrees with what happened, whatever the clock does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
from counted import DAY, Clock, Happened, assert_adds_up
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st

from bridge.statistics.counts import NAME_CHARS, NAMES, OTHERS, Bucket, Outcome, ToolUse, UsageCounts, most_used
from bridge.statistics.spans import TABLE_DAYS, Span
from bridge.statistics.stats import MAX_PENDING, Stats
from upstream.protocol.errors import Reason


def again(stats: Stats, clock: Callable[[], float]) -> Stats:
    """Return the statistics as they are after a restart."""
    return Stats.from_json(orjson.loads(orjson.dumps(stats.to_json())), clock)


def ok(**fields: Any) -> Outcome:
    return Outcome(200, Reason.OK, 2.0)._replace(**fields)


def top_models(stats: Stats, days: int) -> list[tuple[str, UsageCounts]]:
    """Return the models of the last days, the most used first."""
    return most_used(stats.tables(Span("hour", "day", days)).models)


# --- how a request ended ---


@pytest.mark.parametrize(
    ("status", "reason", "failed", "gone"),
    [
        pytest.param(200, Reason.OK, False, False, id="answered"),
        pytest.param(200, Reason.TRUNCATED, True, False, id="the stream broke"),
        pytest.param(200, Reason.CLIENT_GONE, False, True, id="left within the stream"),
        pytest.param(499, Reason.CLIENT_GONE, False, True, id="left before it"),
        pytest.param(401, Reason.REJECTED, True, False, id="no key"),
        pytest.param(503, Reason.NO_ACCOUNT, True, False, id="no account"),
        pytest.param(502, Reason.CLIENT_GONE, True, False, id="failed, and the caller has left too"),
    ],
)
def test_an_outcome_counts_as_failed_or_as_abandoned_by_the_caller_or_neither(
    status: int, reason: Reason, failed: bool, gone: bool
) -> None:
    outcome = Outcome(status, reason, 1.0)
    assert (outcome.failed, outcome.gone) == (failed, gone)
    assert outcome._replace(refused=True).ending == (f"{reason}@here" if failed else reason)


seconds = st.floats(0, 4000)
names = st.none() | st.sampled_from(["a", "b", "c"])
outcomes = st.builds(
    Outcome,
    st.sampled_from([200, 200, 400, 401, 429, 499, 502]),
    st.sampled_from(Reason),
    seconds,
    model=names,
    key=names,
    api=st.none() | st.sampled_from(["chat", "messages"]),
    tools=st.just(ToolUse()) | st.sampled_from([ToolUse(1, 1), ToolUse(1, 0, 1), ToolUse(2, 1, 0, 1, 99), ToolUse(3)]),
    ttft=st.none() | seconds,
    chunks=st.integers(0, 9999),
    prompt_tokens=st.integers(0, 9999),
    completion_tokens=st.integers(0, 9999),
    refused=st.booleans(),
)
attempts = st.tuples(st.sampled_from(["ada", "bob"]), st.sampled_from(Reason))
uploads = st.booleans()
RESTART = "restart"
# Any jump, in both directions, over as many days as have tables.
times = st.floats(Clock.now, Clock.now + TABLE_DAYS * DAY, exclude_max=True)


@a_share(of=10)
@given(st.lists(st.tuples(times, outcomes | attempts | uploads | st.just(RESTART)), max_size=60))
def test_counts_add_up_across_clock_jumps_and_restarts(
    steps: list[tuple[float, Outcome | tuple[str, Reason] | bool | str]],
) -> None:
    clock, happened = Clock(), Happened()
    stats = Stats(clock)
    for clock.now, step in steps:
        now, revision = int(clock.now), stats.revision
        match step:
            case Outcome():
                stats.record(step)
                happened.outcomes.append((now, step))
            case (label, reason):
                stats.record_attempt(label, reason)
                happened.attempts.append((now, label, reason))
            case bool():
                stats.record_upload(step)
                happened.uploads.append(step)
            case _:
                before = stats.to_json()
                stats = again(stats, clock)
                assert stats.to_json() == before
                continue
        assert stats.revision > revision
    assert stats.since == Clock.now
    assert_adds_up(stats, happened, clock.now)


# --- the clock ---


def test_setting_back_a_clock_that_was_ahead_loses_no_counts() -> None:
    clock = Clock()
    start = clock.now
    stats = Stats(clock)
    for minute in range(60):
        clock.now = start + minute * 60
        stats.record(ok(model="m"))
    clock.now = start + 3 * 365 * DAY
    stats.record(ok(model="m"))
    clock.now = start + 60 * 60
    stats.record(ok(model="m"))
    assert [bucket.requests for bucket in stats.series("minute")] == [0] * 59 + [1] * 61
    assert [bucket.requests for bucket in stats.series("hour")][-2:] == [60, 1]
    assert stats.series("day")[-1].requests == top_models(stats, 1)[0][1].requests == 61
    assert stats.totals.requests == 62


def test_a_finished_period_is_packed_only_once() -> None:
    clock = Clock()
    stats = Stats(clock)
    stats.record(ok(model="m"))
    clock.now += DAY
    stats.record(ok(model="m"))
    first: Any = stats.to_json()
    stats.record(ok(model="m"))
    second: Any = stats.to_json()
    for table in "minute", "hour", "day", "hour_tables", "day_tables":
        (old, running), (old_again, running_again) = first[table].values(), second[table].values()
        assert old is old_again
        assert running != running_again


# --- bounds ---


def test_names_beyond_the_maximum_are_counted_under_others() -> None:
    stats = Stats(Clock())
    for number in range(NAMES + 7):
        stats.record(ok(model=f"model {number}", key=f"key {number}"))
        stats.record_attempt(f"account {number}", Reason.OK)
    stats.record(ok(model="model 3", key="key 3"))
    today = stats.tables(Span("hour", "day", 1))
    for table in stats.models, stats.keys, today.models, today.keys:
        assert len(table) == NAMES + 1
        assert table[OTHERS].requests == 7
        assert sum(usage.requests for usage in table.values()) == stats.totals.requests
    assert stats.models["model 3"].requests == 2
    assert len(stats.accounts) == NAMES + 1
    assert stats.accounts[OTHERS].reasons[Reason.OK] == 7


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        pytest.param("gpt-4o (latest) 中 😀", "gpt-4o (latest) 中 😀", id="as it is"),
        pytest.param("x" * 1000, "x" * NAME_CHARS, id="too long"),
        pytest.param("a\ud83d\x00\nb", "a???b", id="nothing that JSON cannot hold, or only at length"),
    ],
)
def test_model_names_are_shortened_and_made_printable(name: str, kept: str) -> None:
    clock = Clock()
    stats = Stats(clock)
    for _ in range(2):
        stats.record(ok(model=name))
    assert again(stats, clock).models[kept].requests == 2


LOOKS: dict[str, Callable[[Stats], object]] = {
    "totals": lambda stats: stats.totals.requests,
    "statuses": lambda stats: stats.statuses[200],
    "reasons": lambda stats: stats.reasons["ok"],
    "models": lambda stats: stats.models["a"].requests,
    "keys": lambda stats: stats.keys["b"].requests,
    "series": lambda stats: stats.series("minute")[-1].requests,
    "top models": lambda stats: top_models(stats, 1)[0][1].requests,
    "keys today": lambda stats: stats.tables(Span("hour", "day", 1)).keys["b"].requests,
    "JSON": lambda stats: again(stats, Clock()).totals.requests,
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
@pytest.mark.parametrize("number", [1, MAX_PENDING, 2 * MAX_PENDING + 1])
def test_reading_the_statistics_counts_all_recorded_outcomes(look: Callable[[Stats], object], number: int) -> None:
    stats = Stats(Clock())
    for _ in range(number):
        stats.record(ok(model="a", key="b"))
    assert look(stats) == number


def test_an_outcome_is_counted_in_the_minute_in_which_it_was_recorded() -> None:
    clock = Clock()
    stats = Stats(clock)
    stats.record(ok(model="a"))
    recorded = int(clock.now)
    clock.now += 60
    assert [bucket.requests for bucket in stats.series("minute")[-2:]] == [1, 0]
    assert stats.models["a"].last == recorded


def test_an_outcome_without_model_or_key_adds_no_row_to_their_tables() -> None:
    stats = Stats(Clock())
    stats.record(Outcome(404, Reason.REJECTED, 0.1))
    assert (stats.totals.requests, stats.models, stats.keys, top_models(stats, 14)) == (1, {}, {}, [])


def test_top_models_are_sorted_by_requests_and_then_by_name() -> None:
    clock = Clock()
    stats = Stats(clock)
    for model in "rare", "often", "b", "a", "often":
        stats.record(ok(model=model))
    clock.now += DAY
    stats.record(ok(model="rare"))
    assert [name for name, _ in top_models(stats, 1)] == ["rare"]
    assert [name for name, _ in top_models(stats, 2)] == ["often", "rare", "a", "b"]
    clock.now += TABLE_DAYS * DAY
    assert top_models(stats, 1000) == []


# --- damage ---


def a_week() -> dict[str, Any]:
    clock = Clock()
    stats = Stats(clock)
    for _ in range(7):
        stats.record(ok(model="m", key="k", ttft=1.0))
        stats.record_attempt("ada", Reason.RATE_LIMITED)
        clock.now += DAY
    loaded: dict[str, Any] = orjson.loads(orjson.dumps(stats.to_json()))
    return loaded


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*path, key))
    if isinstance(value, list):
        for index, inner in enumerate(value):
            yield from places(inner, (*path, index))


junk = st.sampled_from([None, True, -1, 1.5, "", "x", "1 2", " | | ", "1 | 2 | 3", [], [1], ["1 ok"], {}, {"a": 1}])


@given(st.data())
def test_a_damaged_value_is_refused_or_harmless(data: st.DataObject) -> None:
    whole = a_week()
    *path, last = data.draw(st.sampled_from([path for path in places(whole) if path]))
    inner: Any = whole
    for step in path:
        inner = inner[step]
    inner[last] = data.draw(junk)
    clock = Clock()
    try:
        stats = Stats.from_json(whole, clock)
    except (ValueError, LookupError, TypeError, AttributeError):
        return
    stats.record(ok(model="m", key="k", ttft=1.0))
    stats.record_attempt("ada", Reason.OK)
    stats.record_upload(ok=True)
    stats.series("day")
    stats.tables(Span("hour", "day", 14))
    stats.tables(Span("minute", "ten_minutes", 12))
    orjson.dumps(stats.to_json())


def test_a_row_written_before_endings_were_counted_is_read() -> None:
    bucket = Bucket.unpack("3 2 0 7 8 9 | 0 | 0", at=60)
    assert (bucket.requests, bucket.errors, bucket.failed, bucket.refused) == (3, 2, 2, 0)


def test_statistics_written_before_the_hourly_tables_existed_are_read() -> None:
    older = a_week()
    del older["hour_tables"], older["ten_minute_tables"]
    assert Stats.from_json(older, Clock()).totals.requests == 7


# --- tools ---


def test_a_row_written_before_tools_were_counted_is_read() -> None:
    assert UsageCounts.unpack("5 1 20 30 1700000000") == UsageCounts(5, 1, 20, 30, 1_700_000_000)
    assert UsageCounts(5, 1, 20, 30, 1_700_000_000).pack() == "5 1 20 30 1700000000"


def test_a_row_written_before_dropped_text_was_counted_is_read() -> None:
    assert UsageCounts.unpack("5 1 20 30 1700000000 4 2 1 1").tools == ToolUse(4, 2, 1, 1)


def test_statistics_written_before_apis_were_counted_are_read() -> None:
    old = Stats(Clock())
    old.record(ok(model="m", key="k"))
    loaded = orjson.loads(orjson.dumps(old.to_json()))
    del loaded["apis"]
    for tables in loaded["day_tables"].values():
        del tables["apis"]
    assert Stats.from_json(loaded, Clock()).models == old.models


def test_a_row_with_tool_counts_is_read_as_it_was_written() -> None:
    usage = UsageCounts(5, 1, 20, 30, 1_700_000_000, ToolUse(4, 2, 1, 1, 7))
    assert usage.pack() == "5 1 20 30 1700000000 4 2 1 1 7"
    assert UsageCounts.unpack(usage.pack()) == usage
    with pytest.raises(ValueError, match="tools"):
        UsageCounts.unpack("5 1 20 30 1700000000 4 2")


# --- accounts hour by hour ---


def test_the_hourly_answers_of_an_account_are_kept_for_a_day() -> None:
    clock = Clock()
    stats = Stats(clock)
    for reason in (Reason.OK, Reason.OK, Reason.RATE_LIMITED, Reason.RECAPTCHA, Reason.TIMEOUT):
        stats.record_attempt("ada", reason)
    clock.now += 3600
    stats.record_attempt("ada", Reason.OK)
    use = again(stats, clock).accounts["ada"]
    assert use.last_hours(int(clock.now))[-2:] == [(int(clock.now) - 3600, (2, 2, 1)), (int(clock.now), (1, 0, 0))]
    clock.now += DAY
    stats.record_attempt("ada", Reason.OK)
    assert list(stats.accounts["ada"].hours) == [int(clock.now)]
    clock.now -= 2 * DAY  # the clock is set back
    stats.record_attempt("ada", Reason.OK)
    assert list(stats.accounts["ada"].hours) == [int(clock.now)]
    older: Any = orjson.loads(orjson.dumps(stats.to_json()))
    del older["accounts"]["ada"]["hours"]
    assert Stats.from_json(older, clock).accounts["ada"].hours == {}
