"""Budgets: how many requests and tokens a key may use in a day, which ends at midnight UTC.

A request counts when it is admitted, its tokens when it has ended. What was used is kept in `budgets.json`, to which
each process adds its own part: several processes see each other's with the next save.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from bridge.access.keys import ApiKey
from bridge.state.forms import DocumentForm

DAY_SECONDS: Final = 86_400


class Used(NamedTuple):
    """What a key has used in a day; tokens are estimates, of prompts and answers."""

    requests: int = 0
    tokens: int = 0

    def plus(self, more: Used) -> Used:
        """The sum of both."""
        return Used(self.requests + more.requests, self.tokens + more.tokens)


@dataclass(frozen=True, slots=True)
class DayUse:
    """What the keys that have budgets used on a day (days since 1970 in UTC), by key id."""

    day: int = 0
    keys: Mapping[str, Used] = field(default_factory=dict)

    def plus(self, more: DayUse) -> DayUse:
        """The sum of both, or the later one if they are of different days."""
        if self.day != more.day:
            return max(self, more, key=lambda use: use.day)
        keys = dict(self.keys)
        for key_id, used in more.keys.items():
            keys[key_id] = keys.get(key_id, Used()).plus(used)
        return DayUse(self.day, keys)

    def to_json(self) -> object:
        """Plain values; `from_json` reads them back."""
        return {"day": self.day, "keys": {key_id: list(used) for key_id, used in self.keys.items()}}

    @classmethod
    def from_json(cls, value: object) -> DayUse:
        """Read what `to_json` wrote. Raises ValueError."""
        match value:
            case {"day": int(day), "keys": dict(keys)}:
                return cls(day, {str(key_id): Used(int(used[0]), int(used[1])) for key_id, used in keys.items()})
        raise ValueError("must have a day and keys")


#: `budgets.json`.
BUDGETS: Final = DocumentForm("budgets", 1, DayUse.from_json, DayUse.to_json, DayUse(), precious=False)


class BudgetExceeded(Exception):
    """A key has used up its day's `limit` of `kind`; it may go on in `retry_after` seconds."""

    def __init__(self, kind: Literal["requests", "tokens"], limit: int, retry_after: float) -> None:
        super().__init__(f"{limit} {kind} a day are used up")
        self.kind = kind
        self.limit = limit
        self.retry_after = retry_after


class Budgets:
    """The use of today by the keys that have budgets. `clock` gives unix seconds."""

    def __init__(self, clock: Callable[[], float], saved: DayUse = DayUse()) -> None:
        self._clock = clock
        self._saved = saved
        self._unsaved: dict[str, Used] = {}
        self._day = self._today()

    def _today(self) -> int:
        return int(self._clock()) // DAY_SECONDS

    def check(self, key: ApiKey) -> None:
        """Raise BudgetExceeded where a key's budget of the day is used up."""
        used = self.used(key.id)
        wait = DAY_SECONDS - self._clock() % DAY_SECONDS
        if key.day_requests is not None and used.requests >= key.day_requests:
            raise BudgetExceeded("requests", key.day_requests, wait)
        if key.day_tokens is not None and used.tokens >= key.day_tokens:
            raise BudgetExceeded("tokens", key.day_tokens, wait)

    def count(self, key: ApiKey) -> Callable[[int], None]:
        """Count a request of a key; call what is returned with its tokens when it has ended."""
        self._add(key.id, Used(requests=1))
        return lambda tokens: self._add(key.id, Used(tokens=tokens))

    def take_back(self, key: ApiKey) -> None:
        """The last request of a key that was counted asks nothing of its own."""
        self._add(key.id, Used(requests=-1))

    def used(self, key_id: str) -> Used:
        """What a key has used today."""
        self._turn_day()
        saved = self._saved.keys.get(key_id, Used()) if self._saved.day == self._day else Used()
        return saved.plus(self._unsaved.get(key_id, Used()))

    @property
    def unsaved(self) -> DayUse:
        """What was used here since the last save."""
        self._turn_day()
        return DayUse(self._day, dict(self._unsaved))

    def saved(self, part: DayUse, whole: DayUse) -> None:
        """`part`, which was unsaved, has been saved; `whole` is the use of all processes."""
        self._saved = whole
        if part.day == self._day:
            for key_id, used in part.keys.items():
                left = self._unsaved[key_id]
                self._unsaved[key_id] = Used(left.requests - used.requests, left.tokens - used.tokens)
                if self._unsaved[key_id] == Used():
                    del self._unsaved[key_id]

    def _add(self, key_id: str, used: Used) -> None:
        self._turn_day()
        self._unsaved[key_id] = self._unsaved.get(key_id, Used()).plus(used)

    def _turn_day(self) -> None:
        if (today := self._today()) != self._day:
            self._day = today
            self._unsaved.clear()
