"""The Models page: all models of the site with this bridge's measurements, and those that are new or gone."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

from aiohttp import web

from bridge.access.logins import Login
from bridge.errors import ApiError
from bridge.state.errors import StateError
from bridge.state.model_news import Gone, ModelNews
from handlers.dashboard.guard import read_form, see_other
from handlers.dashboard.model_table import COLUMNS, MEASURED_DAYS, TRAITS, Measured, Row, asked_for, measured, of_model
from handlers.dashboard.owner import OWNER
from handlers.dashboard.pages import render
from handlers.request.appkeys import MODEL_NEWS, MODELS, SETTINGS, STATE, STATS
from upstream.protocol.models import Model

#: How long the page that *Read now* leads to shows the changes, in seconds.
_READ_SECONDS: Final = 600.0


class Reading(NamedTuple):
    """The changes that reading the list has shown."""

    models: int
    new: Sequence[str]
    gone: Sequence[str]


async def models(request: web.Request, login: Login) -> web.StreamResponse:
    """GET /dashboard/models."""
    app = request.app
    known, now = app[MODELS], time.time()
    asked = asked_for(request.query.items())
    news = await _news(app)
    rows = listed(app, await asyncio.to_thread(measured, await app[STATS].read()), news)
    gone = _gone(app, news)
    return await render(
        request,
        "models.html",
        login,
        {
            "asked": asked,
            "columns": COLUMNS,
            "rows": asked.in_order(rows),
            "found": sum(map(asked.shows, rows)),
            "failure": known.failure,
            "traits": TRAITS,
            "counts": Counter(trait for row in rows for trait in row.traits),
            "stealth": app[SETTINGS].config.models.stealth,
            "days": MEASURED_DAYS,
            "longest": app[SETTINGS].config.upstream.max_prompt_chars,
            "gone": gone,
            "read_at": None if known.age is None else now - known.age,
            "reading": _reading(request.query.get("read", ""), now, rows, news, gone),
        },
    )


def listed(
    app: web.Application,
    found: Mapping[str, Measured] = MappingProxyType({}),
    news: ModelNews | None = None,
) -> list[Row]:
    """The models in the order of the API's list, favourites first; stealth models only if the configuration allows."""
    known, favourites, now = app[MODELS], app[STATE].admin.favourites, time.time()
    if known.catalog is None:
        return []
    rows = [
        Row(
            name,
            model.display_name if model.display_name != model.name else None,
            model.organization or "unnamed",
            model.rank,
            _traits(model, is_new=news is not None and news.is_new(model.name, now)),
            name in favourites,
            of_model(found, model.name),
        )
        for name, model in known.visible(known.catalog, OWNER)
        if not model.video
    ]
    return sorted(rows, key=lambda row: not row.star)


async def read(request: web.Request, _: Login) -> web.StreamResponse:
    """POST /dashboard/models/read: read the site's list at once."""
    asked = _asked_before(await read_form(request))
    at = int(time.time())
    await request.app[MODELS].read_now()
    return see_other(f"/dashboard/models?{asked}{'&' if asked else ''}read={at}")


async def star(request: web.Request, _: Login) -> web.StreamResponse:
    """POST /dashboard/models/star: make a model a favourite (`add`), or no longer (`remove`)."""
    form = await read_form(request)
    name = form.get("add") or form.get("remove", "")
    try:
        if not name:
            raise ValueError("no model was given")
        await request.app[STATE].update_admin(lambda admin: admin.with_favourite(name, wanted=bool(form.get("add"))))
    except ValueError as error:
        raise ApiError(400, "refused", f"This cannot be a favourite: {error}.") from error
    if "X-CSRF-Token" in request.headers:
        return web.Response(status=204)
    asked = _asked_before(form)
    return see_other("/dashboard/models" + (f"?{asked}" if asked else ""))


def _asked_before(form: Mapping[str, str]) -> str:
    """The valid part of the query of the page that has the form."""
    return asked_for(parse_qsl(form.get("at", ""), max_num_fields=20)).query


async def _news(app: web.Application) -> ModelNews:
    try:
        return await app[MODEL_NEWS].read()
    except StateError:  # health says why; the list is useful without measurements
        return ModelNews()


def _gone(app: web.Application, news: ModelNews) -> list[Gone]:
    """The models that are gone, except those that the configuration hides."""
    config = app[SETTINGS].config.models
    return [
        each
        for each in news.gone
        if (each.maker or config.stealth) and not any(fnmatchcase(each.name, glob) for glob in config.hide)
    ]


def _reading(asked: str, now: float, rows: Sequence[Row], news: ModelNews, gone: Sequence[Gone]) -> Reading | None:
    """The changes of the reading whose unix time the URL has; None for any other time."""
    at = int(asked) if asked.isdecimal() and len(asked) < 12 else 0
    if not now - _READ_SECONDS < at <= now:
        return None
    new = [row.name for row in rows if news.new.get(row.name, 0.0) >= at]
    return Reading(len(rows), new, [each.name for each in gone if each.at >= at])


def _traits(model: Model, *, is_new: bool) -> tuple[str, ...]:
    has = {
        "sees": "image" in model.inputs,
        "draws": model.modality == "image",
        "search": model.modality == "search",
        "chat": model.modality == "chat",
        "stealth": model.stealth,
        "new": is_new,
    }
    return tuple(trait for trait, true in has.items() if true)
