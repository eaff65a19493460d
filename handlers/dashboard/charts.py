"""The dashboard's charts, as SVG that stands inside a page: plain values in, markup out. They are drawn in a thread.

pygal draws, and `handlers.dashboard.drawing` keeps of it what a page may show. A chart's label says in a sentence what
it shows; the numbers themselves stand beside it.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from itertools import accumulate, groupby
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bridge.statistics.counts import TTFT_BOUNDS, Bucket
from bridge.statistics.histogram import Histogram
from bridge.statistics.stats import PeriodKind
from handlers.dashboard.drawing import add, configuration, drawn
from upstream.protocol.printable import printable

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

#: In the drawing's own units: a chart over time, and one row of a ranking.
_HEIGHT: Final = 230
_ROW: Final = 40
_RANKS: Final = 10
#: How long a name may be in columns of type; a wide character takes two.
_NAME_COLUMNS: Final = 38
#: The room that pygal leaves around what it plots, as a share of it.
_INSET: Final = 0.02
#: The first Monday after the epoch, in seconds: where weeks begin.
_MONDAY: Final = 4 * 86_400


class _Span(NamedTuple):
    """How one kind of buckets is drawn: in bars of so many seconds, with what mark below them and what name of each."""

    words: str
    bar_seconds: int
    mark: Callable[[datetime], str]
    name: Callable[[datetime], str]


def _half_hour(at: datetime) -> str:
    return f"{at:%H}:{at.minute // 30 * 30:02}"


def _third_day(at: datetime) -> str:
    day = date.fromordinal(at.toordinal() // 3 * 3)
    return f"{day.day} {day:%b}"


def _half_year(at: datetime) -> str:
    return f"{'Jan' if at.month < 7 else 'Jul'} {at.year}"


_SPANS: Final[Mapping[PeriodKind, _Span]] = {
    "minute": _Span("2 hours", 120, _half_hour, lambda at: f"{at:%H:%M}"),
    "hour": _Span("2 weeks", 6 * 3600, _third_day, lambda at: f"{at:%a} {at.day} {at:%b} from {at:%H:%M}"),
    "day": _Span("2 years", 7 * 86_400, _half_year, lambda at: f"week of {at.day} {at:%b %Y}"),
}


class _Bar(NamedTuple):
    """What is drawn as one: the buckets of a while that begins at `at`."""

    at: datetime
    buckets: Sequence[Bucket]


class _Series(NamedTuple):
    """One line, or one layer of bars: its value in each bar (None: there is none) and over all; how a value is said."""

    values: Sequence[float | None]
    overall: float
    say: Callable[[float], str]


def requests_over_time(buckets: Sequence[Bucket], kind: PeriodKind, zone: tzinfo | None = None) -> str:
    """Bars of requests answered, errors on top of them. A caller who left before the end counts as answered.

    `buckets` follow each other without a gap; times are shown in `zone`, by default the machine's own, days in UTC.
    """
    from pygal import StackedBar  # imported late, here and below: it takes its time, and this is a thread

    bars = _bars(buckets, kind, zone)
    errors = [sum(bucket.errors for bucket in bar.buckets) for bar in bars]
    answered = [sum(bucket.requests - bucket.errors for bucket in bar.buckets) for bar in bars]
    if not any(answered + errors):
        return _nothing("Requests", _HEIGHT, f"no requests in the last {_SPANS[kind].words}")
    layers = (
        _Series(answered, sum(answered), lambda count: f"{count:,} answered"),
        _Series(errors, sum(errors), lambda count: f"{count:,} error{'' if count == 1 else 's'}"),
    )
    ticks = _ticks(max(map(sum, zip(answered, errors, strict=True))), least_step=1)
    chart = StackedBar(**_axes(bars, kind, ticks, _short), rounded_bars=1)
    return _over_time("Requests", chart, bars, kind, layers)


def ttft_over_time(buckets: Sequence[Bucket], kind: PeriodKind, zone: tzinfo | None = None) -> str:
    """Lines of the time to first token, its median and its 95th percentile, with gaps where nothing was answered.

    `buckets` and `zone` as for `requests_over_time`.
    """
    from pygal import Line

    bars = _bars(buckets, kind, zone)
    overall = _ttft(buckets)
    if not overall.total:
        return _nothing("Time to first token", _HEIGHT, f"no answers in the last {_SPANS[kind].words}")
    ttfts = [_ttft(bar.buckets) for bar in bars]
    medians, p95s = ([ttft.quantile(q) for ttft in ttfts] for q in (0.5, 0.95))
    lines = (
        _Series(medians, overall.quantile(0.5) or 0, lambda value: f"median {_seconds(value)}"),
        _Series(p95s, overall.quantile(0.95) or 0, lambda value: f"p95 {_seconds(value)}"),
    )
    ticks = _ticks(max(value for value in p95s if value is not None))
    chart = Line(**_axes(bars, kind, ticks, lambda value: f"{value:g} s" if value else "0"), allow_interruptions=True)
    return _over_time("Time to first token", chart, bars, kind, lines, overhang=0.5)


def ranking(rows: Sequence[tuple[str, int]], title: str) -> str:
    """Horizontal bars for the first ten `rows` (name, count of requests), in the order given, each below its name.

    A name may hold anything; what cannot be printed is replaced.
    """
    from pygal import HorizontalBar

    ranks = [(printable(name), count) for name, count in rows[:_RANKS] if count]
    if not ranks:
        return _nothing(title, 4 * _ROW, "no requests yet")
    chart = HorizontalBar(
        **configuration(_ROW * len(ranks)),
        margin_left=-10,  # bars begin at the very edge: pygal's inset falls outside
        margin_right=-10,
        show_x_labels=False,
        show_y_labels=False,
        rounded_bars=3,
    )
    ranks.reverse()  # pygal begins below
    counts = [count for _, count in ranks]
    for values in ([], [], counts, []):  # in quarters of a row: two for the name, one for the bar, one of room
        chart.add("", values)

    def annotate(plot: Element, width: float, _height: float) -> None:
        for bar, (name, count) in zip(list(plot.iter("rect")), ranks, strict=True):
            left, baseline = float(bar.attrib["x"]), float(bar.attrib["y"]) - 6
            row = add(plot, "g", class_="row")
            add(row, "title", f"{name}: {count:,}")
            add(row, "text", _shortened(name), x=left, y=baseline)
            add(row, "text", f"{count:,}", x=width - left, y=baseline, class_="count")

    (first, most), total = ranks[-1], sum(count for _, count in ranks)
    return drawn(chart, f"{title}: {_shortened(first)} first, with {most:,} of {total:,} requests.", annotate)


def _bars(buckets: Sequence[Bucket], kind: PeriodKind, zone: tzinfo | None) -> list[_Bar]:
    """What to draw as one. Bars begin at round times in `zone`, and so keep their values as time goes on."""
    if not buckets:
        return []
    seconds = _SPANS[kind].bar_seconds
    zone = UTC if kind == "day" else zone
    offset = datetime.fromtimestamp(buckets[-1].at, UTC).astimezone(zone).utcoffset() or timedelta()
    first = _MONDAY - int(offset.total_seconds())
    return [
        _Bar(datetime.fromtimestamp(first + number * seconds, UTC).astimezone(zone), tuple(members))
        for number, members in groupby(buckets, lambda bucket: (bucket.at - first) // seconds)
    ]


def _ttft(buckets: Iterable[Bucket]) -> Histogram:
    """All their times to first token."""
    columns = zip(*(bucket.ttft.counts for bucket in buckets), strict=True)
    return Histogram(TTFT_BOUNDS, [sum(column) for column in columns])


def _ticks(top: float, least_step: float = 0.0) -> list[float]:
    """0 and up to four round steps above it, the last at `top` (above 0) or beyond."""
    unit = 10.0 ** math.floor(math.log10(top / 4))
    step = max(next(unit * factor for factor in (1, 2, 5, 10) if unit * factor * 4 >= top), least_step)
    return [step * count for count in range(math.ceil(top / step) + 1)]


def _short(count: float) -> str:
    """A round count, as on an axis: `500`, `1.5k`, `2M`."""
    unit, suffix = next((each for each in ((1e6, "M"), (1e3, "k")) if count >= each[0]), (1, ""))
    return f"{count / unit:g}{suffix}"


def _seconds(value: float) -> str:
    return f"{value:.{2 if value < 1 else 1 if value < 10 else 0}f} s"


def _shortened(name: str) -> str:
    """`name`, cut where its columns end."""
    widths = accumulate(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in name)
    room = sum(width <= _NAME_COLUMNS for width in widths)
    return name if room == len(name) else f"{name[: room - 1].rstrip()}…"


def _axes(bars: Sequence[_Bar], kind: PeriodKind, ticks: list[float], say: Callable[[float], str]) -> dict[str, Any]:
    """The configuration of a chart over time. A mark stands where its text changes from one bar to the next."""
    texts = [_SPANS[kind].mark(bar.at) for bar in bars]
    marks = ["" if text == before else text for before, text in zip(texts[:1] + texts, texts, strict=False)]
    return {
        **configuration(_HEIGHT),
        "margin_top": 32,
        "margin_bottom": 4,
        "x_labels": marks,
        "x_labels_major": [mark for mark in marks if mark],
        "show_minor_x_labels": False,
        "truncate_label": -1,
        "y_labels": ticks,
        "value_formatter": say,
    }


def _over_time(
    subject: str,
    chart: Any,
    bars: Sequence[_Bar],
    kind: PeriodKind,
    series: Sequence[_Series],
    *,
    overhang: float = 0.0,
) -> str:
    """Add the series to a chart; in place of a legend say what they are over all, and in each bar under the mouse.

    `overhang`: how much of the first and the last bar stands out of the plot, as a line begins in the middle of one.
    """
    span = _SPANS[kind]
    key = [each.say(each.overall) for each in series]
    for each in series:
        chart.add("", _with_lone_points(each.values))

    def annotate(plot: Element, width: float, height: float) -> None:
        inner = width / (1 + 2 * _INSET)
        step = inner / max(len(bars) - 2 * overhang, 1)
        for index, bar in enumerate(bars):
            here = [each.say(value) for each in series if (value := each.values[index]) is not None]
            left = inner * _INSET + (index - overhang) * step
            slot = add(plot, "rect", class_="slot", x=left, y=0, width=step, height=height)
            add(slot, "title", f"{span.name(bar.at)}: {', '.join(here) or 'nothing'}")

    return drawn(chart, f"{subject} in the last {span.words}: {', '.join(key)}.", annotate, key)


def _with_lone_points(values: Sequence[float | None]) -> list[object]:
    """For pygal: a value between two gaps, where no line reaches, is marked to be drawn as a point."""
    return [
        {"value": value, "node": {"class": "lone"}} if value is not None and before is None and after is None else value
        for before, value, after in zip([None, *values], values, [*values[1:], None], strict=False)
    ]


def _nothing(subject: str, height: int, words: str) -> str:
    """What stands where there is nothing to draw yet."""
    from pygal import Bar

    chart = Bar(**configuration(height), no_data_text=words.capitalize(), show_x_labels=False, show_y_labels=False)
    return drawn(chart, f"{subject}: {words}.")
