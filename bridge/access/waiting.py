"""Waiting for a free slot instead of being refused (`limits.queue_seconds`).

A call takes one of the slots that `bridge.access.limits` counts: those of its key (`concurrency`) and of all keys
(`streams`).

    enter ──▶ SERVED ──────────────────────▶ OVER      leave: the slot is free, and the next call is served
      │         ▲ │ defer: other processes hold the slots, so the call gives its own back
      ▼         │ ▼
    WAITING ────┴───▶ REFUSED   expire: at its deadline; or displaced by another key when the queue is full
      └─────────────▶ OVER      leave: its caller has gone

A request counts towards its key's requests per minute from its arrival on, unless it is refused. If several processes
share the limits, one waiting call at a time is served subject to the others' agreement (until `confirm` or `defer`),
and only once it is `ready` to ask them. A call that they refuse blocks its key, or all keys, until a call of this
process ends or `unblock` is called.

A call is refused at once if it could not be served in time even in the best case, in which all running calls end now
and the calls that follow take the mean duration: with `c` slots and calls of `d` seconds, a call with `n` others ahead
of it waits for at least `n // c * d`. No I/O; the clock is an argument.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

from bridge.access.limits import WINDOW_SECONDS, Admission, Limiter, LimitExceeded, Slot, busy
from bridge.access.round_robin import RoundRobin
from bridge.config.schema import MAX_WAITING

#: The weight of the last call's duration in the moving average.
_WEIGHT: Final = 0.2
#: The most keys whose mean duration is kept.
_MAX_KEYS: Final = 10_000

Kind: TypeAlias = Literal["concurrency", "streams"]


class Phase(enum.Enum):
    """The state of a call; see the module's diagram."""

    WAITING = enum.auto()
    SERVED = enum.auto()
    REFUSED = enum.auto()
    OVER = enum.auto()


class Call:
    """One call that is served or waits, as a context manager: leaving it frees its slot for the next call.

    `on_change` is called when the call is served or refused while it waits. Times are seconds of the queue's clock.
    """

    __slots__ = (
        *("_queue", "admission", "arrived_at", "concurrency", "deadline", "key_id", "kind", "on_change"),
        *("phase", "rpm", "served_at", "slot", "streams"),
    )

    def __init__(self, queue: CallQueue, key_id: str, rpm: int, concurrency: int, streams: int, now: float) -> None:
        self._queue = queue
        self.arrived_at = now
        self.served_at = now
        self.deadline = now
        self.key_id = key_id
        self.rpm = rpm
        self.concurrency = concurrency
        self.streams = streams
        #: The limit that keeps it waiting.
        self.kind: Kind = "concurrency"
        self.phase = Phase.WAITING
        self.slot: Slot | None = None
        self.admission: Admission
        self.on_change: Callable[[], None] | None = None

    def __enter__(self) -> Admission:
        return self.admission

    def __exit__(self, *_: object) -> None:
        self._queue.leave(self)


