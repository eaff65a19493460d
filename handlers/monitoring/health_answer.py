"""GET /health: JSON for programs, a small page for browsers. It needs no key, and shows no secrets."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import orjson
from aiohttp import web

from bridge.headers import REASON
from handlers.dashboard.pages import HEADERS, TEMPLATES, render
from handlers.monitoring.combined_health import DOWN
from handlers.monitoring.health import health_of_all
from handlers.request.answers import json_response

_HEADLINES: Final = {"ok": "All is well", "degraded": "Working, with problems", DOWN: "No chat can be answered now"}


async def health(request: web.Request) -> web.Response:
    """200 if a chat could be served, else 503; the body says what is degraded."""
    body = health_of_all(request.app)
    status = HTTPStatus.OK if body["status"] != DOWN else HTTPStatus.SERVICE_UNAVAILABLE
    headers = {REASON: body["reason"], "Vary": "Accept"}
    if not _wants_page(request):
        return json_response(orjson.dumps(body), status=status, headers=headers)
    page = await _page(request, body, status)
    page.headers.update(headers)
    return page


def _wants_page(request: web.Request) -> bool:
    """Whether the caller is a browser: programs accept JSON, or do not name HTML."""
    accepted = request.headers.get("Accept", "")
    return "text/html" in accepted and "json" not in accepted


async def _page(request: web.Request, body: Mapping[str, Any], status: HTTPStatus) -> web.Response:
    await request.app[TEMPLATES].compile()
    shown = {"health": body, "headline": _HEADLINES[body["status"]], "serving": status is HTTPStatus.OK}
    page = await render(request, "health.html", None, shown, status=status)
    page.headers.update(HEADERS)
    return page
