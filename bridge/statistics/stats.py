"""Statistics of requests by model, key, front API, outcome and duration. They are only counters, of bounded size.

Times are unix seconds, days are in UTC. A name has at most NAME_CHARS characters, a table at most NAMES names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final, Self

from bridge.statistics.account_use import AccountUse
from bridge.statistics.counts import (
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
from bridge.statistics.spans import DAY, HOUR, MINUTE, TABLE_DAYS, TABLE_PERIODS, PeriodKind, Span, TableKind
from bridge.statistics.speeds import Speeds
from upstream.protocol.errors import Reason

#: The most outcomes that are counted in one batch, so that counting does not block the event loop for long.
MAX_PENDING: Final = 1000

#: The names of the tables in the file, by their period.
_TABLES: Final[dict[TableKind, str]] = {"ten_minutes": "ten_minute_tables", "hour": "hour_tables", "day": "day_tables"}

#: The seconds of each period of the series, and how many periods are kept.
_SERIES: Final[dict[PeriodKind, tuple[int, int]]] = {"minute": (MINUTE, 120), "hour": (HOUR, 336), "day": (DAY, 730)}

#: For how many seconds the file keeps the periods of a series or of tables, by their name there.
HORIZONS: Final[dict[str, int]] = {
    **{kind: width * count for kind, (width, count) in _SERIES.items()},
    **{_TABLES[kind]: width * count for kind, (width, count) in TABLE_PERIODS.items()},
    "speeds": DAY * TABLE_DAYS,
}


class Stats:
    """The statistics of a daemon since its first start. Only the `record…` methods change them and increase `revision`.

    Recorded outcomes are counted in batches, which is cheaper: when the statistics are read, or when many are pending.

    `since` is the unix time of the first start; `models`, `keys`, `apis` and `accounts` are by name. `clock` gives unix
    seconds and may jump: an outcome counts in the period of its time and stays there.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.revision = 0
        self.since = clock()
        self._pending: list[Outcome] = []
        self._times: list[int] = []  # of the pending outcomes; tuples would burden the garbage collector
        self._totals = Totals()
        self._statuses: Counter[int] = Counter()
        self._reasons: Counter[str] = Counter()
        self.accounts: dict[str, AccountUse] = {}
        self._series: dict[PeriodKind, Periods[Bucket]] = {
            kind: Periods(width, count, _bucket) for kind, (width, count) in _SERIES.items()
        }
        self._tables = Tables()
        self._tables_by_period: dict[TableKind, Periods[Tables]] = {
            kind: Periods(width, count, lambda _: Tables()) for kind, (width, count) in TABLE_PERIODS.items()
        }
        self._speeds: Periods[Speeds] = Periods(DAY, TABLE_DAYS, lambda _: Speeds())
        # Where the outcomes of a minute are counted.
        self._minute: int | None = None
        self._open_counts: tuple[Counts, ...] = ()
        self._open_tables: tuple[Tables, ...] = ()
        self._open_speeds = Speeds()

    def record(self, outcome: Outcome) -> None:
        """Record one request that has ended."""
        self.revision += 1
        self._pending.append(outcome)
        self._times.append(int(self._clock()))
        if len(self._pending) >= MAX_PENDING:
            self._count_pending()

    def _count_pending(self) -> None:
        """Count the pending outcomes, a minute at a time."""
        pending, self._pending = self._pending, []
        times, self._times = self._times, []
        start = 0
        for minute, of_minute in groupby(times, key=lambda at: at // MINUTE):
            if minute != self._minute:
                self._open(minute * MINUTE)
            end = start + len(list(of_minute))
            self._count(pending[start:end], times[start:end])
            start = end

    def _count(self, outcomes: Sequence[Outcome], times: Sequence[int]) -> None:
        """Count outcomes of the minute that is open."""
        self._statuses.update([each.status for each in outcomes])
        for reason, count in Counter([each.reason for each in outcomes]).items():
            self._reasons[reason.value] += count
        counts, tables = Counts(), Tables()
        counts.count(outcomes)
        tables.count(outcomes, times)
        for open_counts in self._open_counts:
            open_counts.add(counts)
        for open_tables in self._open_tables:
            open_tables.add(tables)
        self._open_speeds.count(outcomes)

    def record_attempt(self, account: str, reason: Reason) -> None:
        """Count one attempt with the account of this label."""
        self.revision += 1
        row_of(self.accounts, account, AccountUse).count(int(self._clock()), reason)

    def record_upload(self, ok: bool) -> None:
        """Count one upload of a picture or document, which has succeeded or not."""
        self.revision += 1
        self._totals.uploaded += ok
        self._totals.upload_failures += not ok

    @property
    def totals(self) -> Totals:
        """The totals of all counters."""
        self._count_pending()
        return self._totals

    @property
    def statuses(self) -> Counter[int]:
        """Numbers of requests by HTTP status."""
        self._count_pending()
        return self._statuses

    @property
    def reasons(self) -> Counter[str]:
        """Numbers of requests by word of diagnosis."""
        self._count_pending()
        return self._reasons

    @property
    def models(self) -> Mapping[str, UsageCounts]:
        """The counters of each model."""
        self._count_pending()
        return self._tables.models

    @property
    def keys(self) -> Mapping[str, UsageCounts]:
        """The counters of each key."""
        self._count_pending()
        return self._tables.keys

    @property
    def apis(self) -> Mapping[str, UsageCounts]:
        """The counters of each front API: chat, responses, messages, completions, images."""
        self._count_pending()
        return self._tables.apis

    def series(self, kind: PeriodKind) -> list[Bucket]:
        """The last 120 minutes, 336 hours or 730 days, in order and without gaps; the last one has not ended."""
        self._count_pending()
        return self._series[kind].last(int(self._clock()))

    def buckets(self, span: Span) -> list[Bucket]:
        """The periods of a span, in order and without gaps; the last one has not ended."""
        begins = span.begins(int(self._clock()))
        return [bucket for bucket in self.series(span.series) if bucket.at >= begins]

    def tables(self, span: Span) -> Tables:
        """The counters by name over a span; read-only."""
        self._count_pending()
        if span.tables is None:
            return self._tables
        tables = Tables()
        for period in self._tables_by_period[span.tables].last(int(self._clock()), span.periods):
            tables.add(period)
        return tables

    def speeds(self) -> Speeds:
        """How fast the models answered in the last TABLE_DAYS days; read-only."""
        self._count_pending()
        speeds = Speeds()
        for day in self._speeds.last(int(self._clock())):
            speeds.add(day)
        return speeds

    def days_of_key(self, name: str) -> list[UsageCounts]:
        """The counters of a key in each of the last TABLE_DAYS days (UTC), in order; the last day has not ended."""
        self._count_pending()
        days = self._tables_by_period["day"].last(int(self._clock()))
        return [day.keys.get(name, UsageCounts()) for day in days]

    def to_json(self) -> dict[str, object]:
        """Everything as plain values, read-only; the values of unchanged periods are cached."""
        self._count_pending()
        return {
            "since": self.since,
            "totals": self._totals.pack(),
            "uploads": {"ok": self._totals.uploaded, "failed": self._totals.upload_failures},
            "statuses": {str(status): count for status, count in self._statuses.items()},
            "reasons": dict(self._reasons),
            **self._tables.pack(),
            "accounts": {label: use.to_json() for label, use in self.accounts.items()},
            **{kind: periods.to_json() for kind, periods in self._series.items()},
            **{_TABLES[kind]: periods.to_json() for kind, periods in self._tables_by_period.items()},
            "speeds": self._speeds.to_json(),
        }

    @classmethod
    def from_json(cls, value: Any, clock: Callable[[], float]) -> Self:
        """Read what `to_json` wrote. Raises ValueError, LookupError, TypeError or AttributeError for another form."""
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
        for period, tables in stats._tables_by_period.items():  # an older version kept those of days only
            tables.load(value.get(_TABLES[period], {}), lambda _, rows: Tables.unpack(rows))
        stats._speeds.load(value.get("speeds", {}), lambda _, rows: Speeds.unpack(rows))  # nor did it measure speeds
        return stats

    def _open(self, now: int) -> None:
        self._minute = now // MINUTE
        self._open_counts = (self._totals, *(periods.open(now) for periods in self._series.values()))
        self._open_tables = (self._tables, *(periods.open(now) for periods in self._tables_by_period.values()))
        self._open_speeds = self._speeds.open(now)


def _bucket(start: int, row: str | None = None) -> Bucket:
    return Bucket(at=start) if row is None else Bucket.unpack(row, at=start)
