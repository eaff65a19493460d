"""The Settings page: the current settings and their origins, reading bridge.toml again, and this process."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson
from aiohttp import web

from bridge.access.logins import Login
from bridge.config.origins import Origin, Source
from bridge.config.schema import LEVELS
from bridge.config.shown import ShownSetting, shown_settings
from bridge.errors import ApiError
from bridge.log import redact
from bridge.state.errors import StateError
from handlers.daemon.reloading import RELOADING, SWITCH_SECONDS, LogSwitch, RereadResult
from handlers.dashboard.diagnosis_file import diagnosis
from handlers.dashboard.guard import read_form, see_other
from handlers.dashboard.pages import render
from handlers.dashboard.process import process_of
from handlers.request.appkeys import MODELS, SETTINGS, STATE, STATS
from handlers.workers.link import LINK, ParentSilent

#: The filters of the table, and their labels.
TRAITS: Final = {"changed": "not the default", "restart": "needs a restart", "secret": "secret"}

MAX_SEARCH_CHARS: Final = 200

_PASTED: Final = Origin(Source.DASHBOARD, "Accounts")


class Row(NamedTuple):
    """A setting. `waiting` is a new value in bridge.toml that needs a restart, '' for none.

    `found` is whether it matches the search.
    """

    setting: ShownSetting
    waiting: str
    found: bool = True

    @property
    def searched(self) -> str:
        """The text that is searched."""
        return f"{self.setting.name} {self.setting.description}"

    @property
    def traits(self) -> Sequence[str]:
        """The keys of TRAITS that apply to it."""
        has = {
            "changed": not self.setting.is_default,
            "restart": self.setting.needs_restart,
            "secret": self.setting.secret,
        }
        return [trait for trait, true in has.items() if true]


async def settings(request: web.Request, login: Login) -> web.StreamResponse:
    """GET /dashboard/settings."""
    return await _page(request, login)


async def read_again(request: web.Request, login: Login) -> web.StreamResponse:
    """POST /dashboard/settings/reread: read bridge.toml again in all workers, as SIGHUP does, and show the outcome."""
    app = request.app
    await read_form(request)  # which holds nothing, but must be one
    if LINK not in app:
        await app[RELOADING].read_again()
        return await _page(request, login, asked=True)
    try:
        outcomes = await app[LINK].reload_all()
    except ParentSilent as error:
        raise ApiError(503, "not_saved", "The workers' parent process does not answer: nothing was read.") from error
    return await _page(request, login, asked=True, outcomes=outcomes)


async def switch_log(request: web.Request, _: Login) -> web.StreamResponse:
    """POST /dashboard/settings/log: change the log level of all workers for a while, or reset it. Raises ApiError."""
    form = await read_form(request)
    switch: LogSwitch | None = None
    if form.get("off") != "yes":
        try:
            value = {"level": form.get("level"), "prompts": form.get("prompts") == "yes"}
            switch = LogSwitch.read({**value, "until": time.time() + SWITCH_SECONDS})
        except ValueError as error:
            raise ApiError(400, "refused", f"The log's level must be one of {', '.join(LEVELS)}.") from error
    request.app[RELOADING].switch_log(switch)
    if LINK in request.app:
        request.app[LINK].switch_log(None if switch is None else switch._asdict())
    return see_other("/dashboard/settings#log")


async def download(request: web.Request, _: Login) -> web.StreamResponse:
    """GET /dashboard/settings/diagnosis.json: for a bug report, without secrets and names."""
    app = request.app
    try:
        stats = await app[STATS].read()
    except StateError:  # the diagnosis is about problems: those of this process suffice
        stats = app[STATS].stats
    body = orjson.dumps(diagnosis(app, await process_of(app), stats), option=orjson.OPT_INDENT_2)
    headers = {"Content-Disposition": 'attachment; filename="lmarena-bridge-diagnosis.json"'}
    return web.Response(body=body, content_type="application/json", headers=headers)


async def _page(
    request: web.Request, login: Login, *, asked: bool = False, outcomes: Sequence[tuple[int, bool | None]] = ()
) -> web.Response:
    app = request.app
    reloading = app[RELOADING]
    config = app[SETTINGS].config
    q, wanted = request.query.get("q", "")[:MAX_SEARCH_CHARS], request.query.getall("is", [])
    context: Mapping[str, Any] = {
        "rows": [row._replace(found=_fits(row, q, wanted)) for row in rows_of(app)],
        "q": q,
        "wanted": wanted,
        "traits": TRAITS,
        "source": config.source,
        "asked": asked,
        "last": _without_secrets(reloading.last),
        "silent": [number for number, well in outcomes if well is None],
        "waiting": reloading.needing_restart,
        "process": await process_of(app),
        "models": app[MODELS],
        "levels": LEVELS,
        "log": config.log,
        "switched": reloading.switched,
        "minutes": round(SWITCH_SECONDS / 60),
    }
    return await render(request, "settings.html", login, context)


def rows_of(app: web.Application) -> list[Row]:
    """All current settings, in the order of bridge.toml, with the pasted clearance if that is in use."""
    config, clearance = app[SETTINGS].config, app[STATE].admin.clearance
    waiting = {change.name: change.after for change in app[RELOADING].needing_restart}
    rows = [Row(setting, waiting.get(setting.name, "")) for setting in shown_settings(config)]
    if clearance is None or not clearance.replaces(config.upstream.cf_clearance.value):
        return rows
    pasted = {"upstream.cf_clearance": None} | (
        {"upstream.user_agent": clearance.user_agent} if clearance.user_agent else {}
    )
    return [
        Row(row.setting._replace(value=pasted[row.setting.name], is_set=True, origin=_PASTED), "")
        if row.setting.name in pasted
        else row
        for row in rows
    ]


def _fits(row: Row, q: str, wanted: Sequence[str]) -> bool:
    """Whether a row contains every word, and has every trait."""
    text = row.searched.lower()
    return all(word in text for word in q.lower().split()) and set(wanted) <= set(row.traits)


def _without_secrets(reread: RereadResult | None) -> RereadResult | None:
    """The same result, with secrets redacted that a damaged file may quote."""
    if reread is None:
        return None
    return reread._replace(problems=tuple(each._replace(message=redact(each.message)) for each in reread.problems))
