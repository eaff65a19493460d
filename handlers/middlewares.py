"""Around every request: its id, its log line, its errors as JSON, its headers. And the door: the API key."""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from aiohttp import HttpVersion10, HttpVersion11, web

from bridge.errors import ApiError, internal_error, invalid_api_key, metrics_not_allowed, overloaded
from bridge.keys import ApiKey
from bridge.log import bind_request_id, event
from handlers.answers import error_response
from handlers.appkeys import ACTIVITY, DRAIN, FACTS, SETTINGS, STATE
from handlers.callers import LOOPBACK, caller_address
from handlers.cors import is_preflight, preflight, set_cors_headers
from handlers.facts import Facts
from handlers.printable import printable
from handlers.probes import PROBES
from upstream.errors import Reason

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
KeyedHandler: TypeAlias = Callable[[web.Request, ApiKey], Awaitable[web.StreamResponse]]

#: A request id of the caller's that is kept.
_SANE_ID: Final = re.compile(r"[A-Za-z0-9._\-]{1,128}")

#: What we say we are: no versions.
SERVER: Final = "lmarena-bridge"

_logger = logging.getLogger("bridge.requests")


@web.middleware
async def around(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The outermost layer: whatever happens within leaves as an answer with a true status, and as one log line."""
    began = time.monotonic()
    facts = request[FACTS] = Facts(request_id(request.headers.get("x-request-id", "")))
    bind_request_id(facts.request_id)
    status = 499  # what is logged of a caller that left
    try:
        response = await _answer(request, handler, facts)
        status = response.status
        return response
    except ConnectionResetError:
        facts.reason = Reason.CLIENT_GONE
        return web.Response(status=status)  # to nobody: aiohttp wants one
    finally:
        if status == 499:
            facts.reason = Reason.CLIENT_GONE
        seconds = time.monotonic() - began
        request.app[ACTIVITY].end(facts, status, seconds)
        _log(request, facts, status, seconds)


async def _answer(request: web.Request, handler: Handler, facts: Facts) -> web.StreamResponse:
    try:
        if request.version not in (HttpVersion10, HttpVersion11):
            raise web.HTTPVersionNotSupported
        if request.app[DRAIN].draining and request.match_info.handler not in PROBES:
            raise overloaded("The bridge is shutting down: try again in a moment.", close=True)
        if is_preflight(request):
            return preflight(request)
        return await handler(request)
    except ApiError as error:
        return _refuse(facts, error)
    except web.HTTPException as error:
        return _refuse(facts, _of_http(request, error))
    except ConnectionResetError:
        raise
    except Exception:  # a mistake of ours, whatever it is, leaves as a 500; the log has the traceback
        _logger.exception("a request failed")
        if request.writer.output_size > 0 and request.transport is not None:
            request.transport.abort()  # an answer has begun: its broken end must not look like a good one
        return _refuse(facts, internal_error())


def _refuse(facts: Facts, error: ApiError) -> web.Response:
    facts.fail(error)
    return error_response(error)


def _of_http(request: web.Request, error: web.HTTPException) -> ApiError:
    """aiohttp's own refusals in our words."""
    match error.status:
        case 404:
            hint = "" if request.path.startswith(("/v1/", "/api/v1/")) else " The API is under /v1."
            message, code = f"There is nothing at {request.method} {request.path[:200]}.{hint}", "not_found"
        case 405:
            allowed = error.headers.get("Allow", "")
            message, code = f"{request.method} is not allowed here; allowed: {allowed}.", "method_not_allowed"
        case status:
            message, code = f"{error.reason or 'Refused'}.", f"http_{status}"
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    return ApiError(error.status, "invalid_request_error", code, message, headers=headers)


def keyed(handler: KeyedHandler) -> Handler:
    """Let a request through to `handler` only with a key of ours."""

    async def with_key(request: web.Request) -> web.StreamResponse:
        return await handler(request, key_of(request))

    return with_key


def keyed_metrics(handler: Handler) -> Handler:
    """Let a request through to `handler` only with a key that may read metrics, unless they are open to all."""

    async def with_key(request: web.Request) -> web.StreamResponse:
        if not (request.app[SETTINGS].config.server.open_metrics or key_of(request).metrics):
            raise metrics_not_allowed()
        return await handler(request)

    return with_key


def key_of(request: web.Request) -> ApiKey:
    """The key that a request shows. Raises ApiError. The one place where that is decided."""
    sent = request.headers.getall("Authorization", [])
    scheme, _, secret = sent[0].partition(" ") if len(sent) == 1 else ("", "", "")
    key = request.app[STATE].keys.find(secret.strip()) if scheme.lower() == "bearer" else None
    if key is None:
        raise invalid_api_key()
    request[FACTS].key = key.name
    return key


def followed(handler: Handler) -> Handler:
    """Let the dashboard see, and the statistics count, every request to `handler`."""

    async def with_record(request: web.Request) -> web.StreamResponse:
        follow(request)
        return await handler(request)

    return with_record


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
        headers["x-request-id"] = facts.request_id
        headers.update(facts.headers)
    headers["Server"] = SERVER
    headers.setdefault("Cache-Control", "no-store")
    headers["X-Content-Type-Options"] = "nosniff"
    set_cors_headers(request, headers, request.app[SETTINGS].config.server.cors_origins)


def request_id(sent: str) -> str:
    """The caller's own id if it is sane, else a new one."""
    return sent if _SANE_ID.fullmatch(sent) else f"req_{secrets.token_hex(12)}"


def _log(request: web.Request, facts: Facts, status: int, seconds: float) -> None:
    resource = request.match_info.route.resource
    caller = caller_address(request, request.app[SETTINGS].config)
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
    quiet = facts.quiet and status < 400
    event(
        _logger,
        logging.DEBUG if quiet or request.match_info.handler in PROBES else logging.INFO,
        f"{request.method} {resource.canonical if resource is not None else '(unknown)'}",
        **{name: value for name, value in fields.items() if value is not None},
    )
