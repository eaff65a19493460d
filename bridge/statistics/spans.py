"""Spans of time up to now, over which all counters can be added exactly.

A span begins with a period of its tables: "2 hours" are the current ten minutes and the eleven such periods before, so
between 110 and 120 minutes.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

PeriodKind = Literal["minute", "hour", "day"]
TableKind = Literal["ten_minutes", "hour", "day"]

MINUTE, HOUR, DAY = 60, 3600, 86400
#: For how many days the counts by name are kept for each day.
TABLE_DAYS: Final = 14
#: The seconds of each period of the tables, and how many periods are kept.
TABLE_PERIODS: Final[dict[TableKind, tuple[int, int]]] = {
    "ten_minutes": (10 * MINUTE, 12),
    "hour": (HOUR, 24),
    "day": (DAY, TABLE_DAYS),
}


class Span(NamedTuple):
    """A span: the series with its counters, and the tables with its counters by name, of which it has `periods`.

    If `tables` is None, the span is that of all statistics.
    """

    series: PeriodKind
    tables: TableKind | None = None
    periods: int = 0

    def begins(self, now: int) -> int:
        """The unix time at which the span begins."""
        if self.tables is None:
            return 0
        width = TABLE_PERIODS[self.tables][0]
        return now - now % width - (self.periods - 1) * width
