"""The overview: is it well, what does it need from me, who used what. Numbers come from `stats.json`."""

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

#: What can be looked at: the series, its name, and the days whose users are ranked.
SPANS: Final[dict[PeriodKind, tuple[str, int]]] = {
    "minute": ("2 hours", 1),
    "hour": ("2 weeks", 14),
    "day": ("2 years", 0),
}
RANKED: Final = 10


class Drawn(NamedTuple):
    """The charts of one span, as SVG."""

    requests: str
    ttft: str
    models: str
    keys: str


class Drawings:
    """The charts as last drawn: drawn again only where there is something new to show."""

    def __init__(self) -> None:
        self._drawn: dict[PeriodKind, tuple[object, Drawn]] = {}
        self._turn = asyncio.Lock()

    async def of(self, stats: Stats, kind: PeriodKind) -> Drawn:
        """Draw in a thread, one page at a time."""
        series = stats.series(kind)
        version = (stats, series[-1].at)
        async with self._turn:
            known, drawn = self._drawn.get(kind, (None, None))
            if drawn is None or known != version:
                models, keys = ranked(stats, kind)
                drawn = await asyncio.to_thread(_draw, series, kind, models, keys)
                self._drawn[kind] = version, drawn
        return drawn


DRAWINGS: Final = web.AppKey("drawings", Drawings)


async def overview(request: web.Request, login: Login) -> web.StreamResponse:
    """GET /dashboard, and the part of it that redraws itself."""
    app = request.app
    kind = span(request.query.get("span", ""))
    stats = await app[STATS].read()
    drawn = await app[DRAWINGS].of(stats, kind)
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
            "stats": stats,
        },
    )


def span(asked: str) -> PeriodKind:
    """The span that a page's address names; two hours where it names none."""
    return next((kind for kind in SPANS if kind == asked), "minute")


def ranked(stats: Stats, kind: PeriodKind) -> tuple[_Ranking, _Ranking]:
    """The models and the keys that were used most: today, in two weeks, or since the counting began."""
    days = SPANS[kind][1]
    if days:
        return stats.top_models(days)[:RANKED], stats.top_keys(days)[:RANKED]
    return _most_used(stats.models), _most_used(stats.keys)


def _most_used(table: Mapping[str, UsageCounts]) -> _Ranking:
    return nlargest(RANKED, table.items(), key=lambda row: row[1].requests)


def summed(series: Iterable[Bucket]) -> Counts:
    """What a span's periods make together."""
    total = Counts()
    for bucket in series:
        total.add(bucket)
    return total


def _draw(series: Sequence[Bucket], kind: PeriodKind, models: _Ranking, keys: _Ranking) -> Drawn:
    return Drawn(
        charts.requests_over_time(series, kind),
        charts.ttft_over_time(series, kind),
        charts.ranking([(name, usage.requests) for name, usage in models], "Requests by model"),
        charts.ranking([(name, usage.requests) for name, usage in keys], "Requests by key"),
    )
