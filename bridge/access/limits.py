"""Rate limits: a key's requests in any 60 s, its concurrent calls, and the whole daemon's concurrent calls.

The window slides: a slot is free again 60 s after it was taken, so no boundary lets a double burst through.
Times are seconds of a monotonic clock; a refused request takes no slot.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

WINDOW_SECONDS = 60.0
# It is not known when a running call will end; a retry is worthwhile after this time.
BUSY_RETRY_SECONDS = 1.0


class Admission(NamedTuple):
    """One decision about a key's requests per minute, in the terms of the `x-ratelimit-*` headers.

    `reset_seconds`: until all `limit` slots are free again. `retry_after`: until a refused request fits, else 0.
    """

    allowed: bool
    limit: int
    remaining: int
    reset_seconds: float
    retry_after: float


class LimitExceeded(Exception):
    """A call was refused: `kind` names the limit, `limit` is its value, `retry_after` the seconds until a retry."""

    def __init__(self, kind: Literal["rpm", "concurrency", "streams"], limit: int, admission: Admission) -> None:
        super().__init__(f"{kind} limit of {limit} reached")
        self.kind = kind
        self.limit = limit
        self.admission = admission
        self.retry_after = admission.retry_after


class Window:
    """One key's admitted requests of the last 60 s, as the times at which their slots become free."""

    __slots__ = ("_expiries",)

    def __init__(self) -> None:
        self._expiries: deque[float] = deque()

    def is_idle(self, now: float) -> bool:
        """Whether every slot is free."""
        return not self._expiries or self._expiries[-1] <= now

    def look(self, rpm: int, now: float) -> Admission:
        """What `admit` would decide now, without taking a slot."""
        expiries = self._expiries
        while expiries and expiries[0] <= now:
            expiries.popleft()
        excess = len(expiries) - rpm
        # Rounded up by one float step, so that now + retry_after is never just before the expiry.
        wait = 0.0 if excess < 0 else math.nextafter(expiries[excess] - now, math.inf)
        reset = expiries[-1] - now if expiries else 0.0
        return Admission(excess < 0, rpm, max(-excess, 0), reset, wait)

    def admit(self, rpm: int, now: float) -> Admission:
        """Take a slot if fewer than `rpm` are taken; `now` must not decrease from call to call."""
        decision = self.look(rpm, now)
        if not decision.allowed:
            return decision
        self._expiries.append(now + WINDOW_SECONDS)
        return Admission(True, rpm, decision.remaining - 1, WINDOW_SECONDS, 0.0)

    def take_back(self) -> None:
        """The last slot that was taken is free again."""
        if self._expiries:
            self._expiries.pop()


@dataclass(slots=True)
class Calls:
    """Calls in flight: by key (without keys that have none), and in total."""

    by_key: dict[str, int] = field(default_factory=dict)
    total: int = 0
    #: Are told the key of each call that has ended, where others count it too, or wait for it.
    on_end: tuple[Callable[[str], None], ...] = ()


class Slot:
    """The slot of one call, occupied within a `with` block; `admission` says how many requests remain."""

    __slots__ = ("_calls", "_held", "_key_id", "admission")

    def __init__(self, key_id: str, admission: Admission, calls: Calls) -> None:
        self._key_id = key_id
        self._held = False
        self._calls = calls
        self.admission = admission

    def __enter__(self) -> Admission:
        self._held = True
        self._count(1)
        return self.admission

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Free it before the block ends: the caller has left, and the call goes on without it."""
        if not self._held:
            return
        self._held = False
        self._count(-1)
        for on_end in self._calls.on_end:
            on_end(self._key_id)

    def _count(self, more: int) -> None:
        calls = self._calls
        calls.total += more
        running = calls.by_key.pop(self._key_id, 0) + more
        if running:
            calls.by_key[self._key_id] = running


class Limiter:
    """Enforces the limits of all keys. Limits are passed with each call, so a reload applies from the next call on."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._windows: dict[str, Window] = {}
        self._calls = Calls()
        self._sweep_at = -math.inf

    @property
    def running(self) -> int:
        """Calls in flight, of all keys."""
        return self._calls.total

    def slot(self, key_id: str, *, rpm: int, concurrency: int, streams: int) -> Slot:
        """Take one call's slot, to be held for the length of a `with` block.

        `rpm` and `concurrency` are the key's limits, `streams` the whole daemon's. Raises LimitExceeded.
        """
        now = self._clock()
        if now >= self._sweep_at:
            self._forget_idle(now)
        window = self._window(key_id)
        if self._calls.total >= streams:
            raise LimitExceeded("streams", streams, busy(window.look(rpm, now)))
        if self._calls.by_key.get(key_id, 0) >= concurrency:
            raise LimitExceeded("concurrency", concurrency, busy(window.look(rpm, now)))
        admission = window.admit(rpm, now)
        if not admission.allowed:
            raise LimitExceeded("rpm", rpm, admission)
        return Slot(key_id, admission, self._calls)

    def running_of(self, key_id: str) -> int:
        """Calls of a key in flight."""
        return self._calls.by_key.get(key_id, 0)

    @property
    def running_keys(self) -> tuple[str, ...]:
        """The keys that have calls in flight."""
        return tuple(self._calls.by_key)

    def on_end(self, callback: Callable[[str], None]) -> None:
        """Call `callback` with the key of each call that ends from now on."""
        self._calls.on_end = (*self._calls.on_end, callback)

    def look(self, key_id: str, rpm: int) -> Admission:
        """What is left of a key's requests per minute."""
        return self._window(key_id).look(rpm, self._clock())

    def count(self, key_id: str, rpm: int) -> Admission:
        """Count a request of a key that takes no slot yet, if it is allowed."""
        return self._window(key_id).admit(rpm, self._clock())

    def taken(self, key_id: str, admission: Admission) -> Slot:
        """The slot of a call whose request was counted, whatever the limits."""
        return Slot(key_id, admission, self._calls)

    def take_back(self, key_id: str) -> None:
        """The key's last request was refused by others: it does not count here either."""
        if (window := self._windows.get(key_id)) is not None:
            window.take_back()

    def _window(self, key_id: str) -> Window:
        window = self._windows.get(key_id)
        if window is None:
            window = self._windows[key_id] = Window()
        return window

    def _forget_idle(self, now: float) -> None:
        """Drop the windows of idle keys; doing so once per window length is enough to bound memory."""
        self._windows = {key_id: window for key_id, window in self._windows.items() if not window.is_idle(now)}
        self._sweep_at = now + WINDOW_SECONDS


class SharedLimits(Protocol):
    """Limits that several processes keep together."""

    async def claim(self, key_id: str, *, rpm: int, concurrency: int, streams: int) -> Admission | None:
        """Claim the slot that a key's newest call has in this process's `Limiter`; None where its own count holds.

        Raises LimitExceeded.
        """


def busy(admission: Admission) -> Admission:
    """The error for a call that is refused because others are running."""
    return admission._replace(allowed=False, retry_after=max(admission.retry_after, BUSY_RETRY_SECONDS))
