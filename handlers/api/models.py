"""GET /models and /models/{id}: in the form of OpenAI's API, or of Anthropic's for its own clients."""

from __future__ import annotations

from aiohttp import web

from bridge.dialects.messages import models as messages_models
from bridge.dialects.messages.errors import VERSION_HEADER
from bridge.dialects.openai import models as openai_models
from bridge.errors import CHARS_PER_TOKEN
from handlers.request.answers import ok_response
from handlers.request.appkeys import KEY, MODELS, SETTINGS


async def list_models(request: web.Request) -> web.Response:
    """All models that the key may use."""
    models = request.app[MODELS]
    visible = models.visible(await models.available(), request[KEY])
    if VERSION_HEADER in request.headers:
        return ok_response(messages_models.encode_page(list(visible), request.query, _max_tokens(request)))
    return ok_response(openai_models.encode_list(visible, _max_tokens(request)))


async def get_model(request: web.Request) -> web.Response:
    """One model, by any of its names, which may contain slashes."""
    name = request.match_info["name"].strip("/")  # clients that join paths badly add slashes
    model = await request.app[MODELS].resolve(name, request[KEY])
    encode = messages_models.encode_one if VERSION_HEADER in request.headers else openai_models.encode_one
    return ok_response(encode(name, model, _max_tokens(request)))


def _max_tokens(request: web.Request) -> int:
    """About how many tokens a prompt may have; the site's limit is in characters."""
    return request.app[SETTINGS].current().upstream.max_prompt_chars // CHARS_PER_TOKEN
