"""Periods: bounded in number, exact while the clock goes on, and never counting anything twice."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from bridge.statistics.counts import Bucket
from bridge.statistics.periods import Periods


@given(st.lists(st.integers(0, 100)), st.booleans())
def test_periods_are_bounded_and_exact_while_the_clock_runs_forward(times: list[int], sort: bool) -> None:
    periods = Periods(10, 3, lambda start: Bucket(at=start))
    naive: Counter[int] = Counter()
    for now in sorted(times) if sort else times:
        periods.open(now).requests += 1
        naive[now // 10 * 10] += 1
        assert len(periods.to_json()) <= 3
        last = periods.last(now)
        assert [bucket.at for bucket in last] == [now // 10 * 10 - 20, now // 10 * 10 - 10, now // 10 * 10]
        for bucket in last:
            if sort:
                assert bucket.requests == naive[bucket.at]
            assert bucket.requests <= naive[bucket.at], "whatever the clock does, nothing is counted twice"
