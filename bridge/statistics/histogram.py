"""Durations counted by slot, in a form that adds up exactly and packs into one short row."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import add
from typing import Self


@dataclass(slots=True)
class Histogram:
    """`counts[i]` durations of at most `bounds[i]` seconds, and one count more for what is above the last bound.

    The sum is kept in whole microseconds, so that it does not depend on the order. Missing counts at the end are zeros;
    more than there are slots is a ValueError.
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
        """All durations together, in seconds."""
        return self.micros / 1e6

    @property
    def total(self) -> int:
        """How many durations were observed."""
        return sum(self.counts)

    def observe(self, durations: Iterable[float]) -> None:
        """Count durations in seconds; a negative one, which only a clock that was set back can give, as 0."""
        for seconds in durations:
            self.counts[bisect_left(self.bounds, seconds)] += 1
            self.micros += max(round(seconds * 1e6), 0)

    def add(self, more: Histogram) -> None:
        """Count all that another one of the same bounds has counted."""
        self.counts = list(map(add, self.counts, more.counts))
        self.micros += more.micros

    def quantile(self, q: float) -> float | None:
        """The seconds that a share `q` (0 to 1) stays within, interpolated in their slot; None without durations.

        Nothing is known of what is above the last bound but that bound, which is the answer then.
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
        """A row of numbers: the microseconds and the counts, without the zeros at the end."""
        used = len(self.counts)
        while used and not self.counts[used - 1]:
            used -= 1
        return " ".join(map(str, (self.micros, *self.counts[:used])))

    @classmethod
    def unpack(cls, bounds: tuple[float, ...], row: str) -> Self:
        """Read what `pack` wrote. Raises ValueError."""
        micros, *counts = map(int, row.split())
        return cls(bounds, counts, micros)
