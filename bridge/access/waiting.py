"""Waiting for a free place among the calls in flight, instead of being refused (`limits.queue_seconds`).

A call takes one of the places that `bridge.access.limits` counts: of its key (`concurrency`), and of all (`streams`).

    enter ──▶ SERVED ──────────────────────────────────▶ OVER   leave: the place is free, and the next is served
      │         ▲ │ defer: other processes hold the places      (`defer` gives the place back)
      ▼         │ ▼
    WAITING ────┴───▶ REFUSED   expire: at its deadline; displaced by another key where as many wait as may
      └─────────────▶ OVER      leave: its caller has gone

The request counts in its key's minute from its arrival on, unless it is refused. Where several processes share the
limits, one waiting call at a time goes from here to the others (`confirm` or `defer` ends that); what they refuse
bars its key, or all, until a call ends here or `try_again` is called.

A call is refused at once if it could not be served in time even if all that run ended now and those after them took as
long as the mean: with `c` places and calls of `d` seconds, one with `n` ahead of it waits for at least `n // c * d`.
No I/O; the clock is given.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

from bridge.access.limits import WINDOW_SECONDS, Admission, Limiter, LimitExceeded, Slot, busy
from bridge.access.turns import Turns
from bridge.config.schema import MAX_WAITING

#: How much the last call's length counts in the mean.
_WEIGHT: Final = 0.2
#: The most keys of which the mean length of calls is kept.
_MAX_KEYS: Final = 10_000

Kind: TypeAlias = Literal["concurrency", "streams"]


class Phase(enum.Enum):
    """Where a call is; see above."""

    WAITING = enum.auto()
    SERVED = enum.auto()
    REFUSED = enum.auto()
    OVER = enum.auto()


class Place:
    """One call's place, as a context: leaving it frees the place for the next one.

    `on_change` is called when it is served or refused while it waits. `deadline` is in seconds of the queue's clock.
    """

    __slots__ = (
        *("_queue", "admission", "arrived", "concurrency", "deadline", "key_id", "kind", "on_change"),
        *("phase", "rpm", "since", "slot", "streams"),
    )

    def __init__(self, queue: CallQueue, key_id: str, rpm: int, concurrency: int, streams: int, now: float) -> None:
        self._queue = queue
        self.arrived = now
        #: When it was served.
        self.since = now
        self.deadline = now
        self.key_id = key_id
        self.rpm = rpm
        self.concurrency = concurrency
        self.streams = streams
        #: The limit for which it waits.
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
    """The waiting calls of this process, and the calls that are served.

    `several` is whether other processes must agree to a call, too; at most `most` wait.
    """

    def __init__(
        self, limiter: Limiter, clock: Callable[[], float], *, several: bool = False, most: int = MAX_WAITING
    ) -> None:
        self._limiter = limiter
        self._clock = clock
        self._several = several
        self._most = most
        self._turns: Turns[Place] = Turns()
        self._asking: Place | None = None  # has left the order, and is asking the other processes
        self._barred_keys: set[str] = set()
        self._all_barred = False
        self._lengths: dict[str, float] = {}
        self._length: float | None = None
        limiter.on_end(self._freed)

    def __len__(self) -> int:
        return len(self._turns)

    def places(self) -> dict[Place, int]:
        """All waiting calls, each with its place: in the order of all where the daemon is full, else of its key."""
        found: dict[Place, int] = {}
        of_key: dict[str, int] = {}
        for number, place in enumerate(self._turns, 1):
            mine = of_key[place.key_id] = of_key.get(place.key_id, 0) + 1
            found[place] = number if self._limiter.running >= place.streams else mine
        return found

    def seconds_left(self, place: Place) -> float:
        """How long a call may still wait."""
        return max(0.0, place.deadline - self._clock())

    def enter(self, key_id: str, *, rpm: int, concurrency: int, streams: int, seconds: float) -> Place:
        """Give a call a place now, or let it wait for one for at most `seconds`.

        Raises LimitExceeded where it cannot be served within that time, or makes too many requests a minute.
        """
        now = self._clock()
        place = Place(self, key_id, rpm, concurrency, streams, now)
        place.deadline = now + seconds
        if not self._is_barred(place):
            try:
                place.slot = self._limiter.slot(key_id, rpm=rpm, concurrency=concurrency, streams=streams)
            except LimitExceeded as error:
                if error.kind == "rpm" or not error.admission.remaining:
                    raise
                place.kind = error.kind
            else:
                place.admission = place.slot.__enter__()
                place.phase = Phase.SERVED
                return place
        self._check_estimate(place, seconds)
        self._make_room(place)
        place.admission = self._limiter.count(key_id, rpm)
        if not place.admission.allowed:
            raise LimitExceeded("rpm", rpm, place.admission)
        self._turns.add(key_id, place)
        return place

    def leave(self, place: Place) -> None:
        """The call is over, or its caller has gone while it waited."""
        phase, place.phase, place.on_change = place.phase, Phase.OVER, None
        if phase is Phase.WAITING:
            self._turns.remove(place.key_id, place)
        elif place.slot is not None:
            slot, place.slot = place.slot, None
            self._note_length(place)
            if self._asking is place:
                self._asking = None
            slot.__exit__()  # which serves the next one

    def expire(self, place: Place) -> LimitExceeded:
        """The call has waited for as long as it may: it takes nothing, and is refused by what is returned."""
        if place.phase is Phase.WAITING:
            self._turns.remove(place.key_id, place)
            self._refuse(place)
        return self._refusal(place)

    def confirm(self, place: Place) -> None:
        """The other processes have agreed to a call that had to wait."""
        if self._asking is place:
            self._asking = None
            self._serve()

    def defer(self, place: Place, kind: Kind) -> None:
        """Another process's calls leave no room for one that was served here: it waits, as the next of its key."""
        if place.slot is None or place.phase is not Phase.SERVED:
            return
        place.kind, place.phase = kind, Phase.WAITING
        slot, place.slot = place.slot, None
        self._limiter.count(place.key_id, place.rpm)  # it was taken back with the refusal
        self._turns.put_back(place.key_id, place)
        asking = self._asking
        self._asking = place  # so that its slot, which others hold, serves nobody
        slot.__exit__()
        self._asking = None if asking is place else asking
        if kind == "streams":
            self._all_barred = True
        else:
            self._barred_keys.add(place.key_id)
        self._serve()

    def try_again(self) -> None:
        """Other processes may have room again."""
        self._barred_keys.clear()
        self._all_barred = False
        self._serve()

    def _freed(self, key_id: str) -> None:
        """A call of this process has ended."""
        if self._turns:
            self._barred_keys.discard(key_id)
            self._all_barred = False
            self._serve()

    def _is_barred(self, place: Place) -> bool:
        """Whether one must wait behind others that wait for other processes' calls."""
        if not self._turns:
            self._barred_keys.clear()
            self._all_barred = False
            return False
        if self._all_barred:
            place.kind = "streams"
        return self._all_barred or self._asking is not None or place.key_id in self._barred_keys

    def _serve(self) -> None:
        """Serve the calls that may be served: with several processes one at a time, since each must ask the others."""
        while self._turns and self._asking is None and not self._all_barred:
            place = self._turns.take(self._may)
            if place is None:
                return
            place.phase, place.since = Phase.SERVED, self._clock()
            place.slot = self._limiter.taken(place.key_id, place.admission)
            place.slot.__enter__()
            if self._several:
                self._asking = place
            if place.on_change is not None:
                place.on_change()

    def _may(self, place: Place) -> bool:
        limiter, key_id = self._limiter, place.key_id
        return (
            limiter.running < place.streams
            and limiter.running_of(key_id) < place.concurrency
            and key_id not in self._barred_keys
        )

    def _refuse(self, place: Place) -> None:
        place.phase = Phase.REFUSED
        if self._clock() - place.arrived < WINDOW_SECONDS:
            self._limiter.take_back(place.key_id)

    def _refusal(self, place: Place) -> LimitExceeded:
        limit = place.streams if place.kind == "streams" else place.concurrency
        return LimitExceeded(place.kind, limit, busy(self._limiter.look(place.key_id, place.rpm)))

    def _make_room(self, place: Place) -> None:
        """Where as many wait as may, the last of the key with most gives way to a key with fewer.

        Raises LimitExceeded.
        """
        if len(self._turns) < self._most:
            return
        longest = self._turns.longest()
        if longest is None or self._turns.waiting_of(longest[0]) <= self._turns.waiting_of(place.key_id) + 1:
            raise self._refusal(place)
        last = longest[1]
        self._turns.remove(last.key_id, last)
        self._refuse(last)
        if last.on_change is not None:
            last.on_change()

    def _check_estimate(self, place: Place, seconds: float) -> None:
        """Raise LimitExceeded if the call cannot be served in time, with the time that it would take."""
        key_id, longest = place.key_id, 0.0
        needed = [(self._turns.waiting_of(key_id), place.concurrency, self._lengths.get(key_id))]
        if self._limiter.running >= place.streams:
            needed.append((self._turns.ahead_of_new(key_id), place.streams, self._length))
        for ahead, places, length in needed:
            if length is not None and ahead // places * length > seconds:
                longest = max(longest, (ahead + 1) / places * length)
        if longest:
            refusal = self._refusal(place)
            admission = refusal.admission
            retry_after = max(admission.retry_after, longest)
            raise LimitExceeded(refusal.kind, refusal.limit, admission._replace(retry_after=retry_after))

    def _note_length(self, place: Place) -> None:
        length, lengths = self._clock() - place.since, self._lengths
        known = lengths.pop(place.key_id, length)
        lengths[place.key_id] = known + _WEIGHT * (length - known)
        if len(lengths) > _MAX_KEYS:
            del lengths[next(iter(lengths))]
        self._length = length if self._length is None else self._length + _WEIGHT * (length - self._length)
