"""Speeds: what counts as measured, and that it adds up over days, restarts and processes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from counted import DAY, Clock

from bridge.statistics.counts import NAMES, OTHERS, Outcome, ToolUse
from bridge.statistics.leaves import changes, leaves, tree
from bridge.statistics.spans import TABLE_DAYS
from bridge.statistics.speeds import ENOUGH_ANSWERS
from bridge.statistics.stats import Stats
from upstream.protocol.errors import Reason


def answer(**fields: Any) -> Outcome:
    """Return an answer with its first token after 2.5 s and 300 tokens in the 3 s after it."""
    return Outcome(200, Reason.OK, 5.5, model="m", ttft=2.5, chunks=40, completion_tokens=300)._replace(**fields)


def measured(*outcomes: Outcome) -> tuple[int, float | None]:
    """Return the number of measured first tokens, and the rate."""
    stats = Stats(Clock())
    for outcome in outcomes:
        stats.record(outcome)
    speed = stats.speeds().models.get("m")
    return (0, None) if speed is None else (speed.ttft.total, speed.rate)


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        pytest.param([answer()], (1, 100.0), id="a whole answer"),
        pytest.param([answer(), answer(seconds=8.5)], (2, 600 / 9), id="two: tokens and times are added first"),
        pytest.param([answer(reason=Reason.TRUNCATED)], (0, None), id="one that broke off"),
        pytest.param([answer(status=502, reason=Reason.UPSTREAM_ERROR, ttft=None)], (0, None), id="none"),
        pytest.param([answer(model=None)], (0, None), id="no model"),
        pytest.param([answer(tools=ToolUse(1, 1))], (1, None), id="tools: calls are held back"),
        pytest.param([answer(chunks=1)], (1, None), id="all in one piece"),
        pytest.param([answer(completion_tokens=0)], (1, None), id="a picture"),
        pytest.param([answer(seconds=1.0)], (1, None), id="a clock that was set back"),
    ],
)
def test_only_complete_answers_count_towards_the_speed_of_a_model(
    outcomes: list[Outcome], expected: tuple[int, float | None]
) -> None:
    assert measured(*outcomes) == expected


def test_the_median_time_to_the_first_token_needs_several_answers() -> None:
    stats = Stats(Clock())
    for ttft in (2.5, 2.5, 2.5)[:ENOUGH_ANSWERS]:
        assert stats.speeds().models.get("m") is None or stats.speeds().models["m"].first_token is None
        stats.record(answer(ttft=ttft))
    assert stats.speeds().models["m"].first_token == pytest.approx(2.5, abs=0.5)


def test_speeds_add_up_over_days_and_old_days_are_dropped() -> None:
    clock = Clock()
    stats = Stats(clock)
    for _ in range(TABLE_DAYS + 3):
        stats.record(answer())
        clock.now += DAY
    assert stats.speeds().models["m"].ttft.total == TABLE_DAYS - 1  # today is one of the days, and has none
    clock.now += TABLE_DAYS * DAY
    assert stats.speeds().models == {}


def test_models_beyond_the_maximum_are_measured_under_others() -> None:
    stats = Stats(Clock())
    for number in range(NAMES + 7):
        stats.record(answer(model=f"model {number}"))
    found = stats.speeds().models
    assert (len(found), found[OTHERS].ttft.total) == (NAMES + 1, 7)


def test_speeds_are_passed_on_as_increments_that_can_be_added_up() -> None:
    clock = Clock()
    one, other = Stats(clock), Stats(clock)
    one.record(answer())
    before = leaves(one.to_json())
    one.record(answer(ttft=0.05))
    rows = [change.row for change in changes(leaves(one.to_json()), before) if change.path.startswith("speeds\x1f")]
    assert rows == ["50000 1 0 0 0 0 0 | 300 5450000"]  # only the increments, which Redis adds up
    again = Stats.from_json(json.loads(json.dumps(tree(leaves(one.to_json())))), clock)
    assert again.speeds() == one.speeds()
    assert other.speeds().models == {}


def test_statistics_written_before_speeds_were_measured_are_read() -> None:
    stats = Stats(Clock())
    stats.record(answer())
    older: Any = json.loads(json.dumps(stats.to_json()))
    del older["speeds"]
    again = Stats.from_json(older, Clock())
    assert (again.totals.requests, again.speeds().models) == (1, {})
