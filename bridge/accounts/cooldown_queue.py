"""Requests that wait for an account: while all are on cooldown after a 429, they queue, round robin among keys.

There is one queue for each modality, since an account's cooldown is for one. A request is in it only while it waits:

    enter ──▶ WAITING ──▶ TRYING ──▶ OVER       leave: it was answered, or has failed
    leave: OVER   ▲          │
                  └──────────┘ rate_limited: another 429; it is the next of its key again

No request is sent before the cooldown is over. Then one is sent, and each answer lets one more be sent concurrently. A
429 makes all wait for the new cooldown, and starts with one request again: so not all of them run into the site's limit
at the same time. No I/O.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from bridge.access.round_robin import RoundRobin

#: The shortest cooldown, in seconds, whatever the site announces.
LEAST_SECONDS: Final = 1.0


class Phase(enum.Enum):
    """The state of a request; see the module's diagram."""

    WAITING = enum.auto()
    TRYING = enum.auto()
    OVER = enum.auto()


class Waiter:
    """One request that waits for an account; `on_turn` is called when it may be sent."""

    __slots__ = ("key_id", "modality", "on_turn", "phase")

    def __init__(self, modality: str, key_id: str) -> None:
        self.modality = modality
        self.key_id = key_id
        self.phase = Phase.WAITING
        self.on_turn: Callable[[], None] | None = None


@dataclass(slots=True)
class _Queue:
    waiting: RoundRobin[Waiter] = field(default_factory=RoundRobin)
    trying: int = 0
    max_trying: int = 1
    cooldown_end: float = -math.inf


class CooldownQueue:
    """The requests of all modalities that wait or are being tried. `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._queues: dict[str, _Queue] = {}

    def __len__(self) -> int:
        return sum(len(queue.waiting) for queue in self._queues.values())

    def positions(self) -> dict[Waiter, int]:
        """All waiting requests, each with its position among those for the same modality."""
        return {waiter: number for queue in self._queues.values() for number, waiter in enumerate(queue.waiting, 1)}

    def has_waiting(self, modality: str) -> bool:
        """Whether any request waits, which others must not overtake."""
        queue = self._queues.get(modality)
        return queue is not None and len(queue.waiting) > 0

    def seconds_left(self, modality: str) -> float:
        """How long the cooldown lasts, as far as is known."""
        queue = self._queues.get(modality)
        return 0.0 if queue is None else max(0.0, queue.cooldown_end - self._clock())

    def cool_down(self, modality: str, seconds: float) -> None:
        """Start a cooldown, because the site has refused a request."""
        queue = self._queues.setdefault(modality, _Queue())
        queue.cooldown_end, queue.max_trying = self._clock() + max(seconds, LEAST_SECONDS), 1

    def end_cooldown(self, modality: str) -> None:
        """End the cooldown early, because an account can be used again."""
        if (queue := self._queues.get(modality)) is not None:
            queue.cooldown_end = min(queue.cooldown_end, self._clock())
            self.serve(modality)

    def enter(self, modality: str, key_id: str) -> Waiter:
        """Let a request wait behind the others of its key."""
        waiter = Waiter(modality, key_id)
        self._queues.setdefault(modality, _Queue()).waiting.add(key_id, waiter)
        return waiter

    def serve(self, modality: str) -> None:
        """Let as many waiting requests try as are allowed; to be called when `seconds_left` have passed."""
        queue = self._queues.get(modality)
        if queue is None:
            return
        while queue.trying < queue.max_trying and queue.cooldown_end <= self._clock():
            waiter = queue.waiting.take(lambda _: True)
            if waiter is None:
                if not queue.trying:
                    del self._queues[modality]
                return
            waiter.phase = Phase.TRYING
            queue.trying += 1
            if waiter.on_turn is not None:
                waiter.on_turn()

    def rate_limited(self, waiter: Waiter, seconds: float) -> None:
        """The site has refused a request that was tried: it waits again, as the next of its key, for `seconds`."""
        if waiter.phase is Phase.TRYING:
            queue = self._queues[waiter.modality]
            queue.trying -= 1
            waiter.phase = Phase.WAITING
            queue.waiting.put_back(waiter.key_id, waiter)
            self.cool_down(waiter.modality, seconds)

    def leave(self, waiter: Waiter, *, answered: bool = False) -> None:
        """End a request's wait: it was answered, has failed, or its caller has gone."""
        phase, waiter.phase, waiter.on_turn = waiter.phase, Phase.OVER, None
        queue = self._queues.get(waiter.modality)
        if queue is None or phase is Phase.OVER:
            return
        if phase is Phase.WAITING:
            queue.waiting.remove(waiter.key_id, waiter)
        else:
            queue.trying -= 1
            if answered and queue.cooldown_end <= self._clock():  # not if it was sent before the present cooldown
                queue.max_trying += 1
        self.serve(waiter.modality)
