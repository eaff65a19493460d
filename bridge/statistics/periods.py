"""Counts by minute, hour or day, with a bounded number of periods.

A request counts in the period of the wall clock's time, even if the clock jumps; empty periods are not stored. No
period is lost while the clock stays within `capacity` periods, and no request is counted twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar


class Packable(Protocol):
    """The counters of one period. `pack` returns plain JSON values, which are never empty."""

    def pack(self) -> object: ...


C = TypeVar("C", bound=Packable)


class Periods(Generic[C]):
    """At most `capacity` periods of `width` seconds, identified by their start (unix time).

    Only the period that `open` returned last may be changed: the packed form of all others is cached.
    """

    def __init__(self, width: int, capacity: int, make: Callable[[int], C]) -> None:
        self._width = width
        self._capacity = capacity
        self._make = make
        self._kept: dict[int, C] = {}
        self._packed: dict[int, object] = {}
        self._opened: int | None = None

    def open(self, now: int) -> C:
        """The period of `now`, which may be changed until another one is opened."""
        self._opened = start = self._start(now)
        self._packed.pop(start, None)
        if start not in self._kept:
            self._kept[start] = self._make(start)
            if len(self._kept) > self._capacity:
                self._forget_one(now)
        return self._kept[start]

    def last(self, now: int, count: int | None = None) -> list[C]:
        """The last `count` periods (all if None) up to that of `now`, in order, including empty ones."""
        return [self._kept.get(start) or self._make(start) for start in self._last_starts(now, count)]

    def to_json(self) -> dict[str, object]:
        """All periods as plain values, by start; read-only, since the next call returns the same objects."""
        for start in self._kept.keys() - self._packed.keys():
            self._packed[start] = self._kept[start].pack()
        rows = {str(start): self._packed[start] for start in sorted(self._kept)}
        if self._opened is not None:
            self._packed.pop(self._opened, None)
        return rows

    def load(self, rows: dict[str, Any], unpack: Callable[[int, Any], C]) -> None:
        """Load what `to_json` returned; `unpack` makes a period from its start and its packed form."""
        self._packed = {int(start): row for start, row in rows.items()}
        self._kept = {start: unpack(start, row) for start, row in self._packed.items()}

    def _forget_one(self, now: int) -> None:
        """Drop the period furthest from `now` that `last` does not show; there is one beyond `capacity` periods."""
        hidden = self._kept.keys() - set(self._last_starts(now))
        furthest = max(hidden, key=lambda start: abs(start - now))
        del self._kept[furthest]
        self._packed.pop(furthest, None)

    def _last_starts(self, now: int, count: int | None = None) -> range:
        start = self._start(now)
        count = self._capacity if count is None else min(count, self._capacity)
        return range(start - (count - 1) * self._width, start + 1, self._width)

    def _start(self, now: int) -> int:
        return now - now % self._width
