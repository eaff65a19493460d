"""The lines of `check`'s report."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from bridge.diagnosis import ADVICE, explain
from upstream.protocol.errors import Reason, TimedOut, Unreachable, UpstreamError


class Verdict(Enum):
    """The state of a part; BAD means that no chat can be served. The value is the mark and its colour."""

    GOOD = ("✓", "green")
    WORTH_A_LOOK = ("!", "yellow")
    BAD = ("✗", "red")


@dataclass(frozen=True, slots=True)
class CheckLine:
    """One line of the report: the part, its state, and what to do about a problem."""

    verdict: Verdict
    part: str
    text: str


def advice(failure: UpstreamError) -> str:
    """Say what went wrong, and what the operator should do now."""
    silent = isinstance(failure, Unreachable | TimedOut)  # the site, not a model, did not answer
    return explain(failure, ADVICE[Reason.UNREACHABLE] if silent else None)
