"""How the attempts with each account went: by outcome, the last ones, and hour by hour.

In JSON an hour is one string of numbers: `ok limited failed`.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from functools import partial
from operator import add
from typing import Any, Final, NamedTuple, Self

from bridge.statistics.counts import whole_numbers
from bridge.statistics.spans import HOUR
from upstream.protocol.errors import Reason

#: How many of an account's last attempts are kept.
LAST_ANSWERS: Final = 5
#: For how many hours an account's attempts are counted hour by hour.
ANSWER_HOURS: Final = 24


class HourOfAnswers(NamedTuple):
    """How the attempts of one hour went: answered, limited by the site, failed for another reason."""

    ok: int = 0
    limited: int = 0
    failed: int = 0

    @property
    def total(self) -> int:
        """All attempts."""
        return sum(self)

    def plus(self, more: HourOfAnswers) -> HourOfAnswers:
        """The sum of both."""
        return HourOfAnswers(*map(add, self, more))


_ANSWERED: Final = HourOfAnswers(ok=1)
_LIMITED: Final = HourOfAnswers(limited=1)
_FAILED: Final = HourOfAnswers(failed=1)
_LIMITS: Final = (Reason.RATE_LIMITED, Reason.RECAPTCHA)


@dataclass(slots=True)
class AccountUse:
    """Counts of the attempts with one account by outcome, and the last ones as (unix time, reason).

    `hours` has the counts of the last ANSWER_HOURS hours, by the unix time at which each hour began.
    """

    reasons: Counter[str] = field(default_factory=Counter)
    last: deque[tuple[int, Reason]] = field(default_factory=partial(deque, maxlen=LAST_ANSWERS))
    hours: dict[int, HourOfAnswers] = field(default_factory=dict)

    def count(self, at: int, reason: Reason) -> None:
        """Count one attempt at the unix time `at`."""
        self.reasons[reason.value] += 1
        self.last.append((at, reason))
        hour = at - at % HOUR
        before = self.hours.get(hour)
        if before is None:
            self._forget(at)
            before = HourOfAnswers()
        one = _ANSWERED if reason is Reason.OK else _LIMITED if reason in _LIMITS else _FAILED
        self.hours[hour] = before.plus(one)

    def last_hours(self, now: int) -> list[tuple[int, HourOfAnswers]]:
        """The last ANSWER_HOURS hours as (unix time of the beginning, counts), in order; the last one has not ended."""
        begins = (now - now % HOUR - hours * HOUR for hours in reversed(range(ANSWER_HOURS)))
        return [(begin, self.hours.get(begin, HourOfAnswers())) for begin in begins]

    def _forget(self, now: int) -> None:
        """Drop the hours that are too old at `now`, and those after it, which exist if the clock was set back."""
        for hour in [hour for hour in self.hours if not 0 <= now - hour < ANSWER_HOURS * HOUR]:
            del self.hours[hour]

    def to_json(self) -> object:
        """Plain values."""
        return {
            "reasons": dict(self.reasons),
            "last": [f"{at} {reason}" for at, reason in self.last],
            "hours": {str(hour): " ".join(map(str, counts)) for hour, counts in self.hours.items()},
        }

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Read what `to_json` wrote. Raises what `Stats.from_json` does."""
        use = cls(Counter(whole_numbers(value["reasons"])))
        for at, reason in map(str.split, value["last"]):
            use.last.append((int(at), Reason(reason)))
        for hour, counts in value.get("hours", {}).items():  # an older version counted no hours
            ok, limited, failed = map(int, counts.split())
            use.hours[int(hour)] = HourOfAnswers(ok, limited, failed)
        return use
