"""The end of a request: it is counted, and logged in one line."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from aiohttp import web

from bridge.config.schema import Config
from bridge.log import event
from handlers.request.activity import Activity
from handlers.request.callers import LOOPBACK, caller_address
from handlers.request.record import RequestRecord

_logger: Final = logging.getLogger("bridge.requests")


class RequestLog:
    """Counts and logs requests that have ended. `config` is read for each, so that a reload takes effect at once."""

    def __init__(self, activity: Activity, config: Callable[[], Config]) -> None:
        self._activity = activity
        self._config = config

    def record_end(
        self, request: web.Request, record: RequestRecord, status: int, seconds: float, *, quiet: bool
    ) -> None:
        """Count and log a request that took `seconds`.

        `status` is 499 if the caller disconnected. A `quiet` request is logged at level DEBUG.
        """
        self._activity.end(record, status, seconds)
        resource = request.match_info.route.resource
        caller = caller_address(request, self._config())
        fields = {
            "caller": None if caller in LOOPBACK else caller,
            "status": status,
            "reason": record.reason.value,
            "code": record.code,
            "api": record.api,
            "key": record.key,
            "model": record.model,
            "account": record.account,
            "ttft_ms": None if record.ttft is None else round(record.ttft * 1000),
            "ms": round(seconds * 1000),
            "tokens_in": record.prompt_tokens or None,
            "tokens_out": record.completion_tokens or None,
            "message": record.message,
        }
        failed = status >= 500 or (status < 400 and record.code is not None)
        event(
            _logger,
            logging.DEBUG if quiet else logging.WARNING if failed else logging.INFO,
            f"{request.method} {resource.canonical if resource is not None else '(unknown)'}",
            **{name: value for name, value in fields.items() if value is not None},
        )
