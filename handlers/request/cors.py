"""Cross-origin requests: pages named in `server.cors_origins` may call the API from a browser, never the dashboard."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from aiohttp import web
from multidict import CIMultiDict

from handlers import dashboard
from handlers.request.appkeys import SETTINGS

_METHODS: Final = "GET, POST, OPTIONS"
#: What a page's script may read of an answer, besides the body.
_EXPOSED: Final = (
    "x-request-id, retry-after, x-should-retry, x-ratelimit-limit-requests, x-ratelimit-remaining-requests, "
    "x-ratelimit-reset-requests, x-bridge-ignored, x-bridge-reason, x-bridge-conversation, x-bridge-evaluation"
)
#: How long a browser may remember the permission, in seconds.
_MAX_AGE: Final = "7200"


def is_preflight(request: web.Request) -> bool:
    """Whether a browser asks, before the real request, if the page may make it."""
    return (
        request.method == "OPTIONS"
        and "Access-Control-Request-Method" in request.headers
        and not dashboard.holds(request.path)
        and _allows(request.app[SETTINGS].config.server.cors_origins, request.headers.get("Origin"))
    )


def preflight(request: web.Request) -> web.Response:
    """Permit it: the SDK's own `x-stainless-*` headers are many, so whatever is asked for is permitted."""
    headers = {
        "Access-Control-Allow-Methods": _METHODS,
        "Access-Control-Allow-Headers": request.headers.get(
            "Access-Control-Request-Headers", "authorization, content-type"
        ),
        "Access-Control-Max-Age": _MAX_AGE,
    }
    if request.headers.get("Access-Control-Request-Private-Network") == "true":
        headers["Access-Control-Allow-Private-Network"] = "true"
    return web.Response(status=204, headers=headers)


def set_cors_headers(request: web.BaseRequest, headers: CIMultiDict[str], allowed: Collection[str]) -> None:
    """Let an allowed page read the answer, errors too. No credentials: a key is sent by the page itself."""
    if not allowed or dashboard.holds(request.path):
        return
    headers.add("Vary", "Origin")
    origin = request.headers.get("Origin")
    if origin is not None and _allows(allowed, origin):
        headers["Access-Control-Allow-Origin"] = origin
        headers["Access-Control-Expose-Headers"] = _EXPOSED


def _allows(allowed: Collection[str], origin: str | None) -> bool:
    return origin is not None and (origin in allowed or "*" in allowed)
