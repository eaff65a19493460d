"""Counting the tokens of a request without asking a model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import orjson
from aiohttp import web

from bridge.answering.chat import ChatRequest
from bridge.answering.prompting import request_tokens
from bridge.dialects.dialect import StatefulDialect
from bridge.dialects.fields import Fields
from bridge.dialects.files import FileReader
from bridge.headers import REASON
from handlers.api.asking import read_with
from handlers.request.admission import hold_memory
from handlers.request.answers import json_response
from handlers.request.appkeys import HEAVY, KEY, MODELS, SETTINGS, Handler
from upstream.protocol.errors import Reason

_OK: Final = {REASON: Reason.OK.value}


def counting(
    read: Callable[[Fields, FileReader, str], ChatRequest],
    answer: Callable[[int], object],
    remembered: StatefulDialect | None = None,
) -> Handler:
    """Make the handler that counts what `read` reads; `answer` makes the document that says how much.

    Pictures have no tokens here, so that none is fetched. `remembered` is as `read_with` has it.
    """

    async def count(request: web.Request) -> web.Response:
        key, config = request[KEY], request.app[SETTINGS].current()
        async with hold_memory(request, key, config):
            chat, _ = await read_with(read, lambda *_: (), request, config, remembered)
            await request.app[MODELS].resolve(chat.model, key)
            tokens = await request_tokens(chat, partial(request.app[HEAVY].run, key.id))
            return json_response(orjson.dumps(answer(tokens)), headers=_OK)

    return count
