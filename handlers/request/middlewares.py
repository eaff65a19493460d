"""The middleware of all requests (id, log line, errors as JSON, headers), and the checks of API keys."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable
from typing import Final

from aiohttp import HttpVersion10, HttpVersion11, hdrs, web

from bridge import SERVER
from bridge.access.keys import ApiKey
from bridge.dialects.dialect import Api
from bridge.dialects.messages.errors import ANTHROPIC, VERSION_HEADER
from bridge.dialects.openai.errors import OPENAI
from bridge.errors import (
    ApiError,
    internal_error,
    invalid_api_key,
    key_expired,
    key_paused,
    metrics_not_allowed,
)
from bridge.headers import CONTENT_TYPE_OPTIONS, REASON, REQUEST_ID
from bridge.log import bind_request_id
from handlers.daemon.accepting import CallerConnection
from handlers.monitoring.probes import PROBES
from handlers.request.answers import error_response
from handlers.request.appkeys import (
    ACTIVITY,
    API,
    CALLS,
    CONNECTION_LIMITS,
    DRAIN,
    KEY,
    RANDOM,
    RECORD,
    REQUEST_LOG,
    ROUTES,
    SETTINGS,
    STATE,
    Handler,
    Route,
)
from handlers.request.cors import is_preflight, preflight, set_cors_headers
from handlers.request.drain import shutting_down
from handlers.request.paths import base_url_hint, hint, is_below
from handlers.request.record import RequestRecord
from handlers.request.recording import RECORDER, start_recording
from upstream.protocol.errors import Reason
from upstream.protocol.printable import printable

#: The request ids that are accepted from callers.
_ACCEPTED_ID: Final = re.compile(r"[A-Za-z0-9._\-]{1,128}")

#: For unknown paths.
_NO_ROUTE: Final = Route((), OPENAI)

_logger = logging.getLogger("bridge.requests")


@web.middleware
async def handle_request(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The only middleware: every outcome of a handler becomes an answer with the right status, and one log line.

    `handler` must be the route's own, since its `Route` is looked up by it.
    """
    began = time.monotonic()
    app = request.app
    route = app[ROUTES].get(handler, _NO_ROUTE)
    sent_id = request.headers.get(REQUEST_ID, "")
    record = request[RECORD] = RequestRecord(request_id(sent_id, app[RANDOM]), route.counted_as)
    request[API] = _api_of(request, route)
    bind_request_id(record.request_id)
    status = 499  # logged if the caller disconnects
    response: web.StreamResponse | None = None
    try:
        _check_acceptable(request, app, handler)
        permitted: web.StreamResponse | None = None
        try:
            if is_preflight(request):
                permitted = preflight(request)
            else:
                for check in route.checks:
                    check(request)
        finally:
            if KEY not in request:
                await app[CONNECTION_LIMITS].wait_for_turn()
        if permitted is not None:
            response = permitted
        elif record.recording is not None:
            response = await record.recording.handle(request, handler)
        else:
            response = await handler(request)
        status = response.status
    except ConnectionResetError:
        response = web.Response(status=status)  # not sent, but aiohttp needs a response
    except Exception as error:  # noqa: BLE001 — any bug of ours is logged and answered with 500
        response = _error_answer(request, record, error)
        status = response.status
    finally:
        if status == 499:
            record.reason = Reason.CLIENT_GONE
        elif status >= 400 and record.reason is Reason.OK and response is not None:
            record.reason = _reason_of(response)
        if record.recording is not None:
            record.recording.end(request, record, response, status)
            record.recording = None  # an idle connection refers to its last request
        quiet = (record.quiet and status < 400) or handler in PROBES
        app[REQUEST_LOG].record_end(request, record, status, time.monotonic() - began, quiet=quiet)
    if app[DRAIN].draining:
        response.force_close()  # no further request may come over this connection
    return response


def _reason_of(response: web.StreamResponse) -> Reason:
    """The reason for an error answer whose handler has set none in the record."""
    word = response.headers.get(REASON, Reason.OK.value)
    if word != Reason.OK.value:
        return Reason(word)
    return Reason.RATE_LIMITED if response.status == 429 else Reason.REJECTED


def _api_of(request: web.Request, route: Route) -> Api:
    """The API that a request speaks: by its route, else by its path or a header that Anthropic's clients send."""
    if route.api is OPENAI and (is_below(request.path, "messages") or VERSION_HEADER in request.headers):
        return ANTHROPIC
    return route.api


