"""Whether the shared state can be used: a pure state machine.

phase         event        next          what the daemon does
──────────────────────────────────────────────────────────────────────────────────────────────────────────────
starting      connected    catching up   reads the documents
starting      failed       starting      tries again
starting      timed_out    degraded      serves alone, from its last copies of the documents
catching up   caught_up    up            serves from memory, claims in Redis
catching up   failed       degraded      continues alone
up            failed       degraded      continues alone: documents as last known, own limits, new conversations
degraded      connected    catching up   sends what it has kept, reads the documents again
degraded      failed       degraded      tries again
any other     any          unchanged     nothing
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class Phase(StrEnum):
    """A state of this machine."""

    STARTING = "starting"
    CATCHING_UP = "catching up"
    UP = "up"
    DEGRADED = "degraded"


@dataclass(frozen=True, slots=True)
class Availability:
    """The present phase, since when (in seconds, on the clock of the events), and a clause why it is not `UP`."""

    phase: Phase = Phase.STARTING
    since: float = 0.0
    why: str = "it has not answered yet"

    @property
    def usable(self) -> bool:
        """Whether commands may be sent: there is a connection, and it works."""
        return self.phase in (Phase.UP, Phase.CATCHING_UP)

    def connected(self, now: float) -> Availability:
        """A connection has been made, and the server accepts writes."""
        return self if self.usable else Availability(Phase.CATCHING_UP, now, "what was kept meanwhile is being sent")

    def caught_up(self, now: float) -> Availability:
        """What was kept has been sent, and the documents have been read."""
        return Availability(Phase.UP, now, "") if self.phase is Phase.CATCHING_UP else self

    def failed(self, why: str, now: float) -> Availability:
        """The server cannot be reached, does not answer in time, or refuses writes. `why` must not hold a secret."""
        if self.phase is Phase.STARTING:
            return replace(self, why=why)
        return Availability(Phase.DEGRADED, self.since if self.phase is Phase.DEGRADED else now, why)

    def timed_out(self, now: float) -> Availability:
        """`redis.connect_timeout` is over."""
        return Availability(Phase.DEGRADED, now, self.why) if self.phase is Phase.STARTING else self
