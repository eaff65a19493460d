"""Charts contain only drawings, whatever the names contain; their bars add up, and texts say what they show."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from xml.etree import ElementTree as ET
from zoneinfo import ZoneInfo

import pytest

from bridge.statistics.counts import Bucket
from bridge.statistics.spans import PeriodKind
from handlers.dashboard.charts import ranking, requests_over_time, ttft_over_time
from handlers.dashboard.spans import SPANS, ShownSpan
from handlers.dashboard.wording import number

SVG = "{http://www.w3.org/2000/svg}"
WIDTHS: dict[PeriodKind, int] = {"minute": 60, "hour": 3600, "day": 86_400}
LENGTHS: dict[PeriodKind, int] = {"minute": 120, "hour": 336, "day": 730}
KINDS = tuple(WIDTHS)
#: The span that shows all buckets of each kind.
DRAWN: dict[PeriodKind, ShownSpan] = {"minute": SPANS["2h"], "hour": SPANS["2w"], "day": SPANS["2y"]}
#: Monday, 23 November 2026, 14:59 UTC.
NOW = int(datetime(2026, 11, 23, 14, 59, tzinfo=UTC).timestamp())
INDIA = timezone(timedelta(hours=5, minutes=30))


def traffic(
    kind: PeriodKind,
    count: Callable[[int], int] = lambda _: 1,
    *,
    now: int = NOW,
    errors: Iterable[int] = (),
    ttft: float = 0.5,
) -> list[Bucket]:
    """Buckets up to `now` with `count(index)` answered requests each, and a failed one at each index in `errors`."""
    width, length = WIDTHS[kind], LENGTHS[kind]
    buckets = []
    for index in range(length):
        failed = int(index in set(errors))
        bucket = Bucket(count(index) + failed, failed, at=now - now % width - (length - 1 - index) * width)
        for _ in range(count(index)):
            bucket.ttft.observe([ttft])
        buckets.append(bucket)
    return buckets


def parsed(markup: str) -> ET.Element:
    return ET.fromstring(markup)  # noqa: S314 — our own drawing


def marks(svg: ET.Element, axis: str) -> list[str]:
    """The labels of the axis with this class; pygal adds `always_show` to that of the vertical axis."""
    return [text.text or "" for text in svg.iterfind(f".//{SVG}g[@class='{axis}']//{SVG}text")]


def slots(svg: ET.Element) -> list[str | None]:
    """The tooltip of each bar."""
    return [title.text for title in svg.iterfind(f".//{SVG}rect[@class='slot']/{SVG}title")]


def rects(svg: ET.Element, series: int) -> list[ET.Element]:
    return [
        rect
        for group in svg.iterfind(f".//{SVG}g[@class='series serie-{series} color-{series}']")
        for rect in group.iter(f"{SVG}rect")
    ]


HOSTILE = (
    ("script", "<script>alert(1)</script>", "<script>alert(1)</script>"),
    ("the end of a title", "</title><img src=x onerror=alert(1)>", "</title><img src=x onerror=alert(1)>"),
    ("quotes", "\" ' onload='alert(1)", "\" ' onload='alert(1)"),
    ("the ends of a comment and of CDATA", "--> ]]>", "--> ]]>"),
    ("entities", "&amp;&#0;", "&amp;&#0;"),
    ("control characters", "a\x00\x1b[2J\n\x7f", "a\ufffd\ufffd[2J\ufffd\ufffd"),
    ("what XML cannot hold", "a\ud800\ufffe", "a\ufffd\ufffd"),
    ("a change of direction", "gpj\u202eexe", "gpj\ufffdexe"),
    ("200 characters", "n" * 200, "n" * 37 + "…"),
    ("200 wide characters", "宽" * 200, "宽" * 18 + "…"),
    ("just as long as there is room", "n" * 38, "n" * 38),
    ("nothing", "", None),
)

DRAWINGS = (
    *(partial(requests_over_time, traffic(kind, errors=(3, 90)), DRAWN[kind]) for kind in KINDS),
    *(partial(ttft_over_time, traffic(kind, lambda index: index % 7), DRAWN[kind]) for kind in KINDS),
    partial(ranking, [(name, 12) for _, name, _ in HOSTILE], "Top keys"),
    partial(requests_over_time, [], DRAWN["hour"]),
    partial(ttft_over_time, [], DRAWN["day"]),
    partial(ranking, [], "Top models"),
)


def what(draw: partial[str]) -> str:
    last = draw.args[-1]
    return f"{draw.func.__name__} {last.words if isinstance(last, ShownSpan) else last} {len(draw.args[0])}"


@pytest.mark.parametrize("draw", DRAWINGS, ids=what)
def test_a_chart_contains_only_drawing_elements(draw: Callable[[], str]) -> None:
    markup = draw()
    svg = parsed(markup)
    tags = {element.tag.removeprefix(SVG) for element in svg.iter()}
    attributes = {name for element in svg.iter() for name in element.attrib}
    assert tags <= {"svg", "g", "path", "rect", "circle", "text", "tspan", "title"}
    assert attributes <= {
        *("class", "d", "x", "y", "dx", "width", "height", "rx", "cx", "cy", "r", "transform", "viewBox"),
        *("role", "aria-label"),
    }, "no style, no handler, no address, no id, no colour of its own"
    assert "<!--" not in markup
    assert "<?" not in markup
    assert not {"width", "height"} & set(svg.attrib), "the page decides how large it is"
    assert svg.get("class") == "chart"
    assert svg.get("role") == "img"


@pytest.mark.parametrize(("name", "shown"), [row[1:] for row in HOSTILE], ids=[row[0] for row in HOSTILE])
def test_any_name_becomes_valid_text(name: str, shown: str | None) -> None:
    (row,) = parsed(ranking([(name, 1234)], "Top keys")).iterfind(f".//{SVG}g[@class='row']")
    whole, label, count = row
    assert (label.text, count.text) == (shown, "1\u202f234")
    assert whole.text is not None
    assert len(whole.text) == len(f"{name}: 1_234"), "the whole name is in the title"


def test_a_ranking_shows_the_first_ten_in_their_order() -> None:
    rows = [(f"model-{index}", 100 - index) for index in range(12)]
    svg = parsed(ranking(rows, "Top models"))
    shown = [(row[1].text, float(row[1].attrib["y"])) for row in svg.iterfind(f".//{SVG}g[@class='row']")]
    assert [name for name, _ in sorted(shown, key=lambda each: each[1])] == [name for name, _ in rows[:10]]
    assert svg.get("aria-label") == "Top models: model-0 first, with 100 of 955 requests."


def test_even_the_smallest_count_is_visible() -> None:
    svg = parsed(requests_over_time(traffic("hour", lambda _: 10_000, errors=[100]), DRAWN["hour"], UTC))
    (error,) = rects(svg, 1)
    assert float(error.attrib["height"]) == 2
    least = min(float(bar.attrib["width"]) for bar in rects(parsed(ranking([("a", 10**6), ("b", 1)], "Top")), 2))
    assert least == 2


@dataclass(frozen=True)
class Row:
    """A kind of buckets, the time zone in which it is shown, and the expected bars, marks and last tooltip."""

    name: str
    kind: PeriodKind
    zone: timezone | ZoneInfo
    bars: int
    marks: list[str]
    last: str


ROWS = (
    Row("2 hours", "minute", UTC, 60, ["13:30", "14:00", "14:30"], "14:58: 2 answered, 0 failed"),
    Row("2 hours in India", "minute", INDIA, 60, ["19:00", "19:30", "20:00"], "20:28: 2 answered, 0 failed"),
    Row(
        "2 weeks",
        "hour",
        UTC,
        57,
        ["12 Nov", "15 Nov", "18 Nov", "21 Nov"],
        "Mon 23 Nov from 12:00: 3 answered, 0 failed",
    ),
    Row(
        "2 years, in UTC like their days",
        "day",
        INDIA,
        106,
        ["Jan 2025", "Jul 2025", "Jan 2026", "Jul 2026"],
        "week of 23 Nov 2026: 1 answered, 0 failed",
    ),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_bars_begin_at_round_times_and_the_axis_has_few_marks(row: Row) -> None:
    svg = parsed(requests_over_time(traffic(row.kind), DRAWN[row.kind], row.zone))
    said = slots(svg)
    assert len(said) == row.bars
    assert said[-1] == row.last
    assert marks(svg, "axis x") == row.marks


@pytest.mark.parametrize("kind", KINDS)
def test_the_bars_add_up_to_the_totals_in_the_label(kind: PeriodKind) -> None:
    buckets = traffic(kind, lambda index: index % 5, errors=(0, 50, LENGTHS[kind] - 1))
    svg = parsed(requests_over_time(buckets, DRAWN[kind]))
    answered = sum(index % 5 for index in range(LENGTHS[kind]))
    assert f": {number(answered)} answered, 3 failed." in svg.get("aria-label", "")
    counts = [re.findall(r"(\d+) (?:answered|failed)", said or "") for said in slots(svg)]
    assert sum(int(count) for bar in counts for count in bar) == answered + 3
    (key,) = svg.iterfind(f"{SVG}text[@class='key']")
    assert "".join(key.itertext()) == f"●{number(answered)} answered●3 failed"


def test_failed_refused_and_abandoned_requests_are_separate_layers() -> None:
    bucket = Bucket(10, 5, 2, at=NOW - NOW % 60)
    bucket.endings.update({"ok": 3, "client_gone": 2, "timeout": 1, "rejected@here": 4})
    svg = parsed(requests_over_time([bucket], SPANS["2h"], UTC))
    assert svg.get("aria-label") == "Requests in the last 2 hours: 3 answered, 1 failed, 4 refused, 2 left."
    assert [len(rects(svg, series)) for series in range(4)] == [1] * 4
    assert slots(svg) == ["14:58: 3 answered, 1 failed, 4 refused, 2 left"]


@pytest.mark.parametrize("name", SPANS)
def test_every_span_has_few_marks_on_its_time_axis(name: str) -> None:
    shown = SPANS[name]
    width = WIDTHS[shown.span.series]
    begins = max(shown.span.begins(NOW), NOW - LENGTHS[shown.span.series] * width)
    buckets = [bucket for bucket in traffic(shown.span.series) if bucket.at >= begins]
    svg = parsed(requests_over_time(buckets, shown, UTC))
    assert 3 <= len(marks(svg, "axis x")) <= 7, name
    assert 24 <= len(slots(svg)) <= 120, name


def test_no_bar_is_lost_when_the_clock_goes_back_an_hour() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    end_of_summer = int(datetime(2026, 10, 25, 2, 29, tzinfo=UTC).timestamp())
    said = slots(parsed(requests_over_time(traffic("minute", now=end_of_summer), DRAWN["minute"], berlin)))
    assert len(said) == 60
    assert said.count("02:58: 2 answered, 0 failed") == 2


AXES = (
    ("one", 1, ["0", "1"]),
    ("a few", 3, ["0", "1", "2", "3"]),
    ("between", 11, ["0", "5", "10", "15"]),
    ("hundreds", 1000, ["0", "500", "1k"]),
    ("thousands", 1600, ["0", "500", "1k", "1.5k", "2k"]),
    ("millions", 4_000_001, ["0", "2M", "4M", "6M"]),
)


@pytest.mark.parametrize(("top", "labels"), [row[1:] for row in AXES], ids=[row[0] for row in AXES])
def test_the_count_axis_has_whole_round_numbers_from_zero(top: int, labels: list[str]) -> None:
    bucket = Bucket(top, at=NOW - NOW % 60)
    assert marks(parsed(requests_over_time([bucket], DRAWN["minute"])), "axis y always_show") == labels


@pytest.mark.parametrize("seconds", [0.001, 0.02, 0.3, 0.7, 1, 3.3, 9, 40, 120, 5000])
def test_the_axis_fits_every_time_to_first_token(seconds: float) -> None:
    labels = marks(parsed(ttft_over_time(traffic("minute", ttft=seconds), DRAWN["minute"])), "axis y always_show")
    assert labels[0] == "0"
    assert 3 <= len(labels) <= 5
    assert all(re.fullmatch(r"[\d.]{1,4} s", label) for label in labels[1:])


def test_the_lines_have_gaps_where_nothing_was_answered() -> None:
    times = {*range(20, 40), *range(60, 80), 100}
    svg = parsed(ttft_over_time(traffic("minute", lambda index: int(index in times)), DRAWN["minute"], UTC))
    assert len(svg.findall(f".//{SVG}path[@class='line reactive nofill']")) == 4, "two lines in two pieces each"
    assert len(svg.findall(f".//{SVG}circle[@class='lone']")) == 2, "and a point of each that no line reaches"
    assert svg.get("aria-label") == "Time to first token in the last 2 hours: median 375 ms, p95 487 ms."
    assert slots(svg)[:11:10] == ["13:00: nothing", "13:20: median 375 ms, p95 488 ms"]


EMPTY = (
    (partial(requests_over_time, [], DRAWN["minute"]), "Requests: no requests in the last 2 hours."),
    (
        partial(requests_over_time, traffic("hour", lambda _: 0), DRAWN["hour"]),
        "Requests: no requests in the last 2 weeks.",
    ),
    (partial(ttft_over_time, [], DRAWN["day"]), "Time to first token: no answers in the last 2 years."),
    (partial(ranking, [], "Top models"), "Top models: no requests yet."),
    (partial(ranking, [("gpt-5", 0)], "Top models"), "Top models: no requests yet."),
)


@pytest.mark.parametrize(("draw", "label"), EMPTY)
def test_an_empty_chart_says_that_there_is_nothing(draw: Callable[[], str], label: str) -> None:
    svg = parsed(draw())
    assert svg.get("aria-label") == label
    (text,) = svg.iter(f"{SVG}text")
    assert label.endswith(f": {(text.text or '').lower()}.")


def test_charts_drawn_concurrently_equal_those_drawn_alone() -> None:
    buckets = traffic("hour", lambda index: index % 9, errors=(7, 8))

    def draw(index: int) -> str:
        return (requests_over_time if index % 2 else ttft_over_time)(buckets, DRAWN["hour"])

    alone = [draw(0), draw(1)] * 8
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(draw, range(16))) == alone
