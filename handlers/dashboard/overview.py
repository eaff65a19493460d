"""The Overview page: whether it works, what the operator has to do, and use by model and key.

All of its numbers are from `stats.json`, over one span of time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, TypeAlias

from aiohttp import web

from bridge.access.logins import Login
from bridge.diagnosis import ADVICE
from bridge.statistics.counts import HERE, Bucket, Counts, UsageCounts, most_used
from bridge.statistics.stats import Stats
from handlers.dashboard import charts
from handlers.dashboard.headline import FAILING_SHARE, situation_of
from handlers.dashboard.pages import render, template
from handlers.dashboard.spans import SPANS, named
from handlers.dashboard.wording import zone_name
from handlers.request.appkeys import DRAIN, STATE, STATS

_Ranking: TypeAlias = Sequence[tuple[str, UsageCounts]]

RANKED: Final = 10


class Ending(NamedTuple):
    """How some requests ended: a word of diagnosis, whether a rule of the bridge's own decided it, and their number."""

    word: str
    here: bool
    requests: int


class Seen(NamedTuple):
    """One span of the statistics: its numbers, and its charts as SVG."""

    buckets: Sequence[Bucket]
    sum: Counts
    models: _Ranking
    keys: _Ranking
    apis: _Ranking
    endings: Sequence[Ending]
    requests_chart: str
    ttft_chart: str
    models_chart: str
    keys_chart: str
    zone: str


class SeenCache:
    """The spans as last summed and drawn; that is done again only when there is something new to show."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[object, Seen]] = {}
        self._lock = asyncio.Lock()

    async def get(self, stats: Stats, name: str) -> Seen:
        """Return a span; sums and draws in a thread, for one page at a time."""
        async with self._lock:
            known, seen = self._seen.get(name, (None, None))
            version = (stats, stats.series("minute")[-1].at)
            if seen is None or known != version:
                seen = await asyncio.to_thread(_see, stats, name)
                self._seen[name] = version, seen
        return seen


SEEN: Final = web.AppKey("seen", SeenCache)


async def overview(request: web.Request, login: Login) -> web.StreamResponse:
    """GET /dashboard, and its live part."""
    app = request.app
    name = named(request.query.get("span", ""))
    stats = await app[STATS].read()
    seen = await app[SEEN].get(stats, name)
    return await render(
        request,
        template(request, "overview"),
        login,
        {
            "situation": situation_of(app, stats),
            "advice": ADVICE,
            "running": app[DRAIN].running,
            "accounts": len(app[STATE].pool),
            "usable": len(app[STATE].pool.usable("chat")),
            "span": name,
            "spans": SPANS,
            "failing_share": FAILING_SHARE,
            "seen": seen,
        },
    )


def summed(series: Iterable[Bucket]) -> Counts:
    """The sum of a span's periods."""
    total = Counts()
    for bucket in series:
        total.add(bucket)
    return total


def _see(stats: Stats, name: str) -> Seen:
    shown = SPANS[name]
    buckets, tables = stats.buckets(shown.span), stats.tables(shown.span)
    total = summed(buckets)
    models, keys = most_used(tables.models, RANKED), most_used(tables.keys, RANKED)
    return Seen(
        [bucket for bucket in reversed(buckets) if bucket.requests],
        total,
        models,
        keys,
        most_used(tables.apis, RANKED),
        [Ending(word.removesuffix(HERE), word.endswith(HERE), count) for word, count in total.endings.most_common()],
        charts.requests_over_time(buckets, shown),
        charts.ttft_over_time(buckets, shown),
        charts.ranking([(name, usage.requests) for name, usage in models], "Requests by model"),
        charts.ranking([(name, usage.requests) for name, usage in keys], "Requests by key"),
        "UTC" if shown.span.series == "day" else zone_name(time.time()),
    )
