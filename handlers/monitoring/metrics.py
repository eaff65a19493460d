"""GET /metrics: what Prometheus reads. Counters begin at zero with the process, gauges are read at the scrape."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiohttp import web

from bridge.statistics.since_start import SinceStart
from bridge.statistics.stats import Stats

if TYPE_CHECKING:
    from handlers.monitoring.exposition import Exposition


async def metrics(request: web.Request) -> web.Response:
    """All metrics, in the text format that every Prometheus reads."""
    exposition = await request.app[METRICS].exposition()
    return web.Response(body=await exposition.scrape(), headers={"Content-Type": exposition.CONTENT_TYPE})


class Metrics:
    """The metrics of one daemon; made once its statistics are loaded."""

    def __init__(self, app: web.Application, stats: Stats) -> None:
        self._app = app
        self._counted = SinceStart(stats)
        self._exposition: Exposition | None = None

    async def exposition(self) -> Exposition:
        """How they are shown; made by the first scrape, so that the daemon starts without Prometheus's library.

        A thread imports it: the loop goes on meanwhile.
        """
        if self._exposition is None:
            await asyncio.to_thread(__import__, "handlers.monitoring.exposition")
            from handlers.monitoring.exposition import Exposition

            self._exposition = self._exposition or Exposition(self._app, self._counted)
        return self._exposition


METRICS: Final = web.AppKey("metrics", Metrics)
