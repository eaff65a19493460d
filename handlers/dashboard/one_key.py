"""The page of one key: its state, its use per day, and its actions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace as changed
from functools import partial
from typing import Final, NamedTuple

from aiohttp import web

from bridge.access.keys import ApiKey, get, replace, rotated
from bridge.access.logins import Login
from bridge.errors import not_found
from bridge.statistics.counts import Bucket, UsageCounts
from bridge.statistics.spans import DAY, TABLE_DAYS, Span
from handlers.dashboard import charts
from handlers.dashboard.guard import read_form, see_other
from handlers.dashboard.keys import show_made
from handlers.dashboard.pages import render
from handlers.dashboard.spans import SPANS, ShownSpan
from handlers.request.appkeys import BUDGETS, SETTINGS, STATE, STATS

_DAYS: Final = ShownSpan(
    f"{TABLE_DAYS} days", Span("day"), DAY, SPANS["2w"].mark, lambda at: f"{at:%a} {at.day} {at:%b}"
)


class Day(NamedTuple):
    """A key's use on the day that began at a unix time."""

    at: int
    use: UsageCounts


async def one_key(request: web.Request, login: Login) -> web.StreamResponse:
    """GET /dashboard/key/{id}."""
    app = request.app
    key = _find(request, request.match_info["id"])
    days = _days((await app[STATS].read()).days_of_key(key.name), int(time.time()))
    buckets = [Bucket(requests=day.use.requests, errors=day.use.errors, at=day.at) for day in days]
    shown = {
        "key": key,
        "days": [day for day in reversed(days) if day.use.requests],
        "chart": await asyncio.to_thread(charts.requests_over_time, buckets, _DAYS),
        "used": app[BUDGETS].used(key.id),
        "limits": app[SETTINGS].config.limits,
        "now": time.time(),
    }
    return await render(request, "key.html", login, shown)


def _days(uses: Sequence[UsageCounts], now: int) -> list[Day]:
    first = now - now % DAY - (len(uses) - 1) * DAY
    return [Day(first + number * DAY, use) for number, use in enumerate(uses)]


async def pause(request: web.Request, _: Login) -> web.StreamResponse:
    """POST /dashboard/keys/pause: refuse a key until it is resumed, or resume it."""
    form = await read_form(request)
    key = _find(request, form.get("id", ""))
    paused = form.get("paused") == "yes"
    await request.app[STATE].update_keys(lambda known: replace(known, changed(get(known, key.id), paused=paused)))
    return see_other(f"/dashboard/key/{key.id}")


async def rotate(request: web.Request, login: Login) -> web.StreamResponse:
    """POST /dashboard/keys/rotate: give a key a new secret; the former one works for one more day."""
    form = await read_form(request)
    secret, key = rotated(_find(request, form.get("id", "")), time.time())
    await request.app[STATE].update_keys(partial(replace, key=key))
    return await show_made(request, login, key, secret)


def _find(request: web.Request, key_id: str) -> ApiKey:
    """The key with this id. Raises ApiError (404)."""
    try:
        return get(request.app[STATE].keys, key_id)
    except ValueError as error:
        raise not_found("There is no such key: it may have been revoked.") from error
