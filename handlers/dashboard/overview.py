"""The Overview page: whether the bridge works, what the operator has to do, and use by model and key.

All of its numbers are from `stats.json`, for one span of time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import urlencode

from aiohttp import web

from bridge.access.logins import Login
from bridge.diagnosis import ADVICE
from bridge.statistics.counts import HERE, Bucket, Counts, UsageCounts, most_used
from bridge.statistics.stats import Stats
from handlers.dashboard import charts
from handlers.dashboard.headline import FAILING_SHARE, situation_of
from handlers.dashboard.instances import INSTANCES
from handlers.dashboard.pages import render, template
from handlers.dashboard.spans import SPANS, named
from handlers.dashboard.wording import IN_ACCOUNTS, zone_name
from handlers.request.appkeys import DRAIN, STATE, STATS

_Ranking: TypeAlias = Sequence[tuple[str, UsageCounts]]

RANKED: Final = 10


class Ending(NamedTuple):
    """An outcome of requests, as the statistics name it, and their number."""

    name: str
    requests: int

    @property
    def word(self) -> str:
        """The word of diagnosis."""
        return self.name.removesuffix(HERE)

    @property
    def here(self) -> bool:
        """Whether the bridge itself refused the requests."""
        return self.name.endswith(HERE)


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
    begins: int

    def requests_address(self, outcome: str, **names: str) -> str:
        """The Activity page's URL for the span's requests with this outcome or these names."""
        since = {"from": datetime.fromtimestamp(self.begins, UTC).strftime("%Y-%m-%dT%H:%MZ")} if self.begins else {}
        return f"/dashboard/activity?{urlencode({'outcome': outcome, **names, **since})}"


class SeenCache:
    """The spans as last summed and drawn, which is repeated only if the statistics have changed."""

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
    others = await app[INSTANCES].ask()
    return await render(
        request,
        template(request, "overview"),
        login,
        {
            "situation": situation_of(app, stats, others),
            "advice": ADVICE,
            "in_accounts": IN_ACCOUNTS,
            "running": app[DRAIN].running + others.answering,
            "accounts": len(app[STATE].pool),
            "usable": len(app[STATE].pool.usable("chat")),
            "span": name,
            "spans": SPANS,
            "daily": SPANS[name].span.series == "day",
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
        [Ending(*row) for row in total.endings.most_common()],
        charts.requests_over_time(buckets, shown),
        charts.ttft_over_time(buckets, shown),
        charts.ranking([(name, usage.requests) for name, usage in models], "Requests by model"),
        charts.ranking([(name, usage.requests) for name, usage in keys], "Requests by key"),
        "UTC" if shown.span.series == "day" else zone_name(time.time()),
        shown.span.begins(int(time.time())),
    )
