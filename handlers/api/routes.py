"""Every path: its handler, what stands before it, and the API that it speaks."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from bridge.dialects.dialect import Dialect
from bridge.dialects.openai.chat import CHAT_COMPLETIONS
from bridge.dialects.openai.errors import OPENAI
from handlers.api.asking import asking
from handlers.api.images import edit, generate
from handlers.api.models import get_model, list_models
from handlers.monitoring.health import health
from handlers.monitoring.metrics import metrics
from handlers.monitoring.probes import livez, readyz
from handlers.request.appkeys import CALLS, ROUTES, Door, Handler, Route
from handlers.request.middlewares import follow, require_key, require_metrics_key
from handlers.request.paths import MisspelledPaths

#: The API stands under both, since clients differ in what they take for its base.
PREFIXES: Final = ("/v1", "/api/v1")

_ASKS_A_MODEL: Final = (follow, require_key)

#: Dialects that ask a model, by their path below the prefix.
_DIALECTS: Final[dict[str, Dialect]] = {"/chat/completions": CHAT_COMPLETIONS}

#: (method, path below the prefix, handler, what stands before it).
_API: Final[tuple[tuple[str, str, Handler, tuple[Door, ...]], ...]] = (
    ("POST", "/images/generations", generate, _ASKS_A_MODEL),
    ("POST", "/images/edits", edit, _ASKS_A_MODEL),
    ("GET", "/models", list_models, (require_key,)),
    ("GET", "/models/{name:.+}", get_model, (require_key,)),
    ("GET", "/health", health, ()),
)

#: What is there once, for the operator of the daemon.
_ROOT: Final[tuple[tuple[str, str, Handler, tuple[Door, ...]], ...]] = (
    ("GET", "/health", health, ()),
    ("GET", "/livez", livez, ()),
    ("GET", "/readyz", readyz, ()),
    ("GET", "/metrics", metrics, (require_metrics_key,)),
)


def add_routes(app: web.Application) -> None:
    """Add every route, and say of each handler what stands before it and which API it speaks."""
    app[CALLS] = []
    app[ROUTES] = {handler: Route(doors, OPENAI) for _, _, handler, doors in _API + _ROOT}
    for path, dialect in _DIALECTS.items():
        add_dialect(app, path, dialect)
    app[CALLS].extend((method, path) for method, path, _, _ in _API)
    for prefix in PREFIXES:
        for method, path, handler, _ in _API:
            _add(app, method, prefix + path, handler)
    for method, path, handler, _ in _ROOT:
        _add(app, method, path, handler)
    app.router.register_resource(MisspelledPaths(app.router))


def add_dialect(app: web.Application, path: str, dialect: Dialect) -> None:
    """Add a front API that asks a model: POST to `path` below the prefixes, with a key."""
    ask = asking(dialect)
    app[CALLS].append(("POST", path))
    app[ROUTES][ask] = Route(_ASKS_A_MODEL, dialect)
    for prefix in PREFIXES:
        _add(app, "POST", prefix + path, ask)


def _add(app: web.Application, method: str, path: str, handler: Handler) -> None:
    """Add a route; what answers GET answers HEAD too, which monitors send."""
    for each in (method, "HEAD") if method == "GET" else (method,):
        app.router.add_route(each, path, handler)
