"""GET /livez and /readyz: ok or not ok, for orchestrators and load balancers; GET /health says more.

They are public, and so reveal nothing else. During a drain, when no connection is accepted and idle ones are closed,
they are answered over connections that were accepted before and have not been used yet.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from handlers.monitoring.combined_health import DOWN
from handlers.monitoring.health import health_of_all
from handlers.request.appkeys import DRAIN, RECORD
from upstream.protocol.errors import Reason


async def livez(_: web.Request) -> web.Response:
    """200 as long as the process answers at all."""
    return web.Response(text="ok\n")


async def readyz(request: web.Request) -> web.Response:
    """200 while a chat could be served by any worker, else 503; also 503 while the daemon drains."""
    health = health_of_all(request.app)
    if health["status"] != DOWN and not request.app[DRAIN].draining:
        return web.Response(text="ok\n")
    request[RECORD].reason = Reason(health["reason"]) if health["status"] == DOWN else Reason.RATE_LIMITED
    return web.Response(text="not ok\n", status=503)


#: Handlers that answer even during a drain, and are logged at DEBUG only.
PROBES: Final = frozenset((livez, readyz))
