"""Around every request: its id, its log line, its errors as JSON, its headers. And the door: the API key."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable
from typing import Final

from aiohttp import HttpVersion10, HttpVersion11, web

from bridge.access.keys import ApiKey
from bridge.dialects.openai.errors import OPENAI
from bridge.errors import ApiError, internal_error, invalid_api_key, metrics_not_allowed, overloaded
from bridge.log import bind_request_id
from handlers.daemon.accepting import Connection
from handlers.monitoring.probes import PROBES
from handlers.request.answers import error_response
from handlers.request.appkeys import (
    ACTIVITY,
    API,
    CALLS,
    DRAIN,
    FACTS,
    KEY,
    RANDOM,
    REQUEST_LOG,
    ROUTES,
    SETTINGS,
    STATE,
    STRANGERS,
    Handler,
    Route,
)
from handlers.request.cors import is_preflight, preflight, set_cors_headers
from handlers.request.facts import Facts
from handlers.request.paths import advice
from upstream.protocol.errors import Reason
from upstream.protocol.printable import printable

#: A request id of the caller's that is kept.
_SANE_ID: Final = re.compile(r"[A-Za-z0-9._\-]{1,128}")

#: What we say we are: no versions.
SERVER: Final = "lmarena-bridge"

#: Of a path that is none of ours.
_NO_ROUTE: Final = Route((), OPENAI)

_logger = logging.getLogger("bridge.requests")


@web.middleware
async def around(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The outermost layer: whatever happens within leaves as an answer with a true status, and as one log line.

    It is the only one: `handler` is the route's own, by which its doors are found.
    """
    began = time.monotonic()
    app = request.app
    route = app[ROUTES].get(handler, _NO_ROUTE)
    facts = request[FACTS] = Facts(request_id(request.headers.get("x-request-id", ""), app[RANDOM]))
    request[API] = route.api
    bind_request_id(facts.request_id)
    status = 499  # what is logged of a caller that left
    try:
        _look_over(request, app, handler)
        permitted: web.StreamResponse | None = None
        try:
            if is_preflight(request):
                permitted = preflight(request)
            else:
                for door in route.doors:
                    door(request)
        finally:
            if KEY not in request:
                await app[STRANGERS].turn()
        response = await handler(request) if permitted is None else permitted
        status = response.status
    except ConnectionResetError:
        response = web.Response(status=status)  # to nobody: aiohttp wants one
    except Exception as error:  # noqa: BLE001 — a mistake of ours, whatever it is, leaves as a 500, logged
        response = _refusal(request, facts, error)
        status = response.status
    finally:
        if status == 499:
            facts.reason = Reason.CLIENT_GONE
        quiet = (facts.quiet and status < 400) or handler in PROBES
        app[REQUEST_LOG].record_end(request, facts, status, time.monotonic() - began, quiet=quiet)
    return response


def _look_over(request: web.Request, app: web.Application, handler: Handler) -> None:
    """Refuse what no handler shall see. Raises ApiError or HTTPException."""
    if request.version not in (HttpVersion10, HttpVersion11):
        raise web.HTTPVersionNotSupported
    if app[DRAIN].draining and handler not in PROBES:
        raise overloaded("The bridge is shutting down: try again in a moment.", close=True)


def _refusal(request: web.Request, facts: Facts, error: Exception) -> web.Response:
    """What is answered instead."""
    match error:
        case ApiError():
            refused = error
        case web.HTTPException():
            refused = _of_http(request, error)
        case _:
            _logger.error("a request failed", exc_info=error)
            if request.writer.output_size > 0 and request.transport is not None:
                request.transport.abort()  # an answer has begun: its broken end must not look like a good one
            refused = internal_error()
    facts.fail(refused)
    return error_response(refused, request[API], facts.request_id)


def _of_http(request: web.Request, error: web.HTTPException) -> ApiError:
    """aiohttp's own refusals in our words."""
    match error.status:
        case 404:
            calls = request.app[CALLS]
            hint = advice(request.method, request.path, calls)
            message, code = f"There is nothing at {request.method} {request.path[:200]}. {hint}".rstrip(), "not_found"
        case 405:
            allowed = error.headers.get("Allow", "")
            message, code = f"{request.method} is not allowed here; allowed: {allowed}.", "method_not_allowed"
        case status:
            message, code = f"{error.reason or 'Refused'}.", f"http_{status}"
    accepted = {name: error.headers[name] for name in ("Allow",) if name in error.headers}
    return ApiError(error.status, code, message, accepted=accepted)


def require_key(request: web.Request) -> None:
    """Let a request through only with a key of ours, which its handler finds under KEY. Raises ApiError."""
    shown = request[API].key(request.headers)
    key = None if shown is None else request.app[STATE].keys.find(shown)
    if key is None:
        raise invalid_api_key()
    act_for(key, request)


def require_metrics_key(request: web.Request) -> None:
    """Let a request through only with a key that may read metrics, unless they are open to all. Raises ApiError."""
    if not request.app[SETTINGS].config.server.open_metrics:
        require_key(request)
        if not request[KEY].metrics:
            raise metrics_not_allowed()


def act_for(key: ApiKey, request: web.Request) -> None:
    """Let the request's handler act for `key`."""
    request[KEY] = key
    know(request)
    request[FACTS].key = key.name


def know(request: web.Request) -> None:
    """The request is of somebody whom we know: its connection is no stranger's until it is answered."""
    connection = request.protocol
    if isinstance(connection, Connection):
        request.app[STRANGERS].know(connection)


def follow(request: web.Request) -> None:
    """Let the dashboard see this request from here on, and count it in the end."""
    facts = request[FACTS]
    facts.client = printable(request.headers.get("User-Agent", "")[:200])
    request.app[ACTIVITY].begin(facts)


async def set_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Put on every answer what every answer carries (a signal of the app, so that streams have it too)."""
    facts = request.get(FACTS)
    headers = response.headers
    if facts is not None:
        headers["x-request-id"] = headers[request[API].request_id_header] = facts.request_id
        headers.update(facts.headers)
    headers["Server"] = SERVER
    headers.setdefault("Cache-Control", "no-store")
    headers["X-Content-Type-Options"] = "nosniff"
    set_cors_headers(request, headers, request.app[SETTINGS].config.server.cors_origins)


def request_id(sent: str, random_bytes: Callable[[int], bytes] = os.urandom) -> str:
    """The caller's own id if it is sane, else a new one."""
    return sent if _SANE_ID.fullmatch(sent) else f"req_{random_bytes(12).hex()}"
