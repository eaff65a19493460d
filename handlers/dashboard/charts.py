"""The dashboard's charts as inline SVG: pure functions from statistics to markup, which run in a thread.

pygal draws; `handlers.dashboard.drawing` removes what a page must not contain. A chart's label describes it in a
sentence; the page shows the numbers as well.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import accumulate, groupby
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bridge.statistics.counts import TTFT_BOUNDS, Bucket
from bridge.statistics.histogram import Histogram
from handlers.dashboard.drawing import add, configuration, markup_of
from handlers.dashboard.spans import ShownSpan
from handlers.dashboard.wording import duration, number
from upstream.protocol.printable import printable

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

#: Heights in the drawing's units: of a chart over time, and of one row of a ranking.
_HEIGHT: Final = 230
_ROW: Final = 40
_RANKS: Final = 10
#: The longest name in columns of text; a wide character takes two.
_NAME_COLUMNS: Final = 38
#: pygal's padding around the plot, as a share of its size.
_INSET: Final = 0.02
#: The first Monday after the epoch, in unix seconds.
_MONDAY: Final = 4 * 86_400


class _Bar(NamedTuple):
    """The buckets that form one bar, which begins at `at`."""

    at: datetime
    buckets: Sequence[Bucket]


class _Series(NamedTuple):
    """One line, or one layer of bars: its value in each bar (or None), its overall value, its formatter."""

    values: Sequence[float | None]
    overall: float
    say: Callable[[float], str]


def requests_over_time(buckets: Sequence[Bucket], span: ShownSpan, zone: tzinfo | None = None) -> str:
    """Bars of answered requests, and on top of them requests that failed, were refused here, or whose callers left.

    `buckets` must have no gaps; times are shown in `zone`, by default the machine's, days in UTC.
    """
    from pygal import StackedBar  # deferred, here and below, because the import is slow; this runs in a thread

    bars = _bars(buckets, span, zone)
    totals = [sum(bucket.requests for bucket in bar.buckets) for bar in bars]
    if not any(totals):
        return _nothing("Requests", _HEIGHT, f"no requests in the last {span.words}")
    layers = [
        _counted(bars, lambda bucket: bucket.answered, "answered"),
        _counted(bars, lambda bucket: bucket.failed, "failed"),
        _counted(bars, lambda bucket: bucket.refused, "refused", rare=True),
        _counted(bars, lambda bucket: bucket.gone, "left", rare=True),
    ]
    chart = StackedBar(**_axes(bars, span, _ticks(max(totals), least_step=1), _short), rounded_bars=1)
    return _over_time("Requests", chart, bars, span, layers)


def _counted(bars: Sequence[_Bar], count: Callable[[Bucket], int], word: str, *, rare: bool = False) -> _Series:
    """A layer of counts; a `rare` one is not mentioned where it is zero."""
    values = [sum(count(bucket) for bucket in bar.buckets) for bar in bars]
    return _Series(values, sum(values), lambda value: "" if rare and not value else f"{number(value)} {word}")


def ttft_over_time(buckets: Sequence[Bucket], span: ShownSpan, zone: tzinfo | None = None) -> str:
    """Lines of the median and the 95th percentile of the time to first token, with gaps where there are no answers.

    `buckets` and `zone` as for `requests_over_time`.
    """
    from pygal import Line

    bars = _bars(buckets, span, zone)
    overall = _ttft(buckets)
    if not overall.total:
        return _nothing("Time to first token", _HEIGHT, f"no answers in the last {span.words}")
    ttfts = [_ttft(bar.buckets) for bar in bars]
    medians, p95s = ([ttft.quantile(q) for ttft in ttfts] for q in (0.5, 0.95))
    lines = (
        _Series(medians, overall.quantile(0.5) or 0, lambda value: f"median {duration(value)}"),
        _Series(p95s, overall.quantile(0.95) or 0, lambda value: f"p95 {duration(value)}"),
    )
    ticks = _ticks(max(value for value in p95s if value is not None))
    chart = Line(**_axes(bars, span, ticks, lambda value: f"{value:g} s" if value else "0"), allow_interruptions=True)
    return _over_time("Time to first token", chart, bars, span, lines, overhang=0.5)


def ranking(rows: Sequence[tuple[str, int]], title: str) -> str:
    """Horizontal bars for the first ten `rows` (name, number of requests), in the given order, each below its name.

    Unprintable characters of a name are replaced.
    """
    from pygal import HorizontalBar

    ranks = [(printable(name), count) for name, count in rows[:_RANKS] if count]
    if not ranks:
        return _nothing(title, 4 * _ROW, "no requests yet")
    chart = HorizontalBar(
        **configuration(_ROW * len(ranks)),
        margin_left=-10,  # moves pygal's padding outside, so that bars begin at the edge
        margin_right=-10,
        show_x_labels=False,
        show_y_labels=False,
        rounded_bars=3,
    )
    ranks.reverse()  # pygal draws from bottom to top
    counts = [count for _, count in ranks]
    for values in ([], [], counts, []):  # quarters of a row: two for the name, one for the bar, one empty
        chart.add("", values)

    def annotate(plot: Element, width: float, _height: float) -> None:
        for bar, (name, count) in zip(list(plot.iter("rect")), ranks, strict=True):
            left, baseline = float(bar.attrib["x"]), float(bar.attrib["y"]) - 6
            row = add(plot, "g", class_="row")
            add(row, "title", f"{name}: {number(count)}")
            add(row, "text", shortened(name), x=left, y=baseline)
            add(row, "text", number(count), x=width - left, y=baseline, class_="count")

    (first, most), total = ranks[-1], sum(count for _, count in ranks)
    return markup_of(
        chart, f"{title}: {shortened(first)} first, with {number(most)} of {number(total)} requests.", annotate
    )


def _bars(buckets: Sequence[Bucket], span: ShownSpan, zone: tzinfo | None) -> list[_Bar]:
    """Group buckets into bars. Bars begin at round times in `zone`, so that past bars do not change."""
    if not buckets:
        return []
    seconds = span.bar_seconds
    zone = UTC if span.span.series == "day" else zone
    offset = datetime.fromtimestamp(buckets[-1].at, UTC).astimezone(zone).utcoffset() or timedelta()
    first = _MONDAY - int(offset.total_seconds())
    return [
        _Bar(datetime.fromtimestamp(first + number * seconds, UTC).astimezone(zone), tuple(members))
        for number, members in groupby(buckets, lambda bucket: (bucket.at - first) // seconds)
    ]


def _ttft(buckets: Iterable[Bucket]) -> Histogram:
    """The sum of the buckets' histograms of the time to first token."""
    columns = zip(*(bucket.ttft.counts for bucket in buckets), strict=True)
    return Histogram(TTFT_BOUNDS, [sum(column) for column in columns])


