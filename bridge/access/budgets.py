"""Budgets: how many requests and tokens a key may use in a day, which ends at midnight UTC.

A request counts when its answer is begun, its tokens when it has ended. Usage is kept in `budgets.json`, to which each
process adds its own; a process learns that of the others with its next save.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from bridge.access.keys import ApiKey
from bridge.state.formats import DocumentFormat

DAY_SECONDS: Final = 86_400


class Usage(NamedTuple):
    """What a key has used in a day; `tokens` is an estimate for prompts and answers together."""

    requests: int = 0
    tokens: int = 0

    def plus(self, more: Usage) -> Usage:
        """The sum of both."""
        return Usage(self.requests + more.requests, self.tokens + more.tokens)


@dataclass(frozen=True, slots=True)
class DailyUsage:
    """What the keys with budgets have used on one day, by key id. `day` is the number of days since 1970 in UTC."""

    day: int = 0
    keys: Mapping[str, Usage] = field(default_factory=dict)

    def plus(self, more: DailyUsage) -> DailyUsage:
        """The sum of both, or the later one if they are of different days."""
        if self.day != more.day:
            return max(self, more, key=lambda usage: usage.day)
        keys = dict(self.keys)
        for key_id, used in more.keys.items():
            keys[key_id] = keys.get(key_id, Usage()).plus(used)
        return DailyUsage(self.day, keys)

    def to_json(self) -> object:
        """Plain values; `from_json` reads them back."""
        return {"day": self.day, "keys": {key_id: list(used) for key_id, used in self.keys.items()}}

    @classmethod
    def from_json(cls, value: object) -> DailyUsage:
        """Read what `to_json` wrote. Raises ValueError."""
        match value:
            case {"day": int(day), "keys": dict(keys)}:
                return cls(day, {str(key_id): Usage(int(used[0]), int(used[1])) for key_id, used in keys.items()})
        raise ValueError("must have a day and keys")


#: `budgets.json`.
BUDGETS: Final = DocumentFormat("budgets", 1, DailyUsage.from_json, DailyUsage.to_json, DailyUsage(), precious=False)


class BudgetExceeded(Exception):
    """A key has used up its daily `limit` of `kind`; `retry_after` is the seconds until its next day begins."""

    def __init__(self, kind: Literal["requests", "tokens"], limit: int, retry_after: float) -> None:
        super().__init__(f"{limit} {kind} a day are used up")
        self.kind = kind
        self.limit = limit
        self.retry_after = retry_after


class Budgets:
    """Today's usage of the keys that have budgets. `clock` gives unix seconds."""

    def __init__(self, clock: Callable[[], float], saved: DailyUsage = DailyUsage()) -> None:
        self._clock = clock
        self._saved = saved
        self._unsaved: dict[str, Usage] = {}
        self._day = self._today()

    def _today(self) -> int:
        return int(self._clock()) // DAY_SECONDS

    def check(self, key: ApiKey) -> None:
        """Raise BudgetExceeded if the key has used up its budget for today."""
        used = self.used(key.id)
        until_midnight = DAY_SECONDS - self._clock() % DAY_SECONDS
        if key.day_requests is not None and used.requests >= key.day_requests:
            raise BudgetExceeded("requests", key.day_requests, until_midnight)
        if key.day_tokens is not None and used.tokens >= key.day_tokens:
            raise BudgetExceeded("tokens", key.day_tokens, until_midnight)

    def count(self, key: ApiKey) -> Callable[[int], None]:
        """Count a request. Call the result with the request's number of tokens when it has ended."""
        self._add(key.id, Usage(requests=1))
        return lambda tokens: self._add(key.id, Usage(tokens=tokens))

    def used(self, key_id: str) -> Usage:
        """What a key has used today."""
        self._start_new_day()
        saved = self._saved.keys.get(key_id, Usage()) if self._saved.day == self._day else Usage()
        return saved.plus(self._unsaved.get(key_id, Usage()))

    @property
    def unsaved(self) -> DailyUsage:
        """What this process has counted since the last save."""
        self._start_new_day()
        return DailyUsage(self._day, dict(self._unsaved))

    def mark_saved(self, part: DailyUsage, whole: DailyUsage) -> None:
        """Note that `part` of `unsaved` has been saved; `whole` is the usage of all processes."""
        self._saved = whole
        if part.day == self._day:
            for key_id, used in part.keys.items():
                left = self._unsaved[key_id].plus(Usage(-used.requests, -used.tokens))
                if left == Usage():
                    del self._unsaved[key_id]
                else:
                    self._unsaved[key_id] = left

    def _add(self, key_id: str, used: Usage) -> None:
        self._start_new_day()
        self._unsaved[key_id] = self._unsaved.get(key_id, Usage()).plus(used)

    def _start_new_day(self) -> None:
        """Drop the usage of the last day, if that is over."""
        if (today := self._today()) != self._day:
            self._day = today
            self._unsaved.clear()
