"""The Activity page: running and recent requests, live; and a button to end a running answer."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from bridge.access.logins import Login
from bridge.errors import ended_by_owner
from handlers.dashboard.guard import read_form, see_other
from handlers.dashboard.pages import render, template
from handlers.request.appkeys import ACTIVITY, SETTINGS

#: Rows of the page: running requests first, then the last that ended.
MAX_ROWS: Final = 100


async def activity(request: web.Request, login: Login) -> web.StreamResponse:
    """GET /dashboard/activity, and its live part."""
    rows = list(request.app[ACTIVITY].newest())
    return await render(
        request,
        template(request, "activity"),
        login,
        {
            "rows": rows[:MAX_ROWS],
            "running": sum(record.status is None for record in rows),
            "debug": request.app[SETTINGS].config.log.debug,
        },
    )


async def end(request: web.Request, _: Login) -> web.StreamResponse:
    """POST /dashboard/activity/end: end an answer with an error to its caller, and close the upstream call."""
    number = (await read_form(request)).get("number", "")
    record = request.app[ACTIVITY].running(int(number)) if number.isdecimal() and len(number) < 20 else None
    if record is not None and record.lifetime is not None:
        record.lifetime.end(ended_by_owner())
    return see_other("/dashboard/activity")
