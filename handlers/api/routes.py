"""Every path: its handler, the checks before it, the API that it speaks, and its description in `/openapi.json`.

Each call is one row of a table, so that none is served without being described, or described without being served.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from aiohttp import web

from bridge.dialects.completions.dialect import COMPLETIONS
from bridge.dialects.dialect import Dialect
from bridge.dialects.messages.dialect import MESSAGES
from bridge.dialects.messages.errors import ANTHROPIC
from bridge.dialects.messages.request import count_request
from bridge.dialects.openai.chat import CHAT_COMPLETIONS
from bridge.dialects.openai.errors import OPENAI
from bridge.dialects.responses.dialect import Responses, count_responses
from handlers.api import operations
from handlers.api.asking import dialect_handler
from handlers.api.counting import count_handler
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
from handlers.monitoring.health_answer import health
from handlers.monitoring.metrics import metrics
from handlers.monitoring.probes import livez, readyz
from handlers.reference.docs import DOCS_PAGE, DocsPage, docs
from handlers.reference.operation import DescribedCall, Operation
from handlers.reference.served import REFERENCE, Reference, openapi
from handlers.request.appkeys import CALLS, ROUTES, STORED_RESPONSES, AccessCheck, Handler, Route
from handlers.request.middlewares import require_key, require_metrics_key, track
from handlers.request.paths import MisspelledPaths

#: The API is served under both, since clients differ in what they take for its base URL.
PREFIXES: Final = ("/v1", "/api/v1")

_ASKS_A_MODEL: Final = (track, require_key)

#: Makes the handler of a call, which may need objects that the app owns.
_HandlerFactory: TypeAlias = Callable[[web.Application], tuple[Handler, Route]]


class _Call(NamedTuple):
    """One call. `path` is below the prefixes, or below the root."""

    method: str
    path: str
    make_handler: _HandlerFactory
    operation: Operation


def _served(handler: Handler, *checks: AccessCheck) -> _HandlerFactory:
    """A call that asks no model."""
    return lambda _: (handler, Route(checks, OPENAI))


def _draws(handler: Handler) -> _HandlerFactory:
    """A call that asks a model for pictures."""
    return lambda _: (handler, Route(_ASKS_A_MODEL, OPENAI, "images"))


def _asks(dialect: Dialect) -> _HandlerFactory:
    """A call that asks a model in a dialect."""
    return lambda _: (dialect_handler(dialect), Route(_ASKS_A_MODEL, dialect, dialect.name))


def _asks_responses(app: web.Application) -> tuple[Handler, Route]:
    return _asks(Responses(app[STORED_RESPONSES], time.time))(app)


def _counts_response(app: web.Application) -> tuple[Handler, Route]:
    stored = app[STORED_RESPONSES]
    handler = count_handler(count_responses(stored), _input_tokens, Responses(stored, time.time))
    return handler, Route((require_key,), OPENAI)


def _counts_message(_: web.Application) -> tuple[Handler, Route]:
    return count_handler(count_request, _message_tokens), Route((require_key,), ANTHROPIC)


def _message_tokens(tokens: int) -> object:
    return {"input_tokens": tokens}


def _input_tokens(tokens: int) -> object:
    return {"object": "response.input_tokens", "input_tokens": tokens}


#: The calls below each prefix.
_API: Final = (
    _Call("POST", "/chat/completions", _asks(CHAT_COMPLETIONS), operations.CHAT),
    _Call("POST", "/responses", _asks_responses, operations.RESPONSES),
    _Call("POST", "/responses/input_tokens", _counts_response, operations.COUNT_RESPONSE),
    _Call("GET", "/responses/{id}", _served(get_response, require_key), operations.GET_RESPONSE),
    _Call("DELETE", "/responses/{id}", _served(delete_response, require_key), operations.DELETE_RESPONSE),
    _Call("GET", "/responses/{id}/input_items", _served(input_items, require_key), operations.INPUT_ITEMS),
    _Call("POST", "/responses/{id}/cancel", _served(cancel_response, require_key), operations.CANCEL_RESPONSE),
    _Call("GET", "/responses", _served(no_websocket, require_key), operations.NO_WEBSOCKET),
    _Call("POST", "/responses/compact", _served(no_compaction, require_key), operations.NO_COMPACTION),
    _Call("POST", "/messages", _asks(MESSAGES), operations.MESSAGES),
    _Call("POST", "/messages/count_tokens", _counts_message, operations.COUNT_MESSAGE),
    _Call("POST", "/completions", _asks(COMPLETIONS), operations.COMPLETIONS),
    _Call("POST", "/images/generations", _draws(generate), operations.GENERATE),
    _Call("POST", "/images/edits", _draws(edit), operations.EDIT),
    _Call("GET", "/models", _served(list_models, require_key), operations.MODELS),
    _Call("GET", "/models/{name:.+}", _served(get_model, require_key), operations.MODEL),
    _Call("GET", "/health", _served(health), operations.HEALTH_BELOW),
)

#: The calls below the root.
_ROOT: Final = (
    _Call("GET", "/health", _served(health), operations.HEALTH),
    _Call("GET", "/livez", _served(livez), operations.LIVEZ),
    _Call("GET", "/readyz", _served(readyz), operations.READYZ),
    _Call("GET", "/metrics", _served(metrics, require_metrics_key), operations.METRICS),
    _Call("GET", "/openapi.json", _served(openapi), operations.OPENAPI),
    _Call("GET", "/docs", _served(docs), operations.DOCS),
)


def add_routes(app: web.Application) -> None:
    """Add every route, and register the checks, the API and the description of each."""
    app[CALLS] = [(call.method, call.path) for call in _API]
    app[ROUTES] = {}
    described: list[DescribedCall] = []
    for prefixes, calls in ((PREFIXES, _API), (("",), _ROOT)):
        for call in calls:
            handler, route = call.make_handler(app)
            _add(app, call.method, [prefix + call.path for prefix in prefixes], handler, route)
            is_open = require_key not in route.checks
            keyed = not is_open or require_metrics_key in route.checks
            path = prefixes[0] + call.path
            apis = (OPENAI, ANTHROPIC) if call.operation.in_either_form else (route.api,)
            described.append(DescribedCall(call.method, path, apis, keyed, is_open, call.operation))
    app[REFERENCE] = Reference(described, operations.TAGS)
    app[DOCS_PAGE] = DocsPage()
    app.router.register_resource(MisspelledPaths(app.router))


def add_dialect(app: web.Application, path: str, dialect: Dialect) -> None:
    """Add a call that asks a model in `dialect`, without a description: POST `path` below the prefixes, with a key."""
    app[CALLS].append(("POST", path))
    _add(app, "POST", [prefix + path for prefix in PREFIXES], *_asks(dialect)(app))


def _add(app: web.Application, method: str, paths: list[str], handler: Handler, route: Route) -> None:
    """Add a route at each path. A handler of GET also answers HEAD, which monitors send."""
    app[ROUTES][handler] = route
    for path in paths:
        for each in (method, "HEAD") if method == "GET" else (method,):
            app.router.add_route(each, path, handler)
