"""The availability of the site as a whole: a circuit breaker for failures, a wall while the site demands a human."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Final

from upstream.protocol.errors import (
    Blocked,
    Challenge,
    CircuitOpen,
    RecaptchaRequired,
    ServerFailed,
    Unavailable,
    Unreachable,
    UpstreamError,
)

#: How many requests (not attempts) in a row must fail for the circuit to open.
FAILURES_TO_OPEN: Final = 5
#: How long it stays open, in seconds: at first, and at most after doubling.
FIRST_PAUSE_SECONDS: Final = 5.0
LONGEST_PAUSE_SECONDS: Final = 60.0

OUTAGES = (Unreachable, ServerFailed, Unavailable)
WALLS = (Challenge, Blocked, RecaptchaRequired)


class Gate:
    """Admits requests to upstream, and learns from how they end. Nothing here waits."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0
        self._pause = FIRST_PAUSE_SECONDS
        self._open_until: float | None = None
        self._probing = False
        #: Called when the wall or the circuit has changed in this process, so that others can be told.
        self.on_change: Callable[[], None] = lambda: None
        #: The outage that opened the circuit, and the wall in front of the site; None if there is none.
        self.outage: UpstreamError | None = None
        self.wall: UpstreamError | None = None

    def request(self) -> AdmittedRequest:
        """Admit one request, as a context until its answer begins; what leaves the context is its outcome.

        Raises CircuitOpen, or the wall's own error, if the request is not admitted. While the circuit is half open, or
        a wall stands, one request at a time is admitted as a probe.
        """
        return AdmittedRequest(self, probe=self._admit())

    def record(self, error: BaseException | None, *, probe: bool) -> None:
        """Record the outcome of an admitted request."""
        if probe:
            self._probing = False
        if error is None:
            self.reset()
        elif isinstance(error, UpstreamError):
            self._learn(error)

    def reset(self) -> None:
        """Upstream answers: close the circuit and forget the wall."""
        self._failures = 0
        if self.wall is not None or self.outage is not None:
            self._pause = FIRST_PAUSE_SECONDS
            self._open_until = None
            self.outage = None
            self.wall = None
            self.on_change()

    @property
    def open_for(self) -> float:
        """Seconds until the open circuit admits a request as a probe; 0 if it is closed."""
        return 0.0 if self._open_until is None else max(0.0, self._open_until - self._clock())

    def adopt(self, wall: UpstreamError | None, outage: UpstreamError | None, open_for: float) -> None:
        """Take over what another process has learned; `open_for` is in seconds."""
        self.wall, self.outage = wall, outage
        self._open_until = self._clock() + open_for if outage is not None else None
        if wall is None and outage is None:
            self._failures, self._pause = 0, FIRST_PAUSE_SECONDS

    def _admit(self) -> bool:
        """Admit a request; return whether it is a probe."""
        if self.wall is not None:
            if self._probing:
                raise _copy(self.wall)
        elif self._open_until is not None and self.outage is not None:
            wait = self._open_until - self._clock()
            if wait > 0 or self._probing:
                raise CircuitOpen(
                    f"LMArena failed {FAILURES_TO_OPEN} times in a row, so requests are paused for a moment"
                    f" (last: {self.outage.message})",
                    retry_after=max(wait, 1.0),
                )
        else:
            return False
        self._probing = True
        return True

    def _learn(self, error: UpstreamError) -> None:
        if isinstance(error, WALLS):
            self.wall = _copy(error)
            self.on_change()
        elif isinstance(error, OUTAGES):
            self._failures += 1
            if self._failures >= FAILURES_TO_OPEN:
                self._open_until = self._clock() + self._pause
                self._pause = min(LONGEST_PAUSE_SECONDS, self._pause * 2)
                self.outage = _copy(error)
                self.on_change()
        elif error.status is not None:
            self.reset()  # any other status still shows that upstream is up


class AdmittedRequest:
    """One admitted request; leaving the context records its outcome."""

    __slots__ = ("_gate", "_probe")

    def __init__(self, gate: Gate, *, probe: bool) -> None:
        self._gate = gate
        self._probe = probe

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gate.record(error, probe=self._probe)


def _copy(error: UpstreamError) -> UpstreamError:
    """Copy an error without its traceback, which would keep every request alive that raised it."""
    return type(error)(error.message, status=error.status, detail=error.detail)