def _check_acceptable(request: web.Request, app: web.Application, handler: Handler) -> None:
    """Refuse requests that must not reach any handler. Raises ApiError or HTTPException."""
    if request.version not in (HttpVersion10, HttpVersion11):
        raise web.HTTPVersionNotSupported
    if app[DRAIN].draining and handler not in PROBES:
        raise shutting_down()


def _error_answer(request: web.Request, record: RequestRecord, error: Exception) -> web.Response:
    """The answer to a request that failed."""
    match error:
        case ApiError():
            refused = error
        case web.HTTPException():
            refused = _from_http_exception(request, error)
            error.__traceback__ = None  # it refers to the request, whose route refers to the error: a reference cycle
        case _:
            _logger.error("a request failed", exc_info=error)
            if request.writer.output_size > 0 and request.transport is not None:
                request.transport.abort()  # the answer has begun: its end must not look complete
            refused = internal_error()
    record.fail(refused)
    return error_response(refused, request[API], record.request_id)


def _from_http_exception(request: web.Request, error: web.HTTPException) -> ApiError:
    """Turn aiohttp's own errors into ApiError."""
    match error.status:
        case 404:
            calls = request.app[CALLS]
            is_read = request.method in ("GET", "HEAD")  # a POST is meant for a call below the base URL
            message, code = base_url_hint(request.path, calls) if is_read else "", "not_found"
            if not message:
                more = hint(request.method, request.path, calls) or "GET /docs shows what there is."
                message = f"There is nothing at {request.method} {request.path[:200]}. {more}"
        case 405:
            allowed = error.headers.get("Allow", "")
            message, code = f"{request.method} is not allowed here; allowed: {allowed}.", "method_not_allowed"
        case status:
            message, code = f"{error.reason or 'Refused'}.", f"http_{status}"
    accepted = {name: error.headers[name] for name in ("Allow",) if name in error.headers}
    return ApiError(error.status, code, message, accepted=accepted)


def require_key(request: web.Request) -> None:
    """Require a valid API key, which the handler finds under KEY. Raises ApiError."""
    shown = request[API].key(request.headers)
    key = None if shown is None else request.app[STATE].keys.find(shown)
    if key is None:
        raise invalid_api_key()
    if key.paused:
        raise key_paused()
    if key.expires is not None and key.has_expired(time.time()):
        raise key_expired()
    act_for(key, request)


def require_metrics_key(request: web.Request) -> None:
    """Require a key that may read metrics, unless `server.open_metrics` is set. Raises ApiError."""
    if not request.app[SETTINGS].config.server.open_metrics:
        require_key(request)
        if not request[KEY].metrics:
            raise metrics_not_allowed()


def act_for(key: ApiKey, request: web.Request) -> None:
    """Give the request the rights of `key`, and mark its connection as authenticated."""
    request[KEY] = key
    mark_authenticated(request)
    request[RECORD].key = key.name


def mark_authenticated(request: web.Request) -> None:
    """Mark the request's connection as authenticated until the request is answered."""
    connection = request.protocol
    if isinstance(connection, CallerConnection):
        request.app[CONNECTION_LIMITS].mark_authenticated(connection)


def track(request: web.Request) -> None:
    """Show this request in the dashboard from now on, count it when it ends, and record it if that is wanted."""
    app, record = request.app, request[RECORD]
    record.client = printable(request.headers.get("User-Agent", "")[:200])
    app[ACTIVITY].begin(record)
    start_recording(request, record, app[RECORDER])


async def set_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Set the headers of every answer (as a signal of the app, so that streams have them too)."""
    record = request.get(RECORD)
    headers = response.headers
    if record is not None:
        headers[REQUEST_ID] = headers[request[API].request_id_header] = record.request_id
        headers.update(record.headers)
    headers[hdrs.SERVER] = SERVER
    headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
    headers[CONTENT_TYPE_OPTIONS] = "nosniff"
    set_cors_headers(request, headers, request.app[SETTINGS].config.server.cors_origins)


def request_id(sent: str, random_bytes: Callable[[int], bytes] = os.urandom) -> str:
    """The caller's own id if it is acceptable, else a new one."""
    return sent if _ACCEPTED_ID.fullmatch(sent) else f"req_{random_bytes(12).hex()}"
