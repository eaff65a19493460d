"""Every path: its handler, the checks before it, and the API that it speaks."""

from __future__ import annotations

import time
from typing import Final

from aiohttp import web

from bridge.dialects.completions.dialect import COMPLETIONS
from bridge.dialects.dialect import Dialect
from bridge.dialects.messages.dialect import MESSAGES
from bridge.dialects.messages.errors import ANTHROPIC
from bridge.dialects.messages.request import count_request
from bridge.dialects.openai.chat import CHAT_COMPLETIONS
from bridge.dialects.openai.errors import OPENAI
from bridge.dialects.responses.dialect import Responses, count_responses
from handlers.api.asking import asking
from handlers.api.counting import counting
from handlers.api.images import edit, generate
from handlers.api.models import get_model, list_models
from handlers.api.stored_responses import (
    cancel_response,
    delete_response,
    get_response,
    input_items,
    no_compaction,
    no_websocket,
)
from handlers.monitoring.health import health
from handlers.monitoring.metrics import metrics
from handlers.monitoring.probes import livez, readyz
from handlers.request.appkeys import CALLS, RESPONSES, ROUTES, AccessCheck, Handler, Route
from handlers.request.middlewares import follow, require_key, require_metrics_key
from handlers.request.paths import MisspelledPaths

#: The API stands under both, since clients differ in what they take for its base.
PREFIXES: Final = ("/v1", "/api/v1")

_ASKS_A_MODEL: Final = (follow, require_key)


def _message_tokens(tokens: int) -> object:
    return {"input_tokens": tokens}


def _input_tokens(tokens: int) -> object:
    return {"object": "response.input_tokens", "input_tokens": tokens}


#: Dialects that ask a model, by their path below the prefix.
_DIALECTS: Final[dict[str, Dialect]] = {
    "/chat/completions": CHAT_COMPLETIONS,
    "/messages": MESSAGES,
    "/completions": COMPLETIONS,
}

#: Of the Responses API beside asking: (method, path below the prefix, handler).
_STORED_RESPONSES: Final[tuple[tuple[str, str, Handler], ...]] = (
    ("GET", "/responses/{id}", get_response),
    ("DELETE", "/responses/{id}", delete_response),
    ("POST", "/responses/{id}/cancel", cancel_response),
    ("GET", "/responses/{id}/input_items", input_items),
    ("GET", "/responses", no_websocket),
    ("POST", "/responses/compact", no_compaction),
)

#: (method, path below the prefix, handler, checks before it).
_API: Final[tuple[tuple[str, str, Handler, tuple[AccessCheck, ...]], ...]] = (
    ("POST", "/images/generations", generate, _ASKS_A_MODEL),
    ("POST", "/images/edits", edit, _ASKS_A_MODEL),
    ("GET", "/models", list_models, (require_key,)),
    ("GET", "/models/{name:.+}", get_model, (require_key,)),
    ("GET", "/health", health, ()),
)

#: What is there once, for the operator of the daemon.
_ROOT: Final[tuple[tuple[str, str, Handler, tuple[AccessCheck, ...]], ...]] = (
    ("GET", "/health", health, ()),
    ("GET", "/livez", livez, ()),
    ("GET", "/readyz", readyz, ()),
    ("GET", "/metrics", metrics, (require_metrics_key,)),
)


def add_routes(app: web.Application) -> None:
    """Add every route, and register the checks and the API of each handler."""
    app[CALLS] = []
    app[ROUTES] = {
        handler: Route(checks, OPENAI, "images" if checks is _ASKS_A_MODEL else None)
        for _, _, handler, checks in _API + _ROOT
    }
    for path, dialect in _DIALECTS.items():
        add_dialect(app, path, dialect)
    app[CALLS].extend((method, path) for method, path, _, _ in _API)
    responses = Responses(app[RESPONSES], time.time)
    add_dialect(app, "/responses", responses)
    count_input = counting(count_responses(app[RESPONSES]), _input_tokens, responses)
    _add_everywhere(app, "POST", "/responses/input_tokens", count_input, Route((require_key,), OPENAI))
    for method, path, handler in _STORED_RESPONSES:
        _add_everywhere(app, method, path, handler, Route((require_key,), OPENAI))
    count_messages = counting(count_request, _message_tokens)
    _add_everywhere(app, "POST", "/messages/count_tokens", count_messages, Route((require_key,), ANTHROPIC))
    for prefix in PREFIXES:
        for method, path, handler, _ in _API:
            _add(app, method, prefix + path, handler)
    for method, path, handler, _ in _ROOT:
        _add(app, method, path, handler)
    app.router.register_resource(MisspelledPaths(app.router))


def add_dialect(app: web.Application, path: str, dialect: Dialect) -> None:
    """Add a front API that asks a model: POST to `path` below the prefixes, with a key."""
    _add_everywhere(app, "POST", path, asking(dialect), Route(_ASKS_A_MODEL, dialect, dialect.name))


def _add_everywhere(app: web.Application, method: str, path: str, handler: Handler, route: Route) -> None:
    """Add a call of the API, below each prefix."""
    app[CALLS].append((method, path))
    app[ROUTES][handler] = route
    for prefix in PREFIXES:
        _add(app, method, prefix + path, handler)


def _add(app: web.Application, method: str, path: str, handler: Handler) -> None:
    """Add a route; what answers GET answers HEAD too, which monitors send."""
    for each in (method, "HEAD") if method == "GET" else (method,):
        app.router.add_route(each, path, handler)
