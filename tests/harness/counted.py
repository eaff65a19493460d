"""A reference implementation of the statistics, computed from the plain list of events: slow but correct."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from bridge.statistics.account_use import ANSWER_HOURS, LAST_ANSWERS
from bridge.statistics.counts import Counts, Outcome, ToolUse, UsageCounts
from bridge.statistics.spans import TABLE_DAYS, TABLE_PERIODS, PeriodKind, Span
from bridge.statistics.stats import Stats
from upstream.protocol.errors import Reason

DAY = 86400
DAYS = tuple(Span("hour", "day", days) for days in (1, 2, TABLE_DAYS))
#: Spans whose tables are lost if the clock jumps forth and back by more than their length.
SHORT = (Span("minute", "ten_minutes", 12), Span("minute", "ten_minutes", 1), Span("hour", "hour", 24))
SERIES: dict[PeriodKind, tuple[int, int]] = {"minute": (60, 120), "hour": (3600, 336), "day": (DAY, 730)}


@dataclass
class Clock:
    """Unix time that is moved manually; it starts at the beginning of a UTC day."""

    now: float = 20_000.0 * DAY

    def __call__(self) -> float:
        return self.now


@dataclass
class Happened:
    """All events in order, with their unix times."""

    outcomes: list[tuple[int, Outcome]] = field(default_factory=list)
    attempts: list[tuple[int, str, Reason]] = field(default_factory=list)
    uploads: list[bool] = field(default_factory=list)

    def usage(self, name: Callable[[Outcome], str | None], start: float, end: float) -> dict[str, UsageCounts]:
        """The table of models, keys or APIs between two times."""
        table: dict[str, UsageCounts] = {}
        for at, outcome in self.outcomes:
            if start <= at < end and (row := name(outcome)) is not None:
                usage = table.setdefault(row, UsageCounts())
                usage.requests += 1
                usage.errors += outcome.failed
                usage.prompt_tokens += outcome.prompt_tokens
                usage.completion_tokens += outcome.completion_tokens
                usage.last = at
                usage.tools = ToolUse(*map(sum, zip(usage.tools, outcome.tools, strict=True)))
        return table


def assert_adds_up(stats: Stats, happened: Happened, now: float, spans: Iterable[Span] = DAYS) -> None:
    """Compare all statistics, as of `now`."""
    outcomes = [outcome for _, outcome in happened.outcomes]
    _assert_counts(stats.totals, outcomes)
    assert stats.statuses == Counter(outcome.status for outcome in outcomes)
    assert stats.reasons == Counter(outcome.reason for outcome in outcomes)
    assert stats.statuses.total() == stats.reasons.total() == stats.totals.requests
    assert stats.totals.uploaded == happened.uploads.count(True)
    assert stats.totals.upload_failures == happened.uploads.count(False)
    ever = float("-inf"), float("inf")
    assert stats.models == happened.usage(_model, *ever)
    assert stats.keys == happened.usage(_key, *ever)
    assert stats.apis == happened.usage(_api, *ever)
    labels = {label for _, label, _ in happened.attempts}
    assert stats.accounts.keys() == labels
    for label in labels:
        answers = [(at, reason) for at, other, reason in happened.attempts if other == label]
        assert stats.accounts[label].reasons == Counter(reason for _, reason in answers)
        assert list(stats.accounts[label].last) == answers[-LAST_ANSWERS:]
        assert len(stats.accounts[label].hours) <= ANSWER_HOURS
    for kind, (width, length) in SERIES.items():
        by_start: dict[int, list[Outcome]] = defaultdict(list)
        for at, outcome in happened.outcomes:
            by_start[at // width * width].append(outcome)
        series = stats.series(kind)
        running = int(now) // width * width
        assert [bucket.at for bucket in series] == list(range(running - (length - 1) * width, running + 1, width))
        for bucket in series:
            _assert_counts(bucket, by_start[bucket.at])
    for span in spans:
        begins, ends = _range(span, now)
        tables = stats.tables(span)
        _assert_table(tables.models, happened.usage(_model, begins, ends))
        _assert_table(tables.keys, happened.usage(_key, begins, ends))
        _assert_table(tables.apis, happened.usage(_api, begins, ends))
        width = SERIES[span.series][0]
        ends = (now // width + 1) * width
        whole = Counts()
        for bucket in stats.buckets(span):
            whole.add(bucket)
        _assert_counts(whole, [outcome for at, outcome in happened.outcomes if begins <= at < ends])


def _assert_counts(counts: Counts, outcomes: list[Outcome]) -> None:
    ttfts = [outcome.ttft for outcome in outcomes if outcome.ttft is not None]
    assert counts.requests == counts.duration.total == len(outcomes)
    assert counts.errors == sum(outcome.failed for outcome in outcomes)
    assert counts.gone == sum(outcome.gone for outcome in outcomes)
    assert counts.refused == sum(outcome.failed and outcome.refused for outcome in outcomes)
    assert counts.failed == sum(outcome.failed and not outcome.refused for outcome in outcomes)
    assert counts.answered == sum(not outcome.failed and not outcome.gone for outcome in outcomes)
    assert counts.endings == Counter(outcome.ending for outcome in outcomes)
    assert counts.chunks == sum(outcome.chunks for outcome in outcomes)
    assert counts.prompt_tokens == sum(outcome.prompt_tokens for outcome in outcomes)
    assert counts.completion_tokens == sum(outcome.completion_tokens for outcome in outcomes)
    assert counts.ttft.total == len(ttfts)
    assert counts.ttft.micros == sum(round(ttft * 1e6) for ttft in ttfts)
    assert counts.duration.micros == sum(round(outcome.seconds * 1e6) for outcome in outcomes)


def _range(span: Span, now: float) -> tuple[float, float]:
    assert span.tables is not None
    width = TABLE_PERIODS[span.tables][0]
    ends = (now // width + 1) * width
    return ends - span.periods * width, ends


def _assert_table(found: Mapping[str, UsageCounts], table: dict[str, UsageCounts]) -> None:
    # Except `last`: it is the latest of the days', which differs from the last event's if the clock was set back.
    assert dict(_numbers(found.items())) == dict(_numbers(table.items()))


def _numbers(rows: Iterable[tuple[str, UsageCounts]]) -> Iterable[tuple[str, tuple[int, ...]]]:
    for name, usage in rows:
        yield name, (usage.requests, usage.errors, usage.prompt_tokens, usage.completion_tokens, *usage.tools)


def _model(outcome: Outcome) -> str | None:
    return outcome.model


def _key(outcome: Outcome) -> str | None:
    return outcome.key


def _api(outcome: Outcome) -> str | None:
    return outcome.api
