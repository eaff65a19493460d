"""The Overview page: health, what the operator has to do, and use by model and key. Numbers are from `stats.json`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from heapq import nlargest
from typing import Final, NamedTuple, TypeAlias

from aiohttp import web

from bridge.access.logins import Login
from bridge.diagnosis import ADVICE
from bridge.statistics.counts import Bucket, Counts, UsageCounts
from bridge.statistics.stats import PeriodKind, Stats
from handlers.dashboard import charts
from handlers.dashboard.pages import render, template
from handlers.monitoring.health import health_of
from handlers.request.appkeys import DRAIN, STATE, STATS

_Ranking: TypeAlias = Sequence[tuple[str, UsageCounts]]

#: The selectable spans: the series, its name, and the days over which models and keys are ranked (0 for all).
SPANS: Final[dict[PeriodKind, tuple[str, int]]] = {
    "minute": ("2 hours", 1),
    "hour": ("2 weeks", 14),
    "day": ("2 years", 0),
}
RANKED: Final = 10


class Charts(NamedTuple):
    """The charts of one span, as SVG."""

    requests: str
    ttft: str
    models: str
    keys: str


class ChartCache:
    """The charts as last drawn; they are drawn again only when there is something new to show."""

    def __init__(self) -> None:
        self._drawn: dict[PeriodKind, tuple[object, Charts]] = {}
        self._lock = asyncio.Lock()

    async def get(self, stats: Stats, kind: PeriodKind) -> Charts:
        """Return the charts of a span; draws them in a thread, one page at a time."""
        series = stats.series(kind)
        version = (stats, series[-1].at)
        async with self._lock:
            known, drawn = self._drawn.get(kind, (None, None))
            if drawn is None or known != version:
                models, keys = ranked(stats, kind)
                drawn = await asyncio.to_thread(_draw, series, kind, models, keys)
                self._drawn[kind] = version, drawn
        return drawn


CHARTS: Final = web.AppKey("charts", ChartCache)


async def overview(request: web.Request, login: Login) -> web.StreamResponse:
    """GET /dashboard, and its live part."""
    app = request.app
    kind = span(request.query.get("span", ""))
    stats = await app[STATS].read()
    drawn = await app[CHARTS].get(stats, kind)
    series, (models, keys) = stats.series(kind), ranked(stats, kind)
    found = health_of(app)
    return await render(
        request,
        template(request, "overview"),
        login,
        {
            "health": found,
            "advice": ADVICE,
            "running": app[DRAIN].running,
            "accounts": len(app[STATE].pool),
            "usable": len(app[STATE].pool.usable("chat")),
            "kind": kind,
            "spans": SPANS,
            "charts": drawn,
            "buckets": [bucket for bucket in reversed(series) if bucket.requests],
            "sum": summed(series),
            "models": models,
            "keys": keys,
            "reasons": sorted(stats.reasons.items(), key=lambda row: -row[1]),
            "apis": _most_used(stats.apis),
            "stats": stats,
        },
    )


def span(asked: str) -> PeriodKind:
    """The span in a page's URL, by default two hours."""
    return next((kind for kind in SPANS if kind == asked), "minute")


def ranked(stats: Stats, kind: PeriodKind) -> tuple[_Ranking, _Ranking]:
    """The most used models and keys: today, in two weeks, or since the statistics began."""
    days = SPANS[kind][1]
    if days:
        return stats.top_models(days)[:RANKED], stats.top_keys(days)[:RANKED]
    return _most_used(stats.models), _most_used(stats.keys)


def _most_used(table: Mapping[str, UsageCounts]) -> _Ranking:
    return nlargest(RANKED, table.items(), key=lambda row: row[1].requests)


def summed(series: Iterable[Bucket]) -> Counts:
    """The sum of a span's periods."""
    total = Counts()
    for bucket in series:
        total.add(bucket)
    return total


def _draw(series: Sequence[Bucket], kind: PeriodKind, models: _Ranking, keys: _Ranking) -> Charts:
    return Charts(
        charts.requests_over_time(series, kind),
        charts.ttft_over_time(series, kind),
        charts.ranking([(name, usage.requests) for name, usage in models], "Requests by model"),
        charts.ranking([(name, usage.requests) for name, usage in keys], "Requests by key"),
    )
