"""Whether the shared state can be used: a pure state machine, told of events, asked by everyone.

phase       event        next        what the daemon does
──────────────────────────────────────────────────────────────────────────────────────────────────
starting    connected    back        reads the documents
starting    failed       starting    tries again, for `redis.connect_timeout` (`late` when that is over)
back        caught_up    up          serves from memory, claims in Redis
back        failed       degraded    goes on alone
up          failed       degraded    goes on alone: documents as last known, own limits, new conversations
degraded    connected    back        sends what it has kept, reads the documents again
degraded    failed       degraded    tries again
up, back    connected    the same    nothing: it is connected already
any other   caught_up    the same    nothing: it has failed meanwhile
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class Phase(StrEnum):
    """How the shared state is, in one word."""

    STARTING = "starting"
    BACK = "back"
    UP = "up"
    DEGRADED = "degraded"


@dataclass(frozen=True, slots=True)
class Availability:
    """The present phase, since when (seconds of the events' clock), and why it is not up, a clause without a secret."""

    phase: Phase = Phase.STARTING
    since: float = 0.0
    why: str = "it has not answered yet"

    @property
    def usable(self) -> bool:
        """Whether commands may be sent: there is a connection, and it works."""
        return self.phase in (Phase.UP, Phase.BACK)

    def connected(self, now: float) -> Availability:
        """A connection has been made, and the server takes what is written."""
        return self if self.usable else Availability(Phase.BACK, now, "what was kept meanwhile is being sent")

    def caught_up(self, now: float) -> Availability:
        """What was kept has been sent, and the documents have been read."""
        return Availability(Phase.UP, now, "") if self.phase is Phase.BACK else self

    def failed(self, why: str, now: float) -> Availability:
        """The server cannot be reached, does not answer in time, or refuses to write."""
        if self.phase is Phase.STARTING:
            return replace(self, why=why)
        return Availability(Phase.DEGRADED, self.since if self.phase is Phase.DEGRADED else now, why)

    def late(self, now: float) -> Availability:
        """The start has waited long enough."""
        return Availability(Phase.DEGRADED, now, self.why) if self.phase is Phase.STARTING else self
