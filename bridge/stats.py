"""Statistics: what was asked, by whom, how it ended and how long it took. Counters only, and never beyond a bound.

Times are unix seconds, days are UTC's. A name is at most NAME_CHARS characters, a table at most NAMES names.

In JSON a row is one string of numbers. Of a name: `requests errors prompt_tokens completion_tokens last`. Of a period:
`requests errors gone chunks prompt_tokens completion_tokens | ttft | duration`, where a histogram is its microseconds
and its counts without the zeros at the end.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Literal, NamedTuple, Self, TypeVar

from bridge.histogram import Histogram
from bridge.periods import Periods
from upstream.errors import Reason

#: Upper bounds of the slots in seconds, inclusive; one slot more holds what is above the last.
TTFT_BOUNDS: Final = (0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 20.0, 30.0, 60.0, 120.0)
DURATION_BOUNDS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0)

#: A table's names; a name that comes when they are all taken is counted as OTHERS.
NAMES: Final = 500
NAME_CHARS: Final = 100
OTHERS: Final = "(others)"
#: For so many days it is known who used what.
TABLE_DAYS: Final = 14
#: So many of an account's last answers are kept.
LAST_ANSWERS: Final = 5
#: Outcomes that wait to be counted, at most: that takes 3 ms then.
MAX_WAITING: Final = 500

_MINUTE, _HOUR, _DAY = 60, 3600, 86400

Kind = Literal["minute", "hour", "day"]
T = TypeVar("T")


class Outcome(NamedTuple):
    """How one request, a chat completion or a call for images, has ended.

    `model` is None where it was never resolved, so that no caller can make up names; `key` is the API key's name, None
    where none was shown. `seconds` is how long the request took, `ttft` is None where no delta was written.
    """

    status: int
    reason: Reason
    seconds: float
    model: str | None = None
    key: str | None = None
    ttft: float | None = None
    chunks: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def failed(self) -> bool:
        """Whether the caller got an error: the status, or a stream that broke."""
        if self.status >= 400:
            return self.status != 499
        return self.reason not in (Reason.OK, Reason.CLIENT_GONE)

    @property
    def gone(self) -> bool:
        """Whether the caller left before the end, which is no failure."""
        return self.status == 499 or (self.status < 400 and self.reason is Reason.CLIENT_GONE)


@dataclass(slots=True)
class Usage:
    """What one model was asked, or one key has asked; `last` is when, as unix time."""

    requests: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    last: int = 0

    def pack(self) -> str:
        """One row."""
        return f"{self.requests} {self.errors} {self.prompt_tokens} {self.completion_tokens} {self.last}"

    @classmethod
    def unpack(cls, row: str) -> Self:
        """Read what `pack` wrote. Raises ValueError."""
        requests, errors, prompt_tokens, completion_tokens, last = map(int, row.split())
        return cls(requests, errors, prompt_tokens, completion_tokens, last)


@dataclass(slots=True)
class AccountUse:
    """How attempts with one account went: their number by reason, and the last ones as (unix time, reason)."""

    reasons: Counter[str] = field(default_factory=Counter)
    last: deque[tuple[int, Reason]] = field(default_factory=partial(deque, maxlen=LAST_ANSWERS))

    def to_json(self) -> object:
        """Plain values."""
        return {"reasons": dict(self.reasons), "last": [f"{at} {reason}" for at, reason in self.last]}

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Read what `to_json` wrote. Raises what `Stats.from_json` does."""
        use = cls(Counter(_whole(value["reasons"])))
        for at, reason in map(str.split, value["last"]):
            use.last.append((int(at), Reason(reason)))
        return use


@dataclass(slots=True)
class Counts:
    """What was counted. `errors` and `gone` have no request in common; tokens are estimates."""

    requests: int = 0
    errors: int = 0
    gone: int = 0
    chunks: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    ttft: Histogram = field(default_factory=partial(Histogram, TTFT_BOUNDS), kw_only=True)
    duration: Histogram = field(default_factory=partial(Histogram, DURATION_BOUNDS), kw_only=True)

    def pack(self) -> str:
        """One row of three parts."""
        return (
            f"{self.requests} {self.errors} {self.gone} {self.chunks} {self.prompt_tokens} {self.completion_tokens}"
            f" | {self.ttft.pack()} | {self.duration.pack()}"
        )

    @classmethod
    def unpack(cls, row: str, **further: int) -> Self:
        """Read what `pack` wrote; `further` are a subclass's own fields. Raises ValueError or AttributeError."""
        numbers, ttft, duration = row.split(" | ")
        requests, errors, gone, chunks, prompt_tokens, completion_tokens = map(int, numbers.split())
        return cls(
            requests,
            errors,
            gone,
            chunks,
            prompt_tokens,
            completion_tokens,
            ttft=Histogram.unpack(TTFT_BOUNDS, ttft),
            duration=Histogram.unpack(DURATION_BOUNDS, duration),
            **further,
        )


