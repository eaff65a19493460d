"""Histograms of durations, which can be added exactly and packed into one short row."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import add
from typing import Self


@dataclass(slots=True)
class Histogram:
    """Counts durations by bucket: bucket `i` ends at `bounds[i]` seconds, inclusive; one more has no upper bound.

    The sum is kept in whole microseconds, so that it does not depend on the order of additions. Missing trailing counts
    are zeros. Raises ValueError if there are more counts than buckets.
    """

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    micros: int = 0

    def __post_init__(self) -> None:
        missing = len(self.bounds) + 1 - len(self.counts)
        if missing < 0:
            raise ValueError(f"{len(self.counts)} counts for {len(self.bounds)} bounds")
        self.counts = self.counts + [0] * missing

    @property
    def sum(self) -> float:
        """The sum of all durations, in seconds."""
        return self.micros / 1e6

    @property
    def total(self) -> int:
        """How many durations were observed."""
        return sum(self.counts)

    def observe(self, durations: Sequence[float]) -> None:
        """Count durations in seconds; a negative one, as when a clock was set back, counts as 0."""
        for bucket, count in Counter(map(partial(bisect_left, self.bounds), durations)).items():
            self.counts[bucket] += count
        self.micros += sum([max(round(seconds * 1e6), 0) for seconds in durations])

    def add(self, more: Histogram) -> None:
        """Add the counts of a histogram with the same bounds."""
        self.counts = list(map(add, self.counts, more.counts))
        self.micros += more.micros

    def quantile(self, q: float) -> float | None:
        """The `q`-quantile (0 to 1) in seconds, interpolated within its bucket; None without durations.

        A quantile above the last bound is reported as that bound.
        """
        total = self.total
        if not total:
            return None
        rank, below, lower = q * total, 0, 0.0
        for upper, count in zip(self.bounds, self.counts, strict=False):
            if count and below + count >= rank:
                return lower + (upper - lower) * max(rank - below, 0.0) / count
            below, lower = below + count, upper
        return lower

    def pack(self) -> str:
        """A row of numbers: the sum in microseconds and the counts without trailing zeros."""
        used = len(self.counts)
        while used and not self.counts[used - 1]:
            used -= 1
        return " ".join(map(str, (self.micros, *self.counts[:used])))

    @classmethod
    def unpack(cls, bounds: tuple[float, ...], row: str) -> Self:
        """Read what `pack` wrote. Raises ValueError."""
        micros, *counts = map(int, row.split())
        return cls(bounds, counts, micros)
