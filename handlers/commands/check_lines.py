"""The lines of `check`'s report."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


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
