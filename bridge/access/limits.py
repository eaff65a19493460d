"""Rate limits: a key's requests in any 60 s, its concurrent calls, and the concurrent calls of all keys.

The window slides: each request counts for 60 s, so that no two full bursts can meet at a boundary between minutes. A
refused request does not count. Each call in flight holds a slot. Times are seconds of a monotonic clock.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

WINDOW_SECONDS = 60.0
#: When to retry while all slots are taken: it is not known when a call will end.
BUSY_RETRY_SECONDS = 1.0


class Admission(NamedTuple):
    """One decision about a key's requests per minute, in the terms of the `x-ratelimit-*` headers.

    `reset_seconds` is the time until all of `limit` remains again, `retry_after` the time until a refused request would
    be admitted, 0 for an admitted one.
    """

    allowed: bool
    limit: int
    remaining: int
    reset_seconds: float
    retry_after: float


class LimitExceeded(Exception):
    """A call was refused: `kind` names the limit, `limit` is its value, `retry_after` is in seconds."""

    def __init__(self, kind: Literal["rpm", "concurrency", "streams"], limit: int, admission: Admission) -> None:
        super().__init__(f"{kind} limit of {limit} reached")
        self.kind = kind
        self.limit = limit
        self.admission = admission
        self.retry_after = admission.retry_after


class Window:
    """One key's admitted requests of the last 60 s, as the times from which they no longer count."""

    __slots__ = ("_expiries",)

    def __init__(self) -> None:
        self._expiries: deque[float] = deque()

    def is_idle(self, now: float) -> bool:
        """Whether no request counts any more."""
        return not self._expiries or self._expiries[-1] <= now

    def peek(self, rpm: int, now: float) -> Admission:
        """What `admit` would decide now, without counting a request."""
        expiries = self._unexpired(now)
        excess = len(expiries) - rpm
        # Rounded up by one float step, so that now + retry_after is never just before the expiry.
        wait = 0.0 if excess < 0 else math.nextafter(expiries[excess] - now, math.inf)
        reset = expiries[-1] - now if expiries else 0.0
        return Admission(excess < 0, rpm, max(-excess, 0), reset, wait)

    def admit(self, rpm: int, now: float) -> Admission:
        """Count a request if fewer than `rpm` count now; `now` must not decrease from call to call."""
        expiries = self._unexpired(now)
        if len(expiries) >= rpm:
            return self.peek(rpm, now)
        expiries.append(now + WINDOW_SECONDS)
        return Admission(True, rpm, rpm - len(expiries), WINDOW_SECONDS, 0.0)

    def _unexpired(self, now: float) -> deque[float]:
        expiries = self._expiries
        while expiries and expiries[0] <= now:
            expiries.popleft()
        return expiries

    def refund(self) -> None:
        """Stop counting the last request."""
        if self._expiries:
            self._expiries.pop()


@dataclass(slots=True)
class Calls:
    """The numbers of calls in flight: by key (without keys that have none), and in total.

    Each of `on_end` is called with the key of a call that has ended.
    """

    by_key: dict[str, int] = field(default_factory=dict)
    total: int = 0
    on_end: tuple[Callable[[str], None], ...] = ()


class Slot:
    """The slot of one call, held within a `with` block; `admission` says how many requests remain."""

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
        """Free it before the block ends, because the call goes on without its caller."""
        if not self._held:
            return
        self._held = False
        self._count(-1)
        for on_end in self._calls.on_end:
            on_end(self._key_id)

    def _count(self, change: int) -> None:
        calls = self._calls
        calls.total += change
        running = calls.by_key.pop(self._key_id, 0) + change
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
        """The number of calls in flight, of all keys."""
        return self._calls.total

    def slot(self, key_id: str, *, rpm: int, concurrency: int, streams: int) -> Slot:
        """Count a request, and return the slot of its call, to be entered with `with`.

        `rpm` and `concurrency` are the key's limits, `streams` is that of all keys. Raises LimitExceeded.
        """
        now = self._clock()
        if now >= self._sweep_at:
            self._forget_idle(now)
        window = self._window(key_id)
        if self._calls.total >= streams:
            raise LimitExceeded("streams", streams, busy(window.peek(rpm, now)))
        if self._calls.by_key.get(key_id, 0) >= concurrency:
            raise LimitExceeded("concurrency", concurrency, busy(window.peek(rpm, now)))
        admission = window.admit(rpm, now)
        if not admission.allowed:
            raise LimitExceeded("rpm", rpm, admission)
        return Slot(key_id, admission, self._calls)

    def running_of(self, key_id: str) -> int:
        """The number of calls in flight, of one key."""
        return self._calls.by_key.get(key_id, 0)

    @property
    def running_keys(self) -> tuple[str, ...]:
        """The keys that have calls in flight."""
        return tuple(self._calls.by_key)

    def on_end(self, callback: Callable[[str], None]) -> None:
        """Call `callback` with the key of each call that ends from now on."""
        self._calls.on_end = (*self._calls.on_end, callback)

    def peek(self, key_id: str, rpm: int) -> Admission:
        """What remains of a key's requests per minute."""
        return self._window(key_id).peek(rpm, self._clock())

    def count(self, key_id: str, rpm: int) -> Admission:
        """Count a request, if it is allowed, whose call takes no slot yet."""
        return self._window(key_id).admit(rpm, self._clock())

    def slot_after_count(self, key_id: str, admission: Admission) -> Slot:
        """The slot of a call whose request `count` has counted; no limit is checked."""
        return Slot(key_id, admission, self._calls)

    def refund(self, key_id: str) -> None:
        """Stop counting the key's last request, which was refused after all."""
        if (window := self._windows.get(key_id)) is not None:
            window.refund()

    def _window(self, key_id: str) -> Window:
        window = self._windows.get(key_id)
        if window is None:
            window = self._windows[key_id] = Window()
        return window

    def _forget_idle(self, now: float) -> None:
        """Drop the windows of idle keys; once per window length is enough to bound the memory they take."""
        self._windows = {key_id: window for key_id, window in self._windows.items() if not window.is_idle(now)}
        self._sweep_at = now + WINDOW_SECONDS


class SharedLimits(Protocol):
    """Limits that several processes keep together."""

    async def claim(self, key_id: str, *, rpm: int, concurrency: int, streams: int) -> Admission | None:
        """Claim from all processes the slot that a key's newest call has in this process's `Limiter`.

        Returns None if only this process's own count decides. Raises LimitExceeded.
        """


def busy(admission: Admission) -> Admission:
    """The admission to report for a call that is refused because too many others are running."""
    return admission._replace(allowed=False, retry_after=max(admission.retry_after, BUSY_RETRY_SECONDS))