@dataclass(slots=True)
class Bucket(Counts):
    """What was counted in the minute, hour or day that began at the unix time `at`."""

    at: int = field(default=0, kw_only=True)


@dataclass(slots=True)
class Totals(Counts):
    """What was counted in all; and the pictures that were uploaded, and those that could not be."""

    uploaded: int = field(default=0, kw_only=True)
    upload_failures: int = field(default=0, kw_only=True)


@dataclass(slots=True)
class Tables:
    """Who used what."""

    models: dict[str, Usage] = field(default_factory=dict)
    keys: dict[str, Usage] = field(default_factory=dict)

    def pack(self) -> dict[str, object]:
        """Both tables as rows by name."""
        return {
            "models": {name: usage.pack() for name, usage in self.models.items()},
            "keys": {name: usage.pack() for name, usage in self.keys.items()},
        }

    @classmethod
    def unpack(cls, value: Any) -> Self:
        """Read what `pack` wrote. Raises what `Stats.from_json` does."""
        return cls(
            {name: Usage.unpack(row) for name, row in value["models"].items()},
            {name: Usage.unpack(row) for name, row in value["keys"].items()},
        )


class Stats:
    """The statistics of a daemon since its very first start. Only `record…` changes them; `revision` tells that.

    What is recorded is counted when somebody looks, many outcomes at once: one after each request would fetch all of
    this into the processor's cache again, for 4 % of a short request (`make bench`).

    `since` is that start; `models`, `keys` and `accounts` go by name.
    `clock` gives unix seconds and may jump: what is counted goes to the period of its time, and stays there.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.revision = 0
        self.since = clock()
        self._waiting: list[tuple[int, Outcome]] = []
        self._totals = Totals()
        self._statuses: Counter[int] = Counter()
        self._reasons: Counter[str] = Counter()
        self.accounts: dict[str, AccountUse] = {}
        self._series: dict[Kind, Periods[Bucket]] = {
            "minute": Periods(_MINUTE, 120, _bucket),
            "hour": Periods(_HOUR, 336, _bucket),
            "day": Periods(_DAY, 730, _bucket),
        }
        self._tables = Tables()
        self._days = Periods(_DAY, TABLE_DAYS, lambda _: Tables())
        # What is counted in, as long as the minute lasts.
        self._minute: int | None = None
        self._counts: tuple[Counts, ...] = ()
        self._today = Tables()

    def record(self, outcome: Outcome) -> None:
        """Take one request that has ended."""
        self.revision += 1
        self._waiting.append((int(self._clock()), outcome))
        if len(self._waiting) >= MAX_WAITING:
            self._count_waiting()

    def _count_waiting(self) -> None:
        """Count what was recorded. Takes 5 to 7 µs for each."""
        waiting, self._waiting = self._waiting, []
        for now, outcome in waiting:
            self._count(now, outcome)

    def _count(self, now: int, outcome: Outcome) -> None:
        if now // _MINUTE != self._minute:
            self._open(now)
        self._statuses[outcome.status] += 1
        self._reasons[outcome.reason.value] += 1
        failed = outcome.failed
        gone = outcome.gone
        ttft = None if outcome.ttft is None else self._totals.ttft.place(outcome.ttft)
        duration = self._totals.duration.place(outcome.seconds)
        for counts in self._counts:
            counts.requests += 1
            counts.errors += failed
            counts.gone += gone
            counts.chunks += outcome.chunks
            counts.prompt_tokens += outcome.prompt_tokens
            counts.completion_tokens += outcome.completion_tokens
            if ttft is not None:
                counts.ttft.add(*ttft)
            counts.duration.add(*duration)
        for tables in (self._tables, self._today):
            for table, name in ((tables.models, outcome.model), (tables.keys, outcome.key)):
                if name is not None:
                    usage = _row(table, name, Usage)
                    usage.requests += 1
                    usage.errors += failed
                    usage.prompt_tokens += outcome.prompt_tokens
                    usage.completion_tokens += outcome.completion_tokens
                    usage.last = now

    def record_attempt(self, account: str, reason: Reason) -> None:
        """Count one attempt with the account of this label."""
        self.revision += 1
        use = _row(self.accounts, account, AccountUse)
        use.reasons[reason.value] += 1
        use.last.append((int(self._clock()), reason))

    def record_upload(self, ok: bool) -> None:
        """Count one picture that was uploaded, or could not be."""
        self.revision += 1
        self._totals.uploaded += ok
        self._totals.upload_failures += not ok

    @property
    def totals(self) -> Totals:
        """Everything together."""
        self._count_waiting()
        return self._totals

    @property
    def statuses(self) -> Counter[int]:
        """Numbers of requests by HTTP status."""
        self._count_waiting()
        return self._statuses

    @property
    def reasons(self) -> Counter[str]:
        """Numbers of requests by word of diagnosis; 0 of one that never was."""
        self._count_waiting()
        return self._reasons

    @property
    def models(self) -> Mapping[str, Usage]:
        """What each model was asked, in all."""
        self._count_waiting()
        return self._tables.models

    @property
    def keys(self) -> Mapping[str, Usage]:
        """What each key has asked, in all."""
        self._count_waiting()
        return self._tables.keys

    def series(self, kind: Kind) -> list[Bucket]:
        """The last 120 minutes, 336 hours or 730 days, in order and without a gap; the last one is running."""
        self._count_waiting()
        return self._series[kind].last(int(self._clock()))

    def top_models(self, days: int) -> list[tuple[str, Usage]]:
        """What each model was asked in the last `days` days, TABLE_DAYS at most, 1 is today: most requests first."""
        self._count_waiting()
        return _top(tables.models for tables in self._days.last(int(self._clock()), days))

    def top_keys(self, days: int) -> list[tuple[str, Usage]]:
        """What each key has asked, likewise."""
        self._count_waiting()
        return _top(tables.keys for tables in self._days.last(int(self._clock()), days))

    def to_json(self) -> dict[str, object]:
        """Everything as plain values, not to be changed; what has not changed since the last time costs nothing."""
        self._count_waiting()
        return {
            "since": self.since,
            "totals": self._totals.pack(),
            "uploads": {"ok": self._totals.uploaded, "failed": self._totals.upload_failures},
            "statuses": {str(status): count for status, count in self._statuses.items()},
            "reasons": dict(self._reasons),
            **self._tables.pack(),
            "accounts": {label: use.to_json() for label, use in self.accounts.items()},
            **{kind: periods.to_json() for kind, periods in self._series.items()},
            "day_tables": self._days.to_json(),
        }

    @classmethod
    def from_json(cls, value: Any, clock: Callable[[], float]) -> Self:
        """Read what `to_json` wrote. Raises ValueError, LookupError, TypeError or AttributeError on another form."""
        stats = cls(clock)
        stats.since = float(value["since"])
        uploads = _whole(value["uploads"])
        stats._totals = Totals.unpack(value["totals"], uploaded=uploads["ok"], upload_failures=uploads["failed"])
        stats._statuses.update({int(status): count for status, count in _whole(value["statuses"]).items()})
        stats._reasons.update(_whole(value["reasons"]))
        stats.accounts = {label: AccountUse.from_json(use) for label, use in value["accounts"].items()}
        stats._tables = Tables.unpack(value)
        for kind, periods in stats._series.items():
            periods.load(value[kind], _bucket)
        stats._days.load(value["day_tables"], lambda _, tables: Tables.unpack(tables))
        return stats

    def _open(self, now: int) -> None:
        self._minute = now // _MINUTE
        self._counts = (self._totals, *(periods.open(now) for periods in self._series.values()))
        self._today = self._days.open(now)


def _bucket(start: int, row: str | None = None) -> Bucket:
    return Bucket(at=start) if row is None else Bucket.unpack(row, at=start)


def _row(table: dict[str, T], name: str, new: Callable[[], T]) -> T:
    """The row of `name`; it is made where there is room."""
    row = table.get(name)
    if row is None:
        name = _kept_name(name)
        if name not in table and len(table) >= NAMES:
            name = OTHERS
        row = table.setdefault(name, new())
    return row


def _kept_name(name: str) -> str:
    """A name that is short enough, and that JSON can hold: a lone surrogate or control character becomes `?`."""
    return "".join(char if char.isprintable() else "?" for char in name[:NAME_CHARS])


def _top(tables: Iterable[Mapping[str, Usage]]) -> list[tuple[str, Usage]]:
    merged: dict[str, Usage] = {}
    for table in tables:
        for name, usage in table.items():
            sum_ = merged.setdefault(name, Usage())
            sum_.requests += usage.requests
            sum_.errors += usage.errors
            sum_.prompt_tokens += usage.prompt_tokens
            sum_.completion_tokens += usage.completion_tokens
            sum_.last = max(sum_.last, usage.last)
    return sorted(merged.items(), key=lambda row: (-row[1].requests, row[0]))


def _whole(counts: dict[str, Any]) -> dict[str, int]:
    return {name: int(count) for name, count in counts.items()}
