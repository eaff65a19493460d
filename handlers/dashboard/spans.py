"""The spans of time that a page can show, and how each is drawn."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from typing import Final, NamedTuple

from bridge.statistics.spans import TABLE_DAYS, Span


class ShownSpan(NamedTuple):
    """A span as a page shows it: the seconds in a bar, the mark on the axis, and the name of each bar."""

    words: str
    span: Span
    bar_seconds: int
    mark: Callable[[datetime], str]
    name: Callable[[datetime], str]


def _half_hour(at: datetime) -> str:
    return f"{at:%H}:{at.minute // 30 * 30:02}"


def _fourth_hour(at: datetime) -> str:
    return f"{at.hour // 4 * 4:02}:00"


def _day(at: datetime) -> str:
    return f"{at:%a} {at.day}"


def _third_day(at: datetime) -> str:
    day = date.fromordinal(at.toordinal() // 3 * 3)
    return f"{day.day} {day:%b}"


def _half_year(at: datetime) -> str:
    return f"{'Jan' if at.month < 7 else 'Jul'} {at.year}"


def _hours(at: datetime) -> str:
    return f"{at:%a} {at.day} {at:%b} from {at:%H:%M}"


#: The spans, by their names in a URL.
SPANS: Final[dict[str, ShownSpan]] = {
    "2h": ShownSpan("2 hours", Span("minute", "ten_minutes", 12), 120, _half_hour, lambda at: f"{at:%H:%M}"),
    "24h": ShownSpan("24 hours", Span("hour", "hour", 24), 3600, _fourth_hour, _hours),
    "7d": ShownSpan("7 days", Span("hour", "day", 7), 3 * 3600, _day, _hours),
    "2w": ShownSpan("2 weeks", Span("hour", "day", TABLE_DAYS), 6 * 3600, _third_day, _hours),
    "2y": ShownSpan("2 years", Span("day"), 7 * 86_400, _half_year, lambda at: f"week of {at.day} {at:%b %Y}"),
}
DEFAULT: Final = "2h"


def named(asked: str) -> str:
    """The name of the span in a page's URL, by default two hours."""
    return asked if asked in SPANS else DEFAULT