def _ticks(top: float, least_step: float = 0.0) -> list[float]:
    """0 and up to four ticks at round steps, the last at or above `top`, which must be positive."""
    unit = 10.0 ** math.floor(math.log10(top / 4))
    step = max(next(unit * factor for factor in (1, 2, 5, 10) if unit * factor * 4 >= top), least_step)
    return [step * count for count in range(math.ceil(top / step) + 1)]


def _short(count: float) -> str:
    """A count as shown on an axis: `500`, `1.5k`, `2M`."""
    unit, suffix = next((each for each in ((1e6, "M"), (1e3, "k")) if count >= each[0]), (1, ""))
    return f"{count / unit:g}{suffix}"


def shortened(name: str) -> str:
    """`name`, cut to _NAME_COLUMNS."""
    widths = accumulate(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in name)
    room = sum(width <= _NAME_COLUMNS for width in widths)
    return name if room == len(name) else f"{name[: room - 1].rstrip()}…"


def _axes(bars: Sequence[_Bar], span: ShownSpan, ticks: list[float], say: Callable[[float], str]) -> dict[str, Any]:
    """The configuration of a chart over time. The axis has a mark wherever its text changes from bar to bar."""
    texts = [span.mark(bar.at) for bar in bars]
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
    span: ShownSpan,
    series: Sequence[_Series],
    *,
    overhang: float = 0.0,
) -> str:
    """Add series to a chart, with a line of overall values instead of a legend, and a tooltip for each bar.

    `overhang`: the share of the first and last bar that is outside the plot, since a line begins in a bar's middle.
    """
    key = [each.say(each.overall) for each in series]
    for each in series:
        chart.add("", _with_lone_points(each.values))

    def annotate(plot: Element, width: float, height: float) -> None:
        inner = width / (1 + 2 * _INSET)
        step = inner / max(len(bars) - 2 * overhang, 1)
        for index, bar in enumerate(bars):
            here = [each.say(value) for each in series if (value := each.values[index]) is not None]
            here = [words for words in here if words]
            left = inner * _INSET + (index - overhang) * step
            slot = add(plot, "rect", class_="slot", x=left, y=0, width=step, height=height)
            add(slot, "title", f"{span.name(bar.at)}: {', '.join(here) or 'nothing'}")

    return markup_of(chart, f"{subject} in the last {span.words}: {', '.join(filter(None, key))}.", annotate, key)


def _with_lone_points(values: Sequence[float | None]) -> list[object]:
    """Mark a value between two gaps, which pygal's line does not show, to be drawn as a point."""
    return [
        {"value": value, "node": {"class": "lone"}} if value is not None and before is None and after is None else value
        for before, value, after in zip([None, *values], values, [*values[1:], None], strict=False)
    ]


def _nothing(subject: str, height: int, words: str) -> str:
    """An empty chart with a text."""
    from pygal import Bar

    chart = Bar(**configuration(height), no_data_text=words.capitalize(), show_x_labels=False, show_y_labels=False)
    return markup_of(chart, f"{subject}: {words}.")
