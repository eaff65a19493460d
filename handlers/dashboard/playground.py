"""The Playground page: streamed chats with any model, with pictures, through the API's own handlers."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final

from aiohttp import web

from bridge.access.logins import Login
from bridge.errors import ApiError
from handlers.api.asking import dialect_handler
from handlers.api.images import generate
from handlers.dashboard.models import listed
from handlers.dashboard.operator_chat import OPERATOR_CHAT, reworded
from handlers.dashboard.owner import OWNER
from handlers.dashboard.pages import render
from handlers.dashboard.wording import IN_ACCOUNTS
from handlers.request.appkeys import RECORD, SETTINGS
from handlers.request.body import read_body
from handlers.request.middlewares import act_for, track
from upstream.loop.threads import Threads

#: The longest text that is shown as Markdown, in bytes: 64 KiB take a second at worst, prose a tenth of that.
MAX_MARKDOWN_BYTES: Final = 128 * 1024
#: The lock for rendering, since one text at a time is rendered, in a thread.
RENDERING: Final = web.AppKey("rendering", Threads)

#: A user who stops an answer or repeats a question in the playground wants a new answer.
_ask: Final = dialect_handler(OPERATOR_CHAT, joins=False)


async def playground(request: web.Request, login: Login) -> web.StreamResponse:
    """GET /dashboard/playground."""
    rows = listed(request.app)
    chosen = request.query.get("model", "")
    images = request.app[SETTINGS].config.images
    shown = {
        "rows": rows,
        "chosen": chosen if any(row.name == chosen for row in rows) else "",
        "max_bytes": images.max_bytes,
        "max_pictures": images.max_per_request,
        "max_markdown": MAX_MARKDOWN_BYTES,
        "accounts": " ".join(IN_ACCOUNTS),
    }
    return await render(request, "playground.html", login, shown)


async def chat(request: web.Request, _: Login) -> web.StreamResponse:
    """POST /dashboard/playground/chat: like POST /v1/chat/completions, for the logged-in operator."""
    act_for(OWNER, request)
    request[RECORD].api = OPERATOR_CHAT.name
    track(request)
    return await _reworded(_ask(request))


async def draw(request: web.Request, _: Login) -> web.StreamResponse:
    """POST /dashboard/playground/draw: like POST /v1/images/generations, for the logged-in operator."""
    act_for(OWNER, request)
    request[RECORD].api = "images"
    track(request)
    return await _reworded(generate(request))


async def markdown(request: web.Request, _: Login) -> web.StreamResponse:
    """POST /dashboard/playground/markdown: HTML of the text that is the body. 422 if that takes too long."""
    app = request.app
    request[RECORD].quiet = True  # a page asks twice a second while an answer is streamed
    timeout = app[SETTINGS].config.server.body_timeout
    text = await read_body(request, limit=MAX_MARKDOWN_BYTES, timeout=timeout, is_json=False)
    html = await app[RENDERING].run(_rendered, text.decode(errors="replace"))
    if html is None:
        raise ApiError(422, "too_slow", "This text takes too long to be shown as Markdown.")
    return web.Response(text=html, content_type="text/html")


def _rendered(text: str) -> str | None:
    # Deferred to the thread: the import takes 0.1 s, and most daemons never need it.
    from handlers.dashboard.markdown import TooSlow, rendered

    try:
        return rendered(text)
    except TooSlow:
        return None


async def _reworded(answer: Awaitable[web.StreamResponse]) -> web.StreamResponse:
    """Await an answer of the API; its errors get advice for the operator."""
    try:
        return await answer
    except ApiError as error:
        raise reworded(error) from None
