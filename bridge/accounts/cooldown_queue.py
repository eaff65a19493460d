"""Waiting until an account may be asked again: where all are on cooldown after a 429, requests wait, by key in turn.

One lane for each modality, since an account is on cooldown for one. A request holds a place here only while it waits:

    enter ──▶ WAITING ──▶ TRYING ──▶ OVER       over: it was answered, or has failed
      leave: OVER ▲          │
                  └──────────┘ limited: another 429; it is the next of its key again

No request is let go before the cooldown is over. Then one is; each that is answered lets one more try beside it, and a
429 lets all wait for the new cooldown and begin with one again: not all run into the site's limit at once. No I/O.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from bridge.access.turns import Turns

#: The shortest time between two attempts of which the site refuses the first, in seconds.
LEAST_SECONDS: Final = 1.0


class Phase(enum.Enum):
    """Where a request is; see above."""

    WAITING = enum.auto()
    TRYING = enum.auto()
    OVER = enum.auto()


class Waiter:
    """One request that waits for an account; `on_go` is called when it may try."""

    __slots__ = ("key_id", "modality", "on_go", "phase")

    def __init__(self, modality: str, key_id: str) -> None:
        self.modality = modality
        self.key_id = key_id
        self.phase = Phase.WAITING
        self.on_go: Callable[[], None] | None = None


@dataclass(slots=True)
class _Lane:
    turns: Turns[Waiter] = field(default_factory=Turns)
    trying: int = 0
    at_once: int = 1
    until: float = -math.inf


class CooldownQueue:
    """The requests that wait, and those that are being tried. `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lanes: dict[str, _Lane] = {}

    def __len__(self) -> int:
        return sum(len(lane.turns) for lane in self._lanes.values())

    def places(self) -> dict[Waiter, int]:
        """All waiting requests, each with its place among those for the same modality."""
        return {waiter: number for lane in self._lanes.values() for number, waiter in enumerate(lane.turns, 1)}

    def is_waited_for(self, modality: str) -> bool:
        """Whether any request waits, which others must not overtake."""
        lane = self._lanes.get(modality)
        return lane is not None and len(lane.turns) > 0

    def seconds_left(self, modality: str) -> float:
        """How long the cooldown lasts, as far as is known."""
        lane = self._lanes.get(modality)
        return 0.0 if lane is None else max(0.0, lane.until - self._clock())

    def cool_down(self, modality: str, seconds: float) -> None:
        """The site has refused a request: no account may be asked for this time."""
        lane = self._lanes.setdefault(modality, _Lane())
        lane.until, lane.at_once = self._clock() + max(seconds, LEAST_SECONDS), 1

    def is_over(self, modality: str) -> None:
        """An account may be asked now, whatever the site announced before."""
        if (lane := self._lanes.get(modality)) is not None:
            lane.until = min(lane.until, self._clock())
            self.serve(modality)

    def enter(self, modality: str, key_id: str) -> Waiter:
        """Let a request wait behind the others of its key."""
        waiter = Waiter(modality, key_id)
        self._lanes.setdefault(modality, _Lane()).turns.add(key_id, waiter)
        return waiter

    def serve(self, modality: str) -> None:
        """Let the requests go that may; to be called when `seconds_left` have passed."""
        lane = self._lanes.get(modality)
        if lane is None:
            return
        while lane.trying < lane.at_once and lane.until <= self._clock():
            waiter = lane.turns.take(lambda _: True)
            if waiter is None:
                if not lane.trying:
                    del self._lanes[modality]
                return
            waiter.phase = Phase.TRYING
            lane.trying += 1
            if waiter.on_go is not None:
                waiter.on_go()

    def limited(self, waiter: Waiter, seconds: float) -> None:
        """The site has refused a request that was let go: it is the next again, once `seconds` have passed."""
        if waiter.phase is Phase.TRYING:
            lane = self._lanes[waiter.modality]
            lane.trying -= 1
            waiter.phase = Phase.WAITING
            lane.turns.put_back(waiter.key_id, waiter)
            self.cool_down(waiter.modality, seconds)

    def over(self, waiter: Waiter, *, answered: bool = False) -> None:
        """A request waits no more: it was answered, has failed, or its caller has gone."""
        phase, waiter.phase, waiter.on_go = waiter.phase, Phase.OVER, None
        lane = self._lanes.get(waiter.modality)
        if lane is None or phase is Phase.OVER:
            return
        if phase is Phase.WAITING:
            lane.turns.remove(waiter.key_id, waiter)
        else:
            lane.trying -= 1
            lane.at_once += answered and lane.until <= self._clock()  # not one that was sent before the cooldown
        self.serve(waiter.modality)
