"""What is done when a request has ended: it is counted, and logged in one line.

All that ended in one turn of the loop are done together, in the next turn: from the second one on, what logs them is in
the processor's cache, which takes a tenth off a short request (`make bench`, short). One that ran alone waits for no
other: another turn would take 8 µs of its caller's next request (alone).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, NamedTuple

from aiohttp import web

from bridge.access.limits import Limiter
from bridge.config.schema import Config
from bridge.log import bind_request_id, event
from handlers.request.activity import Activity
from handlers.request.callers import LOOPBACK, caller_address
from handlers.request.facts import Facts

_logger: Final = logging.getLogger("bridge.requests")


class Ending(NamedTuple):
    """One request's end; `status` is 499 of a caller that left. A `quiet` one is logged for who debugs."""

    request: web.Request
    facts: Facts
    status: int
    seconds: float
    quiet: bool


class Endings:
    """Those of this turn, still to be counted and logged."""

    def __init__(self, activity: Activity, limiter: Limiter, config: Callable[[], Config]) -> None:
        self._activity = activity
        self._limiter = limiter
        self._config = config
        self._waiting: list[Ending] = []

    def add(self, ending: Ending) -> None:
        """Take a request that has ended."""
        self._waiting.append(ending)
        if not self._limiter.running:
            self.settle()
        elif len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self.settle)

    def settle(self) -> None:
        """Count and log what waits for it."""
        endings, self._waiting = self._waiting, []
        for ending in endings:
            self._activity.end(ending.facts, ending.status, ending.seconds)
        config = self._config()
        for ending in endings:
            _log(ending, config)


def _log(ending: Ending, config: Config) -> None:
    request, facts, status, seconds, quiet = ending
    bind_request_id(facts.request_id)
    resource = request.match_info.route.resource
    caller = caller_address(request, config)
    fields = {
        "caller": None if caller in LOOPBACK else caller,
        "status": status,
        "reason": facts.reason.value,
        "code": facts.code,
        "key": facts.key,
        "model": facts.model,
        "ttft_ms": None if facts.ttft is None else round(facts.ttft * 1000),
        "ms": round(seconds * 1000),
    }
    event(
        _logger,
        logging.DEBUG if quiet else logging.INFO,
        f"{request.method} {resource.canonical if resource is not None else '(unknown)'}",
        **{name: value for name, value in fields.items() if value is not None},
    )
