"""The Models page: all models that the site lists, with search and filters, and names to copy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from aiohttp import web

from bridge.access.logins import Login
from bridge.errors import ApiError
from bridge.statistics.counts import NO_TOOLS, ToolUse, UsageCounts
from handlers.dashboard.guard import read_form, see_other
from handlers.dashboard.owner import OWNER
from handlers.dashboard.pages import render
from handlers.request.appkeys import MODELS, SETTINGS, STATE, STATS
from upstream.protocol.models import Model

#: The filters of the list, and their labels.
TRAITS = {
    "sees": "sees pictures",
    "draws": "draws",
    "search": "searches the web",
    "chat": "chats",
    "stealth": "stealth",
}


class Row(NamedTuple):
    """One model as the page lists it; `display_name` only where it differs from the public name.

    `tools` is what became of the tools that it was offered since the statistics began.
    """

    name: str
    display_name: str | None
    maker: str
    rank: int | None
    traits: tuple[str, ...]
    tools: ToolUse
    star: bool


async def models(request: web.Request, login: Login) -> web.StreamResponse:
    """GET /dashboard/models."""
    known = request.app[MODELS]
    rows = listed(request.app, (await request.app[STATS].read()).models)
    return await render(
        request,
        "models.html",
        login,
        {
            "rows": rows,
            "failure": known.failure,
            "traits": TRAITS,
            "tools_offered": any(row.tools.offered for row in rows),
            "counts": Counter(trait for row in rows for trait in row.traits),
            "stealth": request.app[SETTINGS].config.models.stealth,
        },
    )


def listed(app: web.Application, used: Mapping[str, UsageCounts] = MappingProxyType({})) -> list[Row]:
    """The models in the order of the API's list, favourites first; stealth models only if the configuration allows."""
    known, favourites = app[MODELS], app[STATE].admin.favourites
    if known.catalog is None:
        return []
    rows = [
        Row(
            name,
            model.display_name if model.display_name != model.name else None,
            model.organization or "unnamed",
            model.rank,
            _traits(model),
            used[model.name].tools if model.name in used else NO_TOOLS,
            name in favourites,
        )
        for name, model in known.visible(known.catalog, OWNER)
        if not model.video
    ]
    return sorted(rows, key=lambda row: not row.star)


async def star(request: web.Request, _: Login) -> web.StreamResponse:
    """POST /dashboard/models/star: make a model a favourite (`add`), or no longer (`remove`)."""
    form = await read_form(request)
    name = form.get("add") or form.get("remove", "")
    try:
        if not name:
            raise ValueError("no model is named")
        await request.app[STATE].update_admin(lambda admin: admin.with_favourite(name, wanted=bool(form.get("add"))))
    except ValueError as error:
        raise ApiError(400, "refused", f"This cannot be a favourite: {error}.") from error
    return web.Response(status=204) if "X-CSRF-Token" in request.headers else see_other("/dashboard/models")


def _traits(model: Model) -> tuple[str, ...]:
    has = {
        "sees": "image" in model.inputs,
        "draws": model.modality == "image",
        "search": model.modality == "search",
        "chat": model.modality == "chat",
        "stealth": model.stealth,
    }
    return tuple(trait for trait, true in has.items() if true)
