"""Histograms: the slot of a duration, exact sums, quantiles that can be trusted."""

from __future__ import annotations

import pytest
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st

from bridge.statistics.counts import DURATION_BOUNDS, TTFT_BOUNDS
from bridge.statistics.histogram import Histogram


@pytest.mark.parametrize(
    ("seconds", "slot"),
    [(0.0, 0), (0.1, 0), (0.11, 1), (1.0, 3), (120.0, 12), (120.1, 13), (1e6, 13), (-1.0, 0)],
)
def test_histogram_bounds_are_inclusive_and_a_last_slot_holds_longer_durations(seconds: float, slot: int) -> None:
    histogram = Histogram(TTFT_BOUNDS)
    histogram.observe([seconds])
    assert [number for number, count in enumerate(histogram.counts) if count] == [slot]
    assert histogram.total == 1
    assert histogram.sum == pytest.approx(max(seconds, 0.0))


@pytest.mark.parametrize(
    ("counts", "q", "seconds"),
    [
        pytest.param([], 0.5, None, id="nothing observed"),
        pytest.param([4], 0.5, 0.5, id="half way into the first slot"),
        pytest.param([2, 2], 0.5, 1.0, id="at the bound of two slots"),
        pytest.param([2, 0, 2], 0.75, 3.0, id="over an empty slot"),
        pytest.param([0, 4], 0.0, 1.0, id="the least, where the first slot is empty"),
        pytest.param([0, 4], 1.0, 2.0, id="the most"),
        pytest.param([1, 0, 0, 9], 0.95, 4.0, id="above the last bound"),
    ],
)
def test_a_quantile_is_interpolated_within_its_slot(counts: list[int], q: float, seconds: float | None) -> None:
    assert Histogram((1.0, 2.0, 4.0), counts).quantile(q) == seconds


@a_share(of=4)
@given(st.lists(st.floats(0, 4000)), st.floats(0, 1), st.floats(0, 1))
def test_a_histogram_survives_packing_and_its_quantiles_never_decrease(
    seconds: list[float], low: float, high: float
) -> None:
    histogram = Histogram(DURATION_BOUNDS)
    histogram.observe(seconds)
    assert histogram.total == len(seconds)
    assert histogram.sum == pytest.approx(sum(seconds), abs=1e-6 * len(seconds))
    assert Histogram.unpack(DURATION_BOUNDS, histogram.pack()) == histogram
    at_low, at_high = histogram.quantile(min(low, high)), histogram.quantile(max(low, high))
    if at_low is None or at_high is None:
        assert not seconds
    else:
        assert 0 <= at_low <= at_high <= DURATION_BOUNDS[-1]


def test_a_row_with_more_counts_than_slots_is_refused() -> None:
    with pytest.raises(ValueError, match="4 counts for 2 bounds"):
        Histogram.unpack((1.0, 2.0), "0 1 1 1 1")
