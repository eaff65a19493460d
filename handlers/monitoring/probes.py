"""GET /livez and /readyz: ok or not ok, for what starts, stops and balances daemons; GET /health says more.

Anybody may ask, so they tell nothing else. During a drain, when idle connections are closed and none is accepted, they
are answered over those that were accepted before and have had no answer yet.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from handlers.monitoring.health import health_of
from handlers.request.appkeys import DRAIN


async def livez(_: web.Request) -> web.Response:
    """200 for as long as the process answers at all."""
    return web.Response(text="ok\n")


async def readyz(request: web.Request) -> web.Response:
    """200 while a chat could be served, else 503: once the daemon drains, too."""
    if health_of(request.app).serving and not request.app[DRAIN].draining:
        return web.Response(text="ok\n")
    return web.Response(text="not ok\n", status=503)


#: What is answered during a drain, and leaves no line in the log where nothing below `info` is logged.
PROBES: Final = frozenset((livez, readyz))
