"""The Playground page: streamed chats with any model, with pictures, through the API's own handlers."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from bridge.access.logins import Login
from bridge.dialects.openai.chat import CHAT_COMPLETIONS
from handlers.api.asking import asking
from handlers.api.images import generate
from handlers.dashboard.models import listed
from handlers.dashboard.owner import OWNER
from handlers.dashboard.pages import render
from handlers.request.appkeys import MODELS, RECORD, SETTINGS
from handlers.request.middlewares import act_for, follow

_ask: Final = asking(CHAT_COMPLETIONS)


async def playground(request: web.Request, login: Login) -> web.StreamResponse:
    """GET /dashboard/playground."""
    rows = listed(request.app[MODELS])
    groups = {
        "Chat": [row for row in rows if "chat" in row.traits],
        "Search": [row for row in rows if "search" in row.traits],
        "Pictures": [row for row in rows if "draws" in row.traits],
    }
    images = request.app[SETTINGS].config.images
    shown = {
        "groups": groups,
        "chosen": request.query.get("model", ""),
        "max_bytes": images.max_bytes,
        "max_pictures": images.max_per_request,
    }
    return await render(request, "playground.html", login, shown)


async def chat(request: web.Request, _: Login) -> web.StreamResponse:
    """POST /dashboard/playground/chat: like POST /v1/chat/completions, for the logged-in operator."""
    act_for(OWNER, request)
    request[RECORD].api = CHAT_COMPLETIONS.name
    follow(request)
    return await _ask(request)


async def draw(request: web.Request, _: Login) -> web.StreamResponse:
    """POST /dashboard/playground/draw: like POST /v1/images/generations, for the logged-in operator."""
    act_for(OWNER, request)
    request[RECORD].api = "images"
    follow(request)
    return await generate(request)
