"""The statistics as leaves: rebuilding the statistics from them, and the differences between two states."""

from __future__ import annotations

import json

from counted import Clock
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.statistics.account_use import LAST_ANSWERS
from bridge.statistics.counts import Outcome, ToolUse
from bridge.statistics.leaves import Change, changes, leaves, tree
from bridge.statistics.stats import Stats
from upstream.protocol.errors import Reason

#: The seconds until the next event.
LATER = st.sampled_from([0, 1, 61, 3700, 90_000])
OUTCOMES = st.builds(
    Outcome,
    st.sampled_from([200, 429, 499, 502]),
    st.sampled_from([Reason.OK, Reason.TIMEOUT, Reason.CLIENT_GONE]),
    st.sampled_from([0.05, 3.0, 2000.0]),
    model=st.sampled_from([None, "a", "models", "é 1:2"]),
    key=st.sampled_from([None, "last", "b"]),
    ttft=st.sampled_from([None, 0.01, 61.0]),
    chunks=st.integers(0, 5),
    prompt_tokens=st.integers(0, 5),
    tools=st.sampled_from([ToolUse(), ToolUse(1, 1)]),
    api=st.sampled_from([None, "chat"]),
    refused=st.booleans(),
)
EVENTS = st.lists(st.tuples(LATER, OUTCOMES), max_size=8)


def record(stats: Stats, clock: Clock, events: list[tuple[int, Outcome]]) -> None:
    for later, outcome in events:
        clock.now += later
        stats.record(outcome)
        stats.record_attempt("models", outcome.reason)
        stats.record_upload(outcome.status == 200)


@given(EVENTS)
@settings(max_examples=30)
def test_statistics_can_be_rebuilt_from_their_leaves(events: list[tuple[int, Outcome]]) -> None:
    clock = Clock()
    stats = Stats(clock)
    record(stats, clock, events)
    again = Stats.from_json(json.loads(json.dumps(tree(leaves(stats.to_json())))), clock)
    assert leaves(again.to_json()) == leaves(stats.to_json())


@given(EVENTS)
@settings(max_examples=20)
def test_equal_leaves_have_no_changes_and_without_a_past_all_leaves_are_new(events: list[tuple[int, Outcome]]) -> None:
    clock = Clock()
    stats = Stats(clock)
    record(stats, clock, events)
    now = leaves(stats.to_json())
    assert changes(now, now) == []
    assert {change.path: change.row for change in changes(now, {})} == now


def test_changes_between_leaves_are_increments_of_their_rows() -> None:
    before = {
        "totals": "1 0 | 7 1 | ok:1",
        "models\x1fa": "1 0 5 5 100",
        "accounts\x1fx\x1freasons\x1fok": "2",
        "accounts\x1fx\x1flast": "1 ok,2 ok",
        "since": "5",
    }
    now = {
        "totals": "3 1 | 9 1 2 | ok:2 a:b:1",
        "models\x1fa": "3 1 6 5 200 1 0 0 0 0",
        "accounts\x1fx\x1freasons\x1fok": "2",
        "accounts\x1fx\x1freasons\x1ftimeout": "1",
        "accounts\x1fx\x1flast": "2 ok,3 timeout",
        "since": "5",
        "models\x1fb": "1 0 0 0 200",
    }
    assert changes(now, before) == [
        Change("totals", "sum", "2 1 | 2 0 2 | ok:1 a:b:1"),
        Change("models\x1fa", "usage", "2 1 1 0 200 1 0 0 0 0"),
        Change("accounts\x1fx\x1freasons\x1ftimeout", "sum", "1"),
        Change("models\x1fb", "usage", "1 0 0 0 200"),
        Change("accounts\x1fx\x1flast", "latest", "3 timeout"),
    ]


def test_attempts_equal_to_earlier_ones_count_as_changes() -> None:
    clock = Clock()
    stats = Stats(clock)
    for _ in range(2 * LAST_ANSWERS):
        stats.record_attempt("x", Reason.OK)
    before = leaves(stats.to_json())
    for _ in range(LAST_ANSWERS):
        stats.record_attempt("x", Reason.OK)
        clock.now += 1
    now = leaves(stats.to_json())
    last = "accounts\x1fx\x1flast"
    assert {change.path: change.row for change in changes(now, before)}[last] == now[last]
