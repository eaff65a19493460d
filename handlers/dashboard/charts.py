"""The dashboard's charts, as SVG that stands inside a page: plain values in, markup out. They are drawn in a thread.

pygal draws. What it adds for pages of its own (script, style, ids, texts for its tooltips) goes no further: `_cleaned`
keeps what is known to be drawing and nothing else. Colours and type are the stylesheet's, under `svg.chart`. The label of
a chart says what it shows; the numbers themselves stand beside it.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from itertools import accumulate, chain, groupby
from typing import Any, Final
from xml.etree.ElementTree import Element

from bridge.histogram import Histogram
from bridge.stats import TTFT_BOUNDS, Bucket, Kind
from handlers.terminal import printable

#: The drawing's own units, so few that type which is legible on a phone has room.
_WIDTH: Final = 480
_HEIGHT: Final = 230
_ROW: Final = 36
_RANKS: Final = 10
#: How long a name may be in columns of type; a wide character takes two.
_NAME_COLUMNS: Final = 38
#: Whatever there is must be seen: one error among ten thousand answers.
_LEAST: Final = 2.0
#: The room that pygal leaves around what it plots, as a share of it.
_INSET: Final = 0.02
#: The first Monday after the epoch, in seconds: where weeks begin.
_MONDAY: Final = 4 * 86_400

_ELEMENTS: Final = frozenset({"svg", "g", "path", "rect", "circle", "text"})
_ATTRIBUTES: Final = frozenset(
    {"xmlns", "viewBox", "class", "transform", "d", "x", "y", "width", "height", "rx", "cx", "cy", "r"}
)
_UNWANTED: Final = frozenset({"background", "tooltip", "dot"})
_DECIMALS: Final = re.compile(r"-?\d+\.\d+")

_Annotate = Callable[[Element, float, float], None]


@dataclass(frozen=True, slots=True)
class _Span:
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


_SPANS: Final[Mapping[Kind, _Span]] = {
    "minute": _Span("2 hours", 120, _half_hour, lambda at: f"{at:%H:%M}"),
    "hour": _Span("2 weeks", 6 * 3600, _third_day, lambda at: f"{at:%a} {at.day} {at:%b} from {at:%H:%M}"),
    "day": _Span("2 years", 7 * 86_400, _half_year, lambda at: f"week of {at.day} {at:%b %Y}"),
}


@dataclass(frozen=True, slots=True)
class _Series:
    """One line, or one layer of bars: its value in each bar (None: there is none) and over all; how a value is said."""

    values: Sequence[float | None]
    overall: float
    say: Callable[[float], str]


def requests_over_time(buckets: Sequence[Bucket], kind: Kind, zone: tzinfo | None = None) -> str:
    """Bars of requests answered, errors on top of them. A caller who left before the end counts as answered.

    `buckets` follow each other without a gap; times are shown in `zone`, by default the machine's own, days in UTC.
    """
    from pygal import StackedBar  # imported late, here and below: it takes its time, and this is a thread

    bars = _bars(buckets, kind, zone)
    errors = [sum(bucket.errors for bucket in bar) for bar in bars.values()]
    answered = [sum(bucket.requests - bucket.errors for bucket in bar) for bar in bars.values()]
    layers = (
        _Series(answered, sum(answered), lambda count: f"{count:,} answered"),
        _Series(errors, sum(errors), lambda count: f"{count:,} error{'' if count == 1 else 's'}"),
    )
    if not any(answered + errors):
        return _nothing("Requests", _HEIGHT, f"no requests in the last {_SPANS[kind].words}")
    ticks = _ticks(max(map(sum, zip(answered, errors, strict=True))), least_step=1)
    chart = StackedBar(**_axes(bars, kind, ticks, _short), rounded_bars=1)
    return _over_time("Requests", chart, bars, kind, layers)


def ttft_over_time(buckets: Sequence[Bucket], kind: Kind, zone: tzinfo | None = None) -> str:
    """Lines of the time to first token, its median and its 95th percentile, with gaps where nothing was answered.

    `buckets` and `zone` as for `requests_over_time`.
    """
    from pygal import Line

    bars = _bars(buckets, kind, zone)
    overall = _ttft(chain.from_iterable(bars.values()))
    if not overall.total:
        return _nothing("Time to first token", _HEIGHT, f"no answers in the last {_SPANS[kind].words}")
    ttfts = [_ttft(bar) for bar in bars.values()]
    medians, p95s = ([ttft.quantile(q) for ttft in ttfts] for q in (0.5, 0.95))
    lines = (
        _Series(medians, overall.quantile(0.5) or 0, lambda value: f"median {_seconds(value)}"),
        _Series(p95s, overall.quantile(0.95) or 0, lambda value: f"p95 {_seconds(value)}"),
    )
    ticks = _ticks(max(value for value in p95s if value is not None))
    chart = Line(**_axes(bars, kind, ticks, lambda value: f"{value:g} s" if value else "0"), allow_interruptions=True)
    return _over_time("Time to first token", chart, bars, kind, lines, overhang=0.5)


def ranking(rows: Sequence[tuple[str, int]], title: str) -> str:
    """Horizontal bars for the first ten `rows` (a name, a count of requests), in the order given, each below its name."""
    from pygal import HorizontalBar

    ranks = [(printable(name), count) for name, count in rows[:_RANKS] if count]
    if not ranks:
        return _nothing(title, 4 * _ROW, "no requests yet")
    chart = HorizontalBar(**_shared(_ROW * len(ranks)), show_x_labels=False, show_y_labels=False, rounded_bars=3)
    for _ in range(2):
        chart.add("", [None])  # takes a third of each row's height: the name stands there
    ranks.reverse()  # pygal begins below
    chart.add("", [count for _, count in ranks])

    def annotate(plot: Element, width: float, _height: float) -> None:
        for bar, (name, count) in zip(list(plot.iter("rect")), ranks, strict=True):
            y = float(bar.attrib["y"]) - 6
            row = _add(plot, "g", class_="row")
            _add(row, "title", f"{name}: {count:,}")
            _add(row, "text", _shortened(name), x=bar.attrib["x"], y=y)
            _add(row, "text", f"{count:,}", x=width * (1 - _INSET), y=y, class_="count")

    (first, most), total = ranks[-1], sum(count for _, count in ranks)
    return _drawn(chart, f"{title}: {_shortened(first)} first, with {most:,} of {total:,} requests.", annotate)


def _bars(buckets: Sequence[Bucket], kind: Kind, zone: tzinfo | None) -> dict[datetime, list[Bucket]]:
    """The buckets of each bar by its beginning. Bars begin at round local times, so that they stay as time goes on."""
    if not buckets:
        return {}
    seconds = _SPANS[kind].bar_seconds
    zone = UTC if kind == "day" else zone
    offset = datetime.fromtimestamp(buckets[-1].at, UTC).astimezone(zone).utcoffset() or timedelta()
    shift = _MONDAY - int(offset.total_seconds())
    numbered = groupby(buckets, lambda bucket: (bucket.at - shift) // seconds)
    bars = ((number * seconds + shift, list(members)) for number, members in numbered)
    return {datetime.fromtimestamp(at, UTC).astimezone(zone): members for at, members in bars}


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


def _shared(height: int) -> dict[str, Any]:
    """The configuration of every chart."""
    from pygal.style import Style

    return {
        "width": _WIDTH,
        "height": height,
        "margin": 0,
        "spacing": 8,
        "style": Style(label_font_size=16),  # the room that labels get; their type is the stylesheet's
        "classes": ("chart",),
        "css": (),
        "js": (),
        "show_legend": False,
        "disable_xml_declaration": True,
    }


def _axes(bars: Iterable[datetime], kind: Kind, ticks: list[float], say: Callable[[float], str]) -> dict[str, Any]:
    """The configuration of a chart over time. A mark stands where its text changes from one bar to the next."""
    texts = [_SPANS[kind].mark(at) for at in bars]
    marks = ["" if text == before else text for before, text in zip(texts[:1] + texts, texts, strict=False)]
    return {
        **_shared(_HEIGHT),
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
    bars: Collection[datetime],
    kind: Kind,
    series: Sequence[_Series],
    *,
    overhang: float = 0.0,
) -> str:
    """Add the series to a chart; in place of a legend say what they are over all, and in each bar under the mouse.

    `overhang`: how much of the first and the last bar stands out of the plot, since lines begin and end in their middle.
    """
    span = _SPANS[kind]
    key = [each.say(each.overall) for each in series]
    for each in series:
        chart.add("", _with_lone_points(each.values))

    def annotate(plot: Element, width: float, height: float) -> None:
        start, inner = width * _INSET / (1 + 2 * _INSET), width / (1 + 2 * _INSET)
        step = inner / max(len(bars) - 2 * overhang, 1)
        for index, at in enumerate(bars):
            here = [each.say(value) for each in series if (value := each.values[index]) is not None]
            slot = _add(
                plot, "rect", x=start + (index - overhang) * step, y=0, width=step, height=height, class_="slot"
            )
            _add(slot, "title", f"{span.name(at)}: {', '.join(here) or 'nothing'}")

    return _drawn(chart, f"{subject} in the last {span.words}: {', '.join(key)}.", annotate, key)


def _with_lone_points(values: Sequence[float | None]) -> list[object]:
    """For pygal: a value between two gaps, where no line reaches, is marked to be drawn as a point."""
    return [
        {"value": value, "node": {"class": "lone"}} if value is not None and before is None and after is None else value
        for before, value, after in zip([None, *values], values, [*values[1:], None], strict=False)
    ]


def _nothing(subject: str, height: int, words: str) -> str:
    """What stands where there is nothing to draw yet."""
    from pygal import Bar

    chart = Bar(**_shared(height), no_data_text=words.capitalize(), show_x_labels=False, show_y_labels=False)
    return _drawn(chart, f"{subject}: {words}.")


def _drawn(chart: Any, label: str, annotate: _Annotate | None = None, key: Iterable[str] = ()) -> str:
    """The chart as markup. `annotate` may add to its plot, of which it is told the width and the height."""

    def finish(svg: Element) -> Element:
        (plot,) = svg.findall(".//g[@class='plot']")
        (frame,) = plot.findall("rect[@class='background']")
        _make_seen(plot)
        _clean(svg)
        svg.set("role", "img")
        svg.set("aria-label", label)
        if annotate:
            annotate(plot, float(frame.attrib["width"]), float(frame.attrib["height"]))
        line = _add(svg, "text", y=14, class_="key")
        for index, words in enumerate(key):
            _add(line, "tspan", "●", dx=14 if index else 0, class_=f"serie-{index}")
            _add(line, "tspan", words, dx=4)
        return svg

    markup: str = chart.add_xml_filter(finish).render()
    return markup


def _make_seen(plot: Element) -> None:
    """No bar where there is nothing, and one of `_LEAST` at least where there is something."""
    for bar in plot.iterfind(".//g[@class='bar']"):
        (rect,) = bar.findall("rect")
        width, height = float(rect.attrib["width"]), float(rect.attrib["height"])
        if not width or not height:
            bar.remove(rect)
        rect.set("width", str(max(width, _LEAST)))
        rect.set("height", str(max(height, _LEAST)))
        rect.set("y", str(float(rect.attrib["y"]) - max(_LEAST - height, 0)))


def _clean(node: Element) -> None:
    """Keep the elements and the attributes that draw, and round their numbers."""
    for name, value in list(node.attrib.items()):
        if name not in _ATTRIBUTES:
            del node.attrib[name]
        elif name != "class":
            node.set(name, _DECIMALS.sub(lambda number: f"{float(number[0]):.1f}", value))
    for child in list(node):
        _clean(child)
        unwanted = child.tag not in _ELEMENTS or not _UNWANTED.isdisjoint(child.get("class", "").split())
        if unwanted or (child.tag == "g" and not len(child)):
            node.remove(child)


def _add(parent: Element, tag: str, text: str | None = None, **attributes: float | str) -> Element:
    """A new last child. A trailing underscore makes `class` a name for Python."""
    named = {name.rstrip("_"): value for name, value in attributes.items()}
    child = parent.makeelement(tag, {name: v if isinstance(v, str) else f"{v:.1f}" for name, v in named.items()})
    child.text = text
    parent.append(child)
    return child