class CallQueue:
    """The waiting and the served calls of this process. At most `max_waiting` wait.

    `shared` means that other processes share the limits, and must agree to each call.
    """

    def __init__(
        self, limiter: Limiter, clock: Callable[[], float], *, shared: bool = False, max_waiting: int = MAX_WAITING
    ) -> None:
        self._limiter = limiter
        self._clock = clock
        self._shared = shared
        self._max_waiting = max_waiting
        self._waiting: RoundRobin[Call] = RoundRobin()
        self._unconfirmed: Call | None = None  # has waited and is served, but the other processes have not agreed yet
        self._blocked_keys: set[str] = set()
        self._all_blocked = False
        self._mean_by_key: dict[str, float] = {}  # the mean duration of calls, in seconds
        self._mean: float | None = None
        limiter.on_end(self._on_end)

    def __len__(self) -> int:
        return len(self._waiting)

    def positions(self) -> dict[Call, int]:
        """All waiting calls with their positions: among all calls if no slot is free at all, else among the key's."""
        found: dict[Call, int] = {}
        by_key: dict[str, int] = {}
        for position, call in enumerate(self._waiting, 1):
            in_key = by_key[call.key_id] = by_key.get(call.key_id, 0) + 1
            found[call] = position if self._limiter.running >= call.streams else in_key
        return found

    def seconds_left(self, call: Call) -> float:
        """How long a call may still wait."""
        return max(0.0, call.deadline - self._clock())

    def enter(self, key_id: str, *, rpm: int, concurrency: int, streams: int, seconds: float) -> Call:
        """Serve a call now, or let it wait for at most `seconds`.

        Raises LimitExceeded if it cannot be served in time, or if the key makes too many requests per minute.
        """
        now = self._clock()
        call = Call(self, key_id, rpm, concurrency, streams, now)
        call.deadline = now + seconds
        self._apply_limit(key_id, concurrency)
        if not self._is_blocked(call):
            try:
                call.slot = self._limiter.slot(key_id, rpm=rpm, concurrency=concurrency, streams=streams)
            except LimitExceeded as error:
                if error.kind == "rpm" or not error.admission.remaining:
                    raise
                call.kind = error.kind
            else:
                call.admission = call.slot.__enter__()
                call.phase = Phase.SERVED
                return call
        self._check_estimate(call, seconds)
        self._make_room(call)
        call.admission = self._limiter.count(key_id, rpm)
        if not call.admission.allowed:
            raise LimitExceeded("rpm", rpm, call.admission)
        self._waiting.add(key_id, call)
        return call

    def _apply_limit(self, key_id: str, concurrency: int) -> None:
        """Apply a key's limit to its waiting calls too, if it was changed: newer calls must not overtake them."""
        waiting = self._waiting.of(key_id)
        if waiting and next(iter(waiting)).concurrency != concurrency:
            for each in waiting:
                each.concurrency = concurrency
            self._serve()

    def ready(self, call: Call, on_change: Callable[[], None]) -> None:
        """Note that a call only waits for its turn now; `on_change` is called when that has come."""
        call.on_change = on_change
        self._serve()

    def leave(self, call: Call) -> None:
        """End a call that is over, or whose caller has gone while it waited."""
        phase, call.phase, call.on_change = call.phase, Phase.OVER, None
        if phase is Phase.WAITING:
            self._waiting.remove(call.key_id, call)
            self._serve()  # those of its key that are ready
        elif call.slot is not None:
            slot, call.slot = call.slot, None
            self._record_duration(call)
            if self._unconfirmed is call:
                self._unconfirmed = None
            slot.__exit__()  # which serves the next call

    def expire(self, call: Call) -> LimitExceeded:
        """Refuse a call that has waited for as long as it may, and return the error to raise."""
        if call.phase is Phase.WAITING:
            self._waiting.remove(call.key_id, call)
            self._refuse(call)
        return self._refusal(call)

    def confirm(self, call: Call) -> None:
        """Note that the other processes have agreed to a call that has waited."""
        if self._unconfirmed is call:
            self._unconfirmed = None
            self._serve()

    def defer(self, call: Call, kind: Kind) -> None:
        """Let a served call wait again, as the next of its key, because other processes' calls take all slots."""
        if call.slot is None or call.phase is not Phase.SERVED:
            return
        call.kind, call.phase = kind, Phase.WAITING
        slot, call.slot = call.slot, None
        self._limiter.count(call.key_id, call.rpm)  # refunded when the other processes refused it
        self._waiting.put_back(call.key_id, call)
        unconfirmed = self._unconfirmed
        self._unconfirmed = call  # so that no other call gets its slot, which is other processes'
        slot.__exit__()
        self._unconfirmed = None if unconfirmed is call else unconfirmed
        if kind == "streams":
            self._all_blocked = True
        else:
            self._blocked_keys.add(call.key_id)
        self._serve()

    def unblock(self) -> None:
        """Serve the calls that wait for other processes, which may have free slots again."""
        self._blocked_keys.clear()
        self._all_blocked = False
        self._serve()

    def _on_end(self, key_id: str) -> None:
        """A call of this process has ended."""
        if self._waiting:
            self._blocked_keys.discard(key_id)
            self._all_blocked = False
            self._serve()

    def _is_blocked(self, call: Call) -> bool:
        """Whether a new call must wait behind those that wait for other processes."""
        if not self._waiting:
            self._blocked_keys.clear()
            self._all_blocked = False
            return False
        if self._all_blocked:
            call.kind = "streams"
        return self._all_blocked or self._unconfirmed is not None or call.key_id in self._blocked_keys

    def _serve(self) -> None:
        """Serve the calls that may be served: only one at a time if other processes must agree to it."""
        while self._waiting and self._unconfirmed is None and not self._all_blocked:
            call = self._waiting.take(self._may_serve)
            if call is None:
                return
            call.phase, call.served_at = Phase.SERVED, self._clock()
            call.slot = self._limiter.slot_after_count(call.key_id, call.admission)
            call.slot.__enter__()
            if self._shared:
                self._unconfirmed = call
            if call.on_change is not None:
                call.on_change()

    def _may_serve(self, call: Call) -> bool:
        limiter, key_id = self._limiter, call.key_id
        return (
            (call.on_change is not None or not self._shared)
            and limiter.running < call.streams
            and limiter.running_of(key_id) < call.concurrency
            and key_id not in self._blocked_keys
        )

    def _refuse(self, call: Call) -> None:
        call.phase = Phase.REFUSED
        if self._clock() - call.arrived_at < WINDOW_SECONDS:
            self._limiter.refund(call.key_id)

    def _refusal(self, call: Call) -> LimitExceeded:
        limit = call.streams if call.kind == "streams" else call.concurrency
        return LimitExceeded(call.kind, limit, busy(self._limiter.peek(call.key_id, call.rpm)))

    def _make_room(self, call: Call) -> None:
        """If the queue is full, refuse the last call of the key with the most, unless the new call's key has as many.

        Raises LimitExceeded if the new call is the one to refuse.
        """
        if len(self._waiting) < self._max_waiting:
            return
        longest = self._waiting.longest()
        if longest is None or self._waiting.waiting_of(longest[0]) <= self._waiting.waiting_of(call.key_id) + 1:
            raise self._refusal(call)
        last = longest[1]
        self._waiting.remove(last.key_id, last)
        self._refuse(last)
        if last.on_change is not None:
            last.on_change()

    def _check_estimate(self, call: Call, seconds: float) -> None:
        """Raise LimitExceeded, with the estimated time, if the call cannot be served within `seconds`."""
        key_id, longest = call.key_id, 0.0
        limits = [(self._waiting.waiting_of(key_id), call.concurrency, self._mean_by_key.get(key_id))]
        if self._limiter.running >= call.streams:
            limits.append((self._waiting.ahead_of_new(key_id), call.streams, self._mean))
        for ahead, slots, mean in limits:
            if mean is not None and ahead // slots * mean > seconds:
                longest = max(longest, (ahead + 1) / slots * mean)
        if longest:
            refusal = self._refusal(call)
            retry_after = max(refusal.retry_after, longest)
            raise LimitExceeded(refusal.kind, refusal.limit, refusal.admission._replace(retry_after=retry_after))

    def _record_duration(self, call: Call) -> None:
        duration, means = self._clock() - call.served_at, self._mean_by_key
        before = means.pop(call.key_id, duration)  # the last key that was updated is the last of the table
        means[call.key_id] = before + _WEIGHT * (duration - before)
        if len(means) > _MAX_KEYS:
            del means[next(iter(means))]
        self._mean = duration if self._mean is None else self._mean + _WEIGHT * (duration - self._mean)
