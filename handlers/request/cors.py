"""Cross-origin requests: pages of `server.cors_origins` may call the API from a browser, but never the dashboard."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection
from typing import Final

from aiohttp import web
from multidict import CIMultiDict

from bridge.errors import ApiError
from bridge.headers import (
    ABOUT_ANSWER,
    ANTHROPIC_LIMITS,
    ANTHROPIC_REQUEST_ID,
    OPENAI_LIMITS,
    REASON,
    REQUEST_ID,
    SHOULD_RETRY,
)
from handlers import dashboard
from handlers.request.appkeys import SETTINGS
from upstream.protocol.printable import printable

_METHODS: Final = "GET, POST, DELETE, OPTIONS"
#: Headers that a page may always send; others that it asks for are allowed too, since SDKs send many of their own.
_ALLOWED: Final = (
    "authorization",
    "x-api-key",
    "api-key",
    "anthropic-version",
    "anthropic-beta",
    "anthropic-dangerous-direct-browser-access",
    "content-type",
)
#: The response headers that a page's script may read.
_EXPOSED: Final = ", ".join(
    (
        ANTHROPIC_REQUEST_ID,
        REQUEST_ID,
        "retry-after",
        SHOULD_RETRY,
        *OPENAI_LIMITS,
        *ANTHROPIC_LIMITS,
        REASON,
        *ABOUT_ANSWER,
    )
)
#: How long a browser may remember the permission, in seconds.
_MAX_AGE: Final = "7200"
#: What `*` matches after a scheme (any host and port), and in place of a port (any port, or none).
_ANY_HOST: Final = re.compile(r"[^/\s]+")
_ANY_PORT: Final = re.compile(r"(:[0-9]{1,5})?")
#: How much of an origin is shown in an error and in the log.
_SHOWN_CHARS: Final = 200

_logger = logging.getLogger(__name__)


def is_preflight(request: web.Request) -> bool:
    """Whether this is a CORS preflight of an allowed page. Raises ApiError: 405 if the page is not allowed."""
    if (
        request.method != "OPTIONS"
        or "Access-Control-Request-Method" not in request.headers
        or dashboard.holds(request.path)
    ):
        return False
    origin = request.headers.get("Origin")
    if origin is None:
        return False
    if allows(request.app[SETTINGS].config.server.cors_origins, origin):
        return True
    match request.match_info.http_exception:
        case web.HTTPMethodNotAllowed(headers=headers):
            raise _not_allowed(printable(origin[:_SHOWN_CHARS]), headers["Allow"])
    return False


def preflight(request: web.Request) -> web.Response:
    """The answer to the preflight of an allowed page."""
    wanted = [name.strip() for name in request.headers.get("Access-Control-Request-Headers", "").split(",")]
    names = dict.fromkeys((*filter(None, wanted), *_ALLOWED))
    headers = {
        "Access-Control-Allow-Methods": _METHODS,
        "Access-Control-Allow-Headers": ", ".join(names),
        "Access-Control-Max-Age": _MAX_AGE,
    }
    if request.headers.get("Access-Control-Request-Private-Network") == "true":
        headers["Access-Control-Allow-Private-Network"] = "true"
    return web.Response(status=204, headers=headers)


def _not_allowed(origin: str, methods: str) -> ApiError:
    """405; the browser hides the answer from the page, but shows it in its developer tools. Logged as well."""
    _logger.info("the page %s may not call the API from a browser: server.cors_origins does not name it", origin)
    message = (
        f"The page {origin} may not call the API from a browser: the operator must add it to server.cors_origins in "
        'bridge.toml, where "*" allows every page.'
    )
    return ApiError(405, "cors_origin_not_allowed", message, accepted={"Allow": methods})


def set_cors_headers(request: web.BaseRequest, headers: CIMultiDict[str], allowed: Collection[str]) -> None:
    """Let an allowed page read the answer, including errors. Credentials are not needed: the page sends the key."""
    if not allowed or dashboard.holds(request.path):
        return
    headers.add("Vary", "Origin")
    origin = request.headers.get("Origin")
    if origin is not None and allows(allowed, origin):
        headers.update(_readable_by(origin))


def cors_headers(origin: str | None, allowed: Collection[str]) -> dict[str, str]:
    """The CORS headers for an answer to a request that could not be parsed; its Origin may be unknown."""
    if not allowed:
        return {}
    if origin is None:
        (only, *others) = allowed  # without an Origin, only a header that does not depend on it is possible
        origin = "*" if "*" in allowed else only if not others and not only.endswith("*") else None
    elif not allows(allowed, origin):
        origin = None
    return {"Vary": "Origin", **(_readable_by(origin) if origin is not None else {})}


def _readable_by(origin: str) -> dict[str, str]:
    """The headers by which a browser lets pages of that origin read an answer."""
    return {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": _EXPOSED}


def allows(allowed: Collection[str], origin: str) -> bool:
    """Whether `server.cors_origins` names an origin, as it is or by a pattern: `*`, `scheme://*`, `http://host:*`."""
    if origin in allowed or "*" in allowed:
        return True
    return any(pattern.endswith("*") and _matches(pattern.removesuffix("*"), origin) for pattern in allowed)


def _matches(prefix: str, origin: str) -> bool:
    if prefix.endswith("://"):
        return origin.startswith(prefix) and _ANY_HOST.fullmatch(origin, len(prefix)) is not None
    host = prefix.removesuffix(":")
    return host != prefix and origin.startswith(host) and _ANY_PORT.fullmatch(origin, len(host)) is not None
