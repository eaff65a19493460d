"""Counting the tokens of a request without asking a model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import orjson
from aiohttp import web

from bridge.answering.chat import ChatRequest
from bridge.answering.prompting import request_tokens
from bridge.dialects.dialect import StatefulDialect
from bridge.dialects.fields import Fields
from bridge.dialects.files import FileReader
from handlers.api.parsing import parse_request
from handlers.request.admission import hold_memory
from handlers.request.answers import ok_response
from handlers.request.appkeys import HEAVY_WORK, MODELS, Handler
from handlers.request.body import read_body
from handlers.request.model_call import ModelCall


def count_handler(
    read: Callable[[Fields, FileReader, str], ChatRequest],
    answer: Callable[[int], object],
    stateful: StatefulDialect | None = None,
) -> Handler:
    """Make the handler that counts the tokens of the chat that `read` reads; `answer` makes the document of a count.

    Pictures have no tokens here, so none is fetched. `stateful` is as in `parse_request`.
    """

    async def count(request: web.Request) -> web.Response:
        call = ModelCall.of(request)
        app, key, server = call.app, call.key, call.config.server
        async with hold_memory(call):
            body = await read_body(request, limit=server.max_body_bytes, timeout=server.body_timeout)
            chat, _ = await parse_request(body, read, lambda *_: (), call, stateful=stateful)
            await app[MODELS].resolve(chat.model, key)
            tokens = await request_tokens(chat, partial(app[HEAVY_WORK].run, key.id))
            return ok_response(orjson.dumps(answer(tokens)))

    return count
