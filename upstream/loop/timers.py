"""Times at which something is to happen that hardly ever happens: a request is given up, a silent stream says it lives.

Nearly all are cleared long before, three of them in every request. As timers of the loop's own they cost 4 % of a short
request (`make bench`); here they are entries of one table, and the loop has one timer for all.
"""

from __future__ import annotations

import asyncio
import math
from time import monotonic  # the loop's own clock
from typing import Final, Protocol

#: One look at the table follows another after so many seconds at the earliest; so late may an alarm ring.
STEP_SECONDS: Final = 0.05


class Alarm(Protocol):
    """What is told that its time has come; a key of the table, so by identity."""

    def ring(self) -> None:
        """Act, in a turn of the loop; must not raise."""


class Alarms:
    """Alarms that are set. Each rings once, and may set itself again."""

    def __init__(self) -> None:
        self._set: dict[Alarm, float] = {}
        self._next_look = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._set)

    def set(self, alarm: Alarm, at: float) -> None:
        """Let an alarm ring `at` a time of the loop's clock, and at no other."""
        self._set[alarm] = at
        if at < self._next_look:
            self._look_at(at)

    def clear(self, alarm: Alarm) -> None:
        """Let it not ring, if it is set."""
        self._set.pop(alarm, None)

    def close(self) -> None:
        """Let none ring any more."""
        self._set.clear()
        self._look_at(math.inf)

    def _look_at(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next_look = at
        self._timer = asyncio.get_running_loop().call_at(at, self._look) if at < math.inf else None

    def _look(self) -> None:
        now = monotonic()
        try:
            for alarm in [alarm for alarm, at in self._set.items() if at <= now]:
                if self._set.pop(alarm, None) is not None:  # or another that rang has cleared it
                    alarm.ring()
        finally:
            self._look_at(max(now + STEP_SECONDS, min(self._set.values(), default=math.inf)))
