"""GET /models and /models/{id}."""

from __future__ import annotations

from aiohttp import web

from bridge.dialects.openai.models import encode_list, encode_one
from handlers.request.answers import json_response
from handlers.request.appkeys import KEY, MODELS
from upstream.protocol.errors import Reason

_OK = {"x-bridge-reason": Reason.OK.value}


async def list_models(request: web.Request) -> web.Response:
    """Every model that the key may use."""
    models = request.app[MODELS]
    return json_response(encode_list(models.visible(await models.available(), request[KEY])), headers=_OK)


async def get_model(request: web.Request) -> web.Response:
    """One model, by any of its names; a name may contain slashes."""
    name = request.match_info["name"].strip("/")  # slashes around it belong to a path that was put together badly
    return json_response(encode_one(name, await request.app[MODELS].resolve(name, request[KEY])), headers=_OK)
