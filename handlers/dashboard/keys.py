"""Keys: make one (its secret is shown once), see what each was used for, change its rights, revoke it.

There may be ten thousand: a page shows fifty, which may be searched for.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace as changed
from functools import partial
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

from aiohttp import web

from bridge.access.keys import MAX_CONCURRENCY, MAX_RPM, ApiKey, add, generate, get, remove, replace
from bridge.access.logins import Login
from bridge.models import Models
from handlers.dashboard.guard import Form, read_form, see_other
from handlers.dashboard.pages import render
from handlers.request.appkeys import MODELS, SETTINGS, STATE, STATS

#: A name that needs no quoting, in a shell or in a program.
_PLAIN: Final = re.compile(r"[A-Za-z0-9][\w.:@/-]*", re.ASCII)

#: Keys on one page: a page with all of them would be large and slow.
SHOWN: Final = 50


class Excerpt(NamedTuple):
    """What one page shows of the keys that were found; `first` counts from 1.

    `here` is the query that shows it again, `newer` and `older` are other pages'.
    """

    keys: Sequence[ApiKey]
    search: str
    first: int
    found: int
    here: str
    newer: str | None
    older: str | None


def excerpt(known: Iterable[ApiKey], query: Mapping[str, str]) -> Excerpt:
    """The newest keys first: those in whose name, or at whose end, stands what is searched for, and of these a page."""
    search = query.get("search", "").strip()[:64]
    words = search.casefold().split()
    found = [key for key in known if all(word in f"{key.name} …{key.hint}".casefold() for word in words)]
    found.sort(key=lambda key: -key.created)
    last = max(0, len(found) - 1) // SHOWN
    wanted = query.get("page", "")
    page = min(int(wanted) - 1, last) if re.fullmatch(r"[1-9]\d{0,5}", wanted, re.ASCII) else 0

    def address(page: int) -> str:
        return "?" + urlencode({"search": search, "page": page + 1})

    return Excerpt(
        keys=found[page * SHOWN : (page + 1) * SHOWN],
        search=search,
        first=page * SHOWN + 1,
        found=len(found),
        here=address(page) if search or page else "",
        newer=address(page - 1) if page else None,
        older=address(page + 1) if page < last else None,
    )


async def keys(request: web.Request, login: Login) -> web.StreamResponse:
    """GET /dashboard/keys."""
    return await _page(request, login)


async def make(request: web.Request, login: Login) -> web.StreamResponse:
    """POST /dashboard/keys: a new key. Its secret leaves in this answer and in no other."""
    form = await read_form(request)
    name = form.get("name", "").strip()
    try:
        secret, key = generate(name, now=time.time(), **_rights(form))
        await request.app[STATE].update_keys(partial(add, key=key))
    except ValueError as error:
        return await _page(request, login, error=f"{error}", form=form, status=400)
    return await _page(request, login, made=key, secret=secret)


async def change(request: web.Request, login: Login) -> web.StreamResponse:
    """POST /dashboard/keys/change: a key's rights."""
    form = await read_form(request)
    try:
        rights = _rights(form)
        await request.app[STATE].update_keys(
            lambda known: replace(known, changed(get(known, form.get("id", "")), **rights))
        )
    except ValueError as error:
        return await _page(request, login, error=f"{error}", status=400)
    return _back(request)


async def revoke(request: web.Request, login: Login) -> web.StreamResponse:
    """POST /dashboard/keys/revoke: for good."""
    key_id = (await read_form(request)).get("id", "")
    try:
        await request.app[STATE].update_keys(partial(remove, name_or_id=key_id))
    except ValueError:
        return await _page(request, login, error="That key is gone already.", status=404)
    return _back(request)


def _back(request: web.Request) -> web.Response:
    """The page on which a key was changed: the form carries its query."""
    return see_other(f"/dashboard/keys{excerpt(request.app[STATE].keys, request.query).here}")


def _rights(form: Form) -> dict[str, Any]:
    """What the form says a key may. Raises ValueError."""
    return {
        "rpm": _limit("requests per minute", form.get("rpm", ""), MAX_RPM),
        "concurrency": _limit("requests at the same time", form.get("concurrency", ""), MAX_CONCURRENCY),
        "models": tuple(filter(None, (glob.strip() for glob in form.get("models", "").split(",")))),
        "stealth": "stealth" in form,
        "metrics": "metrics" in form,
    }


def _limit(name: str, written: str, highest: int) -> int | None:
    """A limit of the key's own, or None for the configuration's."""
    if not written.strip():
        return None
    try:
        limit = int(written)
    except ValueError:
        limit = 0
    if not 1 <= limit <= highest:
        raise ValueError(f"{name}: must be a whole number from 1 to {highest:,}, or nothing")
    return limit


async def _page(
    request: web.Request,
    login: Login,
    *,
    error: str = "",
    form: Form | None = None,
    made: ApiKey | None = None,
    secret: str = "",
    status: int = 200,
) -> web.Response:
    app = request.app
    config = app[SETTINGS].config
    stats = await app[STATS].read()
    shown = {
        "known": len(app[STATE].keys),
        "shown": excerpt(app[STATE].keys, request.query),
        "many": SHOWN,
        "usage": stats.keys,
        "limits": config.limits,
        "stealth_open": config.models.stealth,
        "error": error,
        "form": form or {},
        "made": made,
        "secret": secret,
        "model": _example(app[MODELS], made) if made else "",
        "origin": _origin(request),
    }
    return await render(request, "keys.html", login, shown, status=status)


def _example(models: Models, key: ApiKey) -> str:
    """A model for the snippets, which somebody will paste into a shell: one whose name means nothing there."""
    names = (name for name, _ in models.visible(models.catalog, key)) if models.catalog else ()
    return next(filter(_PLAIN.fullmatch, names), "MODEL")


def _origin(request: web.Request) -> str:
    """Where this daemon listens, for the snippets; the page itself puts the browser's own address there."""
    if (transport := request.transport) is None:
        return "http://127.0.0.1:8000"
    scheme = "http" if transport.get_extra_info("sslcontext") is None else "https"
    host, port = transport.get_extra_info("sockname")[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
