"""GET /metrics, for Prometheus. Counters start at zero with the process; gauges are read at each scrape."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiohttp import web

from bridge.statistics.since_start import SinceStart
from bridge.statistics.stats import Stats

if TYPE_CHECKING:
    from handlers.monitoring.exposition import Exposition


async def metrics(request: web.Request) -> web.Response:
    """All metrics, in the text format that all versions of Prometheus accept."""
    exposition = await request.app[METRICS].exposition()
    return web.Response(body=await exposition.scrape(), headers={"Content-Type": exposition.CONTENT_TYPE})


class Metrics:
    """The metrics of one daemon; created after its statistics are loaded."""

    def __init__(self, app: web.Application, stats: Stats) -> None:
        self._app = app
        self._counted = SinceStart(stats)
        self._exposition: Exposition | None = None

    async def exposition(self) -> Exposition:
        """The exposition, created by the first scrape, so that the daemon's start does not import Prometheus's library.

        A thread imports it, so that the event loop is not blocked.
        """
        if self._exposition is None:
            await asyncio.to_thread(__import__, "handlers.monitoring.exposition")
            from handlers.monitoring.exposition import Exposition

            self._exposition = self._exposition or Exposition(self._app, self._counted)
        return self._exposition


METRICS: Final = web.AppKey("metrics", Metrics)
