"""Statistics: what was asked, by whom, how it ended and how long it took. Counters only, and never beyond a bound.

Times are unix seconds, days are UTC's. A name is at most NAME_CHARS characters, a table at most NAMES names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final, Literal, Self

from bridge.statistics.counts import (
    AccountUse,
    Bucket,
    Counts,
    Outcome,
    Tables,
    Totals,
    UsageCounts,
    row_of,
    whole_numbers,
)
from bridge.statistics.periods import Periods
from upstream.protocol.errors import Reason

#: For so many days it is known who used what.
TABLE_DAYS: Final = 14
#: Outcomes that wait to be counted, at most: counting them must not hold the loop for long.
MAX_WAITING: Final = 1000

_MINUTE, _HOUR, _DAY = 60, 3600, 86400

PeriodKind = Literal["minute", "hour", "day"]


class Stats:
    """The statistics of a daemon since its very first start. Only `record…` changes them; `revision` tells that.

    What is recorded is counted when somebody looks, or when much is waiting: many outcomes at once are cheaper.

    `since` is that start; `models`, `keys` and `accounts` go by name.
    `clock` gives unix seconds and may jump: what is counted goes to the period of its time, and stays there.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.revision = 0
        self.since = clock()
        self._waiting: list[Outcome] = []
        self._times: list[int] = []  # of those: no pairs, which the garbage collector would walk
        self._totals = Totals()
        self._statuses: Counter[int] = Counter()
        self._reasons: Counter[str] = Counter()
        self.accounts: dict[str, AccountUse] = {}
        self._series: dict[PeriodKind, Periods[Bucket]] = {
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
        self._waiting.append(outcome)
        self._times.append(int(self._clock()))
        if len(self._waiting) >= MAX_WAITING:
            self._count_waiting()

    def _count_waiting(self) -> None:
        """Count what was recorded: all of one minute together, and then into everything that it belongs to."""
        waiting, self._waiting = self._waiting, []
        times, self._times = self._times, []
        start = 0
        for minute, its in groupby(times, key=lambda at: at // _MINUTE):
            if minute != self._minute:
                self._open(minute * _MINUTE)
            end = start + len(list(its))
            self._count(waiting[start:end], times[start:end])
            start = end

    def _count(self, outcomes: Sequence[Outcome], times: Sequence[int]) -> None:
        """Count what was recorded in the minute that is open."""
        self._statuses.update([each.status for each in outcomes])
        self._reasons.update([each.reason.value for each in outcomes])
        counts, tables = Counts(), Tables()
        counts.count(outcomes)
        tables.count(outcomes, times)
        for sums in self._counts:
            sums.add(counts)
        self._tables.add(tables)
        self._today.add(tables)

    def record_attempt(self, account: str, reason: Reason) -> None:
        """Count one attempt with the account of this label."""
        self.revision += 1
        use = row_of(self.accounts, account, AccountUse)
        use.reasons[reason.value] += 1
        use.last.append((int(self._clock()), reason))

    def record_upload(self, ok: bool) -> None:
        """Count one picture or document that was uploaded, or could not be."""
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
    def models(self) -> Mapping[str, UsageCounts]:
        """What each model was asked, in all."""
        self._count_waiting()
        return self._tables.models

    @property
    def keys(self) -> Mapping[str, UsageCounts]:
        """What each key has asked, in all."""
        self._count_waiting()
        return self._tables.keys

    def series(self, kind: PeriodKind) -> list[Bucket]:
        """The last 120 minutes, 336 hours or 730 days, in order and without a gap; the last one is running."""
        self._count_waiting()
        return self._series[kind].last(int(self._clock()))

    def top_models(self, days: int) -> list[tuple[str, UsageCounts]]:
        """What each model was asked in the last `days` days, TABLE_DAYS at most, 1 is today: most requests first."""
        self._count_waiting()
        return _top(tables.models for tables in self._days.last(int(self._clock()), days))

    def top_keys(self, days: int) -> list[tuple[str, UsageCounts]]:
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
        uploads = whole_numbers(value["uploads"])
        stats._totals = Totals.unpack(value["totals"], uploaded=uploads["ok"], upload_failures=uploads["failed"])
        stats._statuses.update({int(status): count for status, count in whole_numbers(value["statuses"]).items()})
        stats._reasons.update(whole_numbers(value["reasons"]))
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


def _top(tables: Iterable[Mapping[str, UsageCounts]]) -> list[tuple[str, UsageCounts]]:
    merged: dict[str, UsageCounts] = {}
    for table in tables:
        for name, usage in table.items():
            merged.setdefault(name, UsageCounts()).add(usage)
    return sorted(merged.items(), key=lambda row: (-row[1].requests, row[0]))
