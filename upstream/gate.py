"""What the daemon has learned of the site as a whole: a circuit for one that fails, a wall for one that wants a human.

Pure decisions over a clock; nothing here waits.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Final

from upstream.protocol.errors import (
    Blocked,
    Challenge,
    CircuitOpen,
    RecaptchaDemanded,
    ServerFailed,
    Unavailable,
    Unreachable,
    UpstreamError,
)

#: Requests (not attempts) in a row that must fail before the circuit opens.
FAILURES_TO_OPEN: Final = 5
#: How long it stays open, in seconds: at first, and at most after doubling.
FIRST_PAUSE_SECONDS: Final = 5.0
LONGEST_PAUSE_SECONDS: Final = 60.0

_OUTAGES = (Unreachable, ServerFailed, Unavailable)
_WALLS = (Challenge, Blocked, RecaptchaDemanded)


class Gate:
    """Lets requests through to upstream, and learns from how they end."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0
        self._pause = FIRST_PAUSE_SECONDS
        self._open_until: float | None = None
        self._probing = False
        #: The outage that opened the circuit, or the wall that stands before the site; None when all is well.
        self.outage: UpstreamError | None = None
        self.wall: UpstreamError | None = None

    def request(self) -> Passage:
        """Let one request through until its answer begins, as a context; judge it by what it raises.

        Raises CircuitOpen, or the wall's own error, where it must wait: with the circuit half open, or a wall
        standing, one request at a time goes through to see.
        """
        return Passage(self, probe=self._admit())

    def leave(self, error: BaseException | None, *, probe: bool) -> None:
        """A request that was let through has ended."""
        if probe:
            self._probing = False
        if error is None:
            self.reset()
        elif isinstance(error, UpstreamError):
            self._learn(error)

    def reset(self) -> None:
        """Upstream answers: forget what was held against it."""
        self._failures = 0
        self._pause = FIRST_PAUSE_SECONDS
        self._open_until = None
        self.outage = None
        self.wall = None

    def _admit(self) -> bool:
        """Admit a request; return whether it is a probe."""
        if self.wall is not None:
            if self._probing:
                raise _anew(self.wall)
        elif self._open_until is not None and self.outage is not None:
            wait = self._open_until - self._clock()
            if wait > 0 or self._probing:
                raise CircuitOpen(
                    f"LMArena failed {FAILURES_TO_OPEN} times in a row and is left alone for a moment"
                    f" (last: {self.outage.message})",
                    retry_after=max(wait, 1.0),
                )
        else:
            return False
        self._probing = True
        return True

    def _learn(self, error: UpstreamError) -> None:
        if isinstance(error, _WALLS):
            self.wall = _anew(error)
        elif isinstance(error, _OUTAGES):
            self._failures += 1
            if self._failures >= FAILURES_TO_OPEN:
                self._open_until = self._clock() + self._pause
                self._pause = min(LONGEST_PAUSE_SECONDS, self._pause * 2)
                self.outage = _anew(error)
        elif error.status is not None:
            self.reset()  # whatever it said, it was upstream that said it


class Passage:
    """One request on its way through the gate."""

    __slots__ = ("_gate", "_probe")

    def __init__(self, gate: Gate, *, probe: bool) -> None:
        self._gate = gate
        self._probe = probe

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gate.leave(error, probe=self._probe)


def _anew(error: UpstreamError) -> UpstreamError:
    """The same error without its traceback, which would hold on to every request that it was raised in."""
    return type(error)(error.message, status=error.status, detail=error.detail)
