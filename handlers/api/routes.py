"""Every path, and whether a key opens it."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from handlers.api.chat_completions import chat_completions
from handlers.api.images import edit, generate
from handlers.api.models import get_model, list_models
from handlers.monitoring.health import health
from handlers.monitoring.metrics import metrics
from handlers.monitoring.probes import livez, readyz
from handlers.request.appkeys import CALLS, DOORS, Door, Handler
from handlers.request.middlewares import follow, require_key, require_metrics_key
from handlers.request.paths import MisspelledPaths

_ASKS_A_MODEL: Final = (follow, require_key)

#: (method, path below the prefix, handler, what stands before it).
_API: tuple[tuple[str, str, Handler, tuple[Door, ...]], ...] = (
    ("POST", "/chat/completions", chat_completions, _ASKS_A_MODEL),
    ("POST", "/images/generations", generate, _ASKS_A_MODEL),
    ("POST", "/images/edits", edit, _ASKS_A_MODEL),
    ("GET", "/models", list_models, (require_key,)),
    ("GET", "/models/{name:.+}", get_model, (require_key,)),
    ("GET", "/health", health, ()),
)

#: What is there once, for whoever looks after the daemon.
_ROOT: tuple[tuple[str, str, Handler, tuple[Door, ...]], ...] = (
    ("GET", "/health", health, ()),
    ("GET", "/livez", livez, ()),
    ("GET", "/readyz", readyz, ()),
    ("GET", "/metrics", metrics, (require_metrics_key,)),
)

#: The API stands under both, since clients differ in what they take for its base.
PREFIXES = ("/v1", "/api/v1")


def add_routes(app: web.Application) -> None:
    """Add every route, and what stands before it."""
    app[CALLS] = tuple((method, path) for method, path, _, _ in _API)
    app[DOORS] = {handler: doors for _, _, handler, doors in _API + _ROOT}
    for prefix in PREFIXES:
        for method, path, handler, _ in _API:
            _add(app, method, prefix + path, handler)
    for method, path, handler, _ in _ROOT:
        _add(app, method, path, handler)
    app.router.register_resource(MisspelledPaths(app.router))


def _add(app: web.Application, method: str, path: str, handler: Handler) -> None:
    """Add a route; what answers GET answers HEAD too, which monitors send."""
    for each in (method, "HEAD") if method == "GET" else (method,):
        app.router.add_route(each, path, handler)
