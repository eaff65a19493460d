"""The Keys page: make keys (the secret is shown to the login that makes it), see their use, change or revoke them.

There may be ten thousand keys: the list has pages of fifty, and a search.
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

from bridge.access.expiry import FORMS, last_day, read_expiry
from bridge.access.keys import MAX_BUDGET, MAX_CONCURRENCY, MAX_RPM, ApiKey, add, generate, get, remove, replace
from bridge.access.logins import Login
from bridge.models import Models
from handlers.dashboard.guard import Form, read_form, see_other, session_id, shared_logins
from handlers.dashboard.models import listed
from handlers.dashboard.owner import OWNER
from handlers.dashboard.pages import render
from handlers.dashboard.wording import number
from handlers.request.appkeys import BUDGETS, MODELS, SETTINGS, STATE, STATS

#: A model's name that needs no quoting, in a shell or in a program.
_PLAIN: Final = re.compile(r"[A-Za-z0-9][\w.:@/-]*", re.ASCII)

#: The number of keys on a page.
PAGE_SIZE: Final = 50
#: How long a new secret may be shown to the login that has made it, in seconds.
SHOWN_SECONDS: Final = 600.0


class KeysPage(NamedTuple):
    """One page of the keys that were found; `first` counts from 1.

    `here` is the URL query of this page, `newer` and `older` those of its neighbours.
    """

    keys: Sequence[ApiKey]
    search: str
    first: int
    found: int
    here: str
    newer: str | None
    older: str | None


def keys_page(known: Iterable[ApiKey], query: Mapping[str, str]) -> KeysPage:
    """The page of a URL's `query`: keys whose name or last characters contain the search's words, newest first."""
    search = query.get("search", "").strip()[:64]
    words = search.casefold().split()
    found = [key for key in known if all(word in f"{key.name} …{key.hint}".casefold() for word in words)]
    found.sort(key=lambda key: -key.created)
    last = max(0, len(found) - 1) // PAGE_SIZE
    wanted = query.get("page", "")
    page = min(int(wanted) - 1, last) if re.fullmatch(r"[1-9]\d{0,5}", wanted, re.ASCII) else 0

    def address(page: int) -> str:
        return "?" + urlencode({"search": search, "page": page + 1})

    return KeysPage(
        keys=found[page * PAGE_SIZE : (page + 1) * PAGE_SIZE],
        search=search,
        first=page * PAGE_SIZE + 1,
        found=len(found),
        here=address(page) if search or page else "",
        newer=address(page - 1) if page else None,
        older=address(page + 1) if page < last else None,
    )


async def keys(request: web.Request, login: Login) -> web.StreamResponse:
    """GET /dashboard/keys."""
    return await _page(request, login)


async def make(request: web.Request, login: Login) -> web.StreamResponse:
    """POST /dashboard/keys: make a key. Only the page that this redirects to contains its secret."""
    form = await read_form(request)
    name = form.get("name", "").strip()
    try:
        secret, key = generate(name, now=time.time(), **rights(form))
        await request.app[STATE].update_keys(partial(add, key=key))
    except ValueError as error:
        return await _page(request, login, error=f"{error}", form=form, status=400)
    return await show_made(request, login, key, secret)


async def show_made(request: web.Request, login: Login, key: ApiKey, secret: str) -> web.Response:
    """Redirect to the page that shows the secret: loading that again neither makes another key nor loses the secret."""
    login.created_key = key.id, secret, time.monotonic() + SHOWN_SECONDS
    if (logins := shared_logins(request)) is not None:
        await logins.keep_made(session_id(request) or "", key.id, secret, SHOWN_SECONDS)
    return see_other(f"/dashboard/keys?made={key.id}")


async def _made(request: web.Request, login: Login) -> tuple[ApiKey | None, str]:
    """The key whose secret the page shows, and the secret, if this login has just made it, at any process."""
    if login.created_key is not None and time.monotonic() >= login.created_key[2]:
        login.created_key = None
    asked = request.query.get("made")
    if request.method != "GET" or not asked:
        return None, ""
    key_id, secret, _ = login.created_key or ("", "", 0.0)
    if key_id != asked and (logins := shared_logins(request)) is not None:
        key_id, secret = await logins.made(session_id(request) or "")
    if key_id != asked:
        return None, ""
    return next((key for key in request.app[STATE].keys if key.id == key_id), None), secret


async def matching(request: web.Request, _: Login) -> web.StreamResponse:
    """GET /dashboard/keys/matching: how many models the globs in `models` mean, in words."""
    models = request.app[MODELS]
    try:
        key = changed(OWNER, models=_globs(request.query.get("models", "")))
    except ValueError as error:
        return web.Response(text=f"{error}")
    found = sum(not model.video for _, model in models.visible(models.catalog, key)) if models.catalog else 0
    return web.Response(text=f"{found} match" if found else "No model matches")


async def change(request: web.Request, login: Login) -> web.StreamResponse:
    """POST /dashboard/keys/change: change a key's rights."""
    form = await read_form(request)
    key_id = form.get("id", "")
    if not any(key.id == key_id for key in request.app[STATE].keys):
        return await _page(request, login, error="That key has been revoked.", status=404)
    try:
        changes = rights(form, get(request.app[STATE].keys, key_id))
        await request.app[STATE].update_keys(lambda known: replace(known, changed(get(known, key_id), **changes)))
    except ValueError as error:
        return await _page(request, login, error=f"{error}", changed=form, status=400)
    return _back(request)


