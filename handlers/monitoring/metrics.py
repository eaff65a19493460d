"""GET /metrics, for Prometheus. Counters start at zero with the daemon; gauges are read at each scrape.

One of several workers shows the metrics of all, which the parent gathers.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Final

from aiohttp import web

from bridge.errors import overloaded
from bridge.statistics.since_start import SinceStart
from bridge.statistics.stats import Stats
from handlers.monitoring.summing import summed
from handlers.workers.counts import Family
from handlers.workers.lines import WorkerState
from handlers.workers.link import LINK, ParentLink, ParentSilent

if TYPE_CHECKING:
    from handlers.monitoring.exposition import Exposition


#: The prefix of the names of the bridge's own metrics.
PREFIX: Final = "lmarena_bridge_"


async def metrics(request: web.Request) -> web.Response:
    """All metrics, in the text format that every version of Prometheus accepts."""
    exposition, link = await request.app[METRICS].exposition(), request.app.get(LINK)
    try:
        body = await exposition.scrape() if link is None else await _scrape_all(link)
    except ParentSilent:  # this worker's counts alone would be lower than what the last scrape showed
        raise overloaded("The other worker processes did not tell their metrics: try again in a moment.") from None
    return web.Response(body=body, headers={"Content-Type": exposition.CONTENT_TYPE})


async def _scrape_all(link: ParentLink) -> bytes:
    """The metrics of all workers together, as text."""
    from handlers.monitoring.exposition import text_of  # `Metrics.exposition` has imported it

    states = Counter(row.state for row in link.roster)
    samples = [(f"{PREFIX}workers", {"state": state}, states[state]) for state in WorkerState]
    workers = (f"{PREFIX}workers", "gauge", "Worker processes by state.", samples)
    return text_of([*summed(await link.gather_metrics()), workers])


class Metrics:
    """The metrics of one daemon; created after its statistics are loaded."""

    def __init__(self, app: web.Application, stats: Stats) -> None:
        self._app = app
        self._counted = SinceStart(stats)
        self._exposition: Exposition | None = None

    async def families(self) -> list[Family]:
        """The current metrics, as plain values."""
        return await (await self.exposition()).families()

    async def exposition(self) -> Exposition:
        """The exposition, created by the first scrape: the daemon starts faster without Prometheus's library.

        A thread imports that, so that the event loop is not blocked.
        """
        if self._exposition is None:
            await asyncio.to_thread(__import__, "handlers.monitoring.exposition")
            from handlers.monitoring.exposition import Exposition

            self._exposition = self._exposition or Exposition(self._app, self._counted)
        return self._exposition


METRICS: Final = web.AppKey("metrics", Metrics)
