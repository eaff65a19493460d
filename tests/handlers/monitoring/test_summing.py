"""The combined metrics of several workers: counts add up and never decrease, and gauges follow their rules."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st

from handlers.monitoring.summing import summed
from handlers.workers.counts import add_counts
from handlers.workers.link import GatheredMetrics


def family(name: str, kind: str, **values: float) -> list[Any]:
    """A family with a sample for each value of its label."""
    return [name, kind, "Words.", [[name, {"of": label}, value] for label, value in values.items()]]


def values(families: list[Any]) -> dict[tuple[str, str], float]:
    return {(sample, labels.get("of", "")): value for *_, samples in families for sample, labels, value in samples}


COUNTS = st.dictionaries(st.sampled_from("abc"), st.integers(0, 100))
WORKERS = st.lists(COUNTS, min_size=1, max_size=4)


@a_share(of=10)
@given(WORKERS, st.lists(COUNTS, max_size=3))
def test_summed_counts_include_running_and_ended_workers(
    living: list[dict[str, int]], ended: list[dict[str, int]]
) -> None:
    retired: list[Any] = []
    for each in ended:
        retired = add_counts(retired, [family("requests", "counter", **each), family("running", "gauge", a=1)])
    own, *others = ([family("requests", "counter", **each)] for each in living)
    expected: Counter[str] = Counter()
    for each in (*living, *ended):
        expected.update(each)
    found = values(summed(GatheredMetrics(own, others, retired)))
    assert {label: value for (_, label), value in found.items() if value} == {k: v for k, v in expected.items() if v}


@a_share(of=10)
@given(WORKERS, st.data())
def test_a_count_does_not_decrease_when_a_worker_ends(living: list[dict[str, int]], data: st.DataObject) -> None:
    told = [[family("requests", "counter", **each)] for each in living]
    before = values(summed(GatheredMetrics(told[0], told[1:], [])))
    ended = told.pop(data.draw(st.integers(0, len(told) - 1)))
    after = values(summed(GatheredMetrics(told[0] if told else [], told[1:], add_counts([], ended))))
    assert after == before


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lmarena_bridge_answers_running", 7),  # the sum
        ("process_open_fds", 7),
        ("lmarena_bridge_serving", 2),  # the lowest
        ("lmarena_bridge_keys", 5),  # this worker's, since all have the same value
        ("lmarena_bridge_event_loop_lag_seconds", 5),  # the highest, as for any other gauge
    ],
)
def test_each_gauge_is_combined_by_its_rule(name: str, expected: float) -> None:
    found = summed(GatheredMetrics([family(name, "gauge", x=5)], [[family(name, "gauge", x=2)]], []))
    assert values(found) == {(name, "x"): expected}


def test_a_gauge_that_only_another_worker_has_is_included() -> None:
    own, other = [family("wall", "gauge", a=0)], [family("wall", "gauge", b=1), family("models", "gauge", c=3)]
    assert values(summed(GatheredMetrics(own, [other], []))) == {("wall", "a"): 0, ("wall", "b"): 1, ("models", "c"): 3}