async def revoke(request: web.Request, login: Login) -> web.StreamResponse:
    """POST /dashboard/keys/revoke: delete a key for good."""
    key_id = (await read_form(request)).get("id", "")
    try:
        await request.app[STATE].update_keys(partial(remove, name_or_id=key_id))
    except ValueError:
        return await _page(request, login, error="That key has already been revoked.", status=404)
    return _back(request)


def _back(request: web.Request) -> web.Response:
    """Redirect to the page of the list on which a key was changed; the form's URL has its query."""
    return see_other(f"/dashboard/keys{keys_page(request.app[STATE].keys, request.query).here}")


def rights(form: Form, key: ApiKey | None = None) -> dict[str, Any]:
    """A key's rights in a form, which shows those of `key` as they are. Raises ValueError."""
    expires = form.get("expires", "")
    unchanged = key is not None and expires == last_day(
        key.expires
    )  # the form shows only the day, which may be in the past
    return {
        "expires": key.expires if unchanged and key is not None else read_expiry(expires, time.time()),
        "day_requests": _limit("requests a day", form.get("day_requests", ""), MAX_BUDGET),
        "day_tokens": _limit("tokens a day", form.get("day_tokens", ""), MAX_BUDGET),
        "note": form.get("note", "").strip(),
        "rpm": _limit("requests per minute", form.get("rpm", ""), MAX_RPM),
        "concurrency": _limit("concurrent requests", form.get("concurrency", ""), MAX_CONCURRENCY),
        "models": _globs(form.get("models", "")),
        "stealth": "stealth" in form,
        "metrics": "metrics" in form,
    }


def _globs(written: str) -> tuple[str, ...]:
    return tuple(filter(None, (glob.strip() for glob in written.split(","))))


def _limit(name: str, written: str, highest: int) -> int | None:
    """A key's limit, or None for the configured default."""
    if not written.strip():
        return None
    try:
        limit = int(written)
    except ValueError:
        limit = 0
    if not 1 <= limit <= highest:
        raise ValueError(f"{name}: must be a whole number from 1 to {number(highest)}, or empty")
    return limit


async def _page(
    request: web.Request,
    login: Login,
    *,
    error: str = "",
    form: Form | None = None,
    changed: Form | None = None,
    status: int = 200,
) -> web.Response:
    app = request.app
    config = app[SETTINGS].config
    stats = await app[STATS].read()
    made, secret = await _made(request, login)
    shown = {
        "known": len(app[STATE].keys),
        "shown": keys_page(app[STATE].keys, request.query),
        "many": PAGE_SIZE,
        "usage": stats.keys,
        "used": app[BUDGETS].used,
        "now": time.time(),
        "expiry_forms": FORMS,
        "limits": config.limits,
        "rows": listed(app),
        "stealth_open": config.models.stealth,
        "error": error,
        "form": form or {},
        "changed": changed or {},
        "made": made,
        "secret": secret,
        "model": _example(app[MODELS], made) if made else "",
        "origin": _origin(request),
    }
    return await render(request, "keys.html", login, shown, status=status)


def _example(models: Models, key: ApiKey) -> str:
    """A model for the snippets, with a name that is safe to paste into a shell."""
    names = (name for name, _ in models.visible(models.catalog, key)) if models.catalog else ()
    return next(filter(_PLAIN.fullmatch, names), "MODEL")


def _origin(request: web.Request) -> str:
    """The daemon's origin, for the snippets; the page's script replaces it by the browser's address."""
    if (transport := request.transport) is None:
        return "http://127.0.0.1:8000"
    scheme = "http" if transport.get_extra_info("sslcontext") is None else "https"
    host, port = transport.get_extra_info("sockname")[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
