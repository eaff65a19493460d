"""Every path, and whether a key opens it."""

from __future__ import annotations

from aiohttp import web

from handlers.chat_completions import chat_completions
from handlers.health import health
from handlers.images import edit, generate
from handlers.metrics import metrics
from handlers.middlewares import Handler, followed, keyed, keyed_metrics
from handlers.models import get_model, list_models
from handlers.probes import livez, readyz

#: (method, path below the prefix, handler); only what is wrapped in `keyed` or `keyed_metrics` asks for a key.
_API: tuple[tuple[str, str, Handler], ...] = (
    ("POST", "/chat/completions", followed(keyed(chat_completions))),
    ("POST", "/images/generations", followed(keyed(generate))),
    ("POST", "/images/edits", followed(keyed(edit))),
    ("GET", "/models", keyed(list_models)),
    ("GET", "/models/{name:.+}", keyed(get_model)),
    ("GET", "/health", health),
)

#: What is there once, for whoever looks after the daemon.
_ROOT: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/health", health),
    ("GET", "/livez", livez),
    ("GET", "/readyz", readyz),
    ("GET", "/metrics", keyed_metrics(metrics)),
)

#: The API stands under both, since clients differ in what they take for its base.
PREFIXES = ("/v1", "/api/v1")


def add_routes(app: web.Application) -> None:
    """Add every route."""
    for prefix in PREFIXES:
        for method, path, handler in _API:
            _add(app, method, prefix + path, handler)
    for method, path, handler in _ROOT:
        _add(app, method, path, handler)


def _add(app: web.Application, method: str, path: str, handler: Handler) -> None:
    """Add a route; what answers GET answers HEAD too, which monitors send."""
    for each in (method, "HEAD") if method == "GET" else (method,):
        app.router.add_route(each, path, handler)
