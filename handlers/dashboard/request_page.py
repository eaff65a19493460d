"""The page of one request: its parameters, its timeline, its outcome and the cause, and its actions."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import Final

from aiohttp import web

from bridge.access.logins import Login
from bridge.activity.entry import Entry
from bridge.activity.explanations import advice_for, bug_report, conversation_of
from bridge.errors import not_found
from bridge.state.errors import StateError
from handlers.dashboard.activity import KEPT
from handlers.dashboard.instances import INSTANCES
from handlers.dashboard.pages import render, template
from handlers.dashboard.timeline import WIDTH, bars_of
from handlers.request.appkeys import ACTIVITY_STORE
from handlers.request.recording import RECORDER

#: The file's name never contains text that a caller or the site has sent.
_FILE_NAME: Final = "lmarena-bridge-recording.json"
#: The only addresses that are linked: those of evaluations, as the bridge itself composes them.
_EVALUATION: Final = re.compile(r"https?://[\w.\-]+(?::\d+)?/c/[\w\-]+", re.ASCII)


async def request_page(request: web.Request, login: Login) -> web.StreamResponse:
    """GET /dashboard/activity/{id}, and its live part while the request runs. Raises ApiError (404)."""
    app, request_id = request.app, request.match_info["id"]
    running = await app[INSTANCES].find(request_id)
    if running is not None:
        entry: Entry | None = running.entry
    else:
        await app[ACTIVITY_STORE].flush()
        try:
            entry = await app[KEPT].get(request_id)
        except OSError as error:
            raise StateError(f"the stored requests cannot be read: {error.strerror}") from None
    if entry is None:
        raise not_found(f"There is no stored request {request_id}: it is too old, or the id is wrong.")
    shown = {
        "entry": entry,
        "running": running,
        "bars": bars_of(entry if running is None else replace(entry, seconds=time.time() - entry.at)),
        "width": WIDTH,
        "advice": advice_for(entry),
        "conversation": conversation_of(entry),
        "linked": bool(_EVALUATION.fullmatch(entry.evaluation)),
        "report": bug_report(entry),
        "recorded": app[RECORDER].kept(request_id) is not None,
    }
    return await render(request, template(request, "request"), login, shown)


async def download(request: web.Request, _: Login) -> web.StreamResponse:
    """GET /dashboard/activity/{id}/recording: the request's recording, without texts. Raises ApiError (404)."""
    recorder = request.app[RECORDER]
    material = recorder.kept(request.match_info["id"])
    if material is None:
        raise not_found("There is no recording of this request: it is too old, or recording.keep_mb is 0.")
    headers = {"Content-Disposition": f'attachment; filename="{_FILE_NAME}"'}
    return web.Response(body=await recorder.make(material), content_type="application/json", headers=headers)
