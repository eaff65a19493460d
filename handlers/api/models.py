"""GET /models and /models/{id}: in the form of OpenAI's API, or of Anthropic's for its own clients."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from bridge.dialects.messages import models as messages_models
from bridge.dialects.messages.errors import VERSION_HEADER
from bridge.dialects.openai import models as openai_models
from bridge.errors import CHARS_PER_TOKEN
from bridge.headers import REASON
from handlers.request.answers import json_response
from handlers.request.appkeys import KEY, MODELS, SETTINGS
from upstream.protocol.errors import Reason

_OK: Final = {REASON: Reason.OK.value}


async def list_models(request: web.Request) -> web.Response:
    """Every model that the key may use."""
    models = request.app[MODELS]
    visible = models.visible(await models.available(), request[KEY])
    if VERSION_HEADER in request.headers:
        return json_response(
            messages_models.encode_page(list(visible), request.query, _max_tokens(request)), headers=_OK
        )
    return json_response(openai_models.encode_list(visible, _max_tokens(request)), headers=_OK)


async def get_model(request: web.Request) -> web.Response:
    """One model, by any of its names; a name may contain slashes."""
    name = request.match_info["name"].strip("/")  # slashes around it belong to a path that was put together badly
    model = await request.app[MODELS].resolve(name, request[KEY])
    encode = messages_models.encode_one if VERSION_HEADER in request.headers else openai_models.encode_one
    return json_response(encode(name, model, _max_tokens(request)), headers=_OK)


def _max_tokens(request: web.Request) -> int:
    """How many tokens the site takes, more or less; its limit is in characters."""
    return request.app[SETTINGS].current().upstream.max_prompt_chars // CHARS_PER_TOKEN
