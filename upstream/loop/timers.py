"""Timers that rarely expire, such as a request's timeout or a silent stream's keep-alive.

Each request sets three and cancels them. Only the earliest is scheduled on the event loop; the others wait in a heap
(bench/DECISIONS.md has the cost of `loop.call_at` for each).
"""

from __future__ import annotations

import asyncio
import math
from heapq import heapify, heappop, heappush
from itertools import count
from time import monotonic  # the loop's own clock
from typing import Final, Protocol

#: How many entries of cancelled timers may stay in the heap, besides as many as there are active timers.
_SPARE_ENTRIES: Final = 64


class Timer(Protocol):
    """An object to call when its time comes; timers are compared by identity."""

    def on_timer(self) -> None:
        """Called by the event loop when the timer expires. It must not raise."""


class Timers:
    """The active timers. Each expires once, and may be set again."""

    def __init__(self) -> None:
        self._entries: list[tuple[float, int]] = []  # a heap of (time, number)
        self._by_number: dict[int, Timer] = {}
        self._numbers: dict[Timer, int] = {}
        self._next_number = count().__next__
        self._wakes_at = math.inf
        self._handle: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._numbers)

    def set(self, timer: Timer, at: float) -> None:
        """Call `timer.on_timer` at `at`, on the loop's clock; this replaces an earlier setting."""
        if timer in self._numbers:
            self.cancel(timer)
        number = self._numbers[timer] = self._next_number()
        self._by_number[number] = timer
        heappush(self._entries, (at, number))
        if at < self._wakes_at:
            self._wake_at(at)

    def cancel(self, timer: Timer) -> None:
        """Cancel the timer, if it is set."""
        number = self._numbers.pop(timer, None)
        if number is None:
            return
        del self._by_number[number]
        if len(self._entries) > 2 * len(self._numbers) + _SPARE_ENTRIES:
            self._entries = [entry for entry in self._entries if entry[1] in self._by_number]
            heapify(self._entries)

    def close(self) -> None:
        """Cancel all timers."""
        self._entries.clear()
        self._by_number.clear()
        self._numbers.clear()
        self._wake_at(math.inf)

    def _wake_at(self, at: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._wakes_at = at
        self._handle = asyncio.get_running_loop().call_at(at, self._expire) if at < math.inf else None

    def _expire(self) -> None:
        """Call the expired timers, and schedule the next one."""
        now = monotonic()
        try:
            while self._entries and self._entries[0][0] <= now:
                _, number = heappop(self._entries)
                timer = self._by_number.pop(number, None)
                if timer is not None:  # else it was cancelled
                    del self._numbers[timer]
                    timer.on_timer()
        finally:
            while self._entries and self._entries[0][1] not in self._by_number:
                heappop(self._entries)
            self._wake_at(self._entries[0][0] if self._entries else math.inf)
