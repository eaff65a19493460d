"""The dashboard's routes and their access: `private` requires a login, `open_to_all` does not."""

from __future__ import annotations

import time
from typing import Final

from aiohttp import web

from bridge.access.logins import Logins, SetupCode
from bridge.access.throttle import Throttle
from bridge.errors import ApiError, not_found
from bridge.state.documents import StateFolder
from handlers.dashboard import (
    accounts,
    activity,
    keys,
    login,
    models,
    one_key,
    overview,
    pages,
    playground,
    request_page,
    settings,
)
from handlers.dashboard.assets import static
from handlers.dashboard.guard import LOGINS, current_login, open_to_all, private, see_other
from handlers.dashboard.instances import INSTANCES, Instances
from handlers.dashboard.overview import SEEN, SeenCache
from handlers.request.appkeys import RECORD, Handler
from upstream.loop.threads import Threads

#: (method, path below /dashboard, handler).
_ROUTES: Final[tuple[tuple[str, str, Handler], ...]] = (
    ("GET", "/login", open_to_all(login.show_login)),
    ("POST", "/login", open_to_all(login.log_in)),
    ("GET", "/setup", open_to_all(login.show_setup)),
    ("POST", "/setup", open_to_all(login.set_up)),
    ("POST", "/logout", private(login.log_out)),
    ("GET", "/static/{name}", static),
    ("GET", "", private(overview.overview)),
    ("GET", "/keys", private(keys.keys)),
    ("POST", "/keys", private(keys.make)),
    ("GET", "/keys/matching", private(keys.matching)),
    ("POST", "/keys/change", private(keys.change)),
    ("POST", "/keys/revoke", private(keys.revoke)),
    ("POST", "/keys/pause", private(one_key.pause)),
    ("POST", "/keys/rotate", private(one_key.rotate)),
    ("GET", "/key/{id}", private(one_key.one_key)),
    ("GET", "/accounts", private(accounts.accounts)),
    ("POST", "/accounts", private(accounts.paste)),
    ("POST", "/accounts/test", private(accounts.test)),
    ("POST", "/accounts/pause", private(accounts.pause)),
    ("POST", "/accounts/rename", private(accounts.rename)),
    ("POST", "/accounts/remove", private(accounts.remove)),
    ("GET", "/models", private(models.models)),
    ("POST", "/models/read", private(models.read)),
    ("POST", "/models/star", private(models.star)),
    ("GET", "/activity", private(activity.activity)),
    ("POST", "/activity", private(activity.end)),
    ("GET", "/activity/{id}", private(request_page.request_page)),
    ("GET", "/activity/{id}/recording", private(request_page.download)),
    ("GET", "/playground", private(playground.playground)),
    ("POST", "/playground/chat", private(playground.chat)),
    ("POST", "/playground/draw", private(playground.draw)),
    ("POST", "/playground/markdown", private(playground.markdown)),
    ("GET", "/settings", private(settings.settings)),
    ("POST", "/settings/reread", private(settings.read_again)),
    ("POST", "/settings/log", private(settings.switch_log)),
    ("GET", "/settings/diagnosis.json", private(settings.download)),
)


def add_dashboard(app: web.Application, folder: StateFolder) -> None:
    """Add the pages and the objects that they need."""
    pages.prepare(app)
    app.on_response_prepare.append(pages.set_headers)
    app[LOGINS] = Logins(time.monotonic)
    app[login.THROTTLE] = Throttle(time.monotonic)
    app[login.SETUP] = SetupCode()
    app[login.HASHING] = Threads("passwords", login.HASHES_AT_ONCE)
    app[playground.RENDERING] = Threads("markdown", 1)
    app[SEEN] = SeenCache()
    app[INSTANCES] = Instances(app)
    app[activity.KEPT] = activity.KeptRequests(folder)
    for method, path, handler in _ROUTES:
        add = app.router.add_get if method == "GET" else app.router.add_post  # HEAD comes with GET
        add(f"/dashboard{path}", handler)
    app.router.add_get("/", root)
    app.router.add_route("*", "/dashboard/{rest:.*}", no_page)


async def no_page(request: web.Request) -> web.StreamResponse:
    """Any other path below /dashboard, and any other method of a path of ours."""
    own = request.match_info.route.resource
    allowed: set[str] = set()
    for resource in request.app.router.resources():
        if resource is not own:
            allowed |= (await resource.resolve(request))[1]
    error = not_found(f"There is no page at {request.path[:200]}.")
    if allowed:
        methods = ",".join(sorted(allowed))
        message = f"{request.method} is not allowed here; allowed: {methods}."
        error = ApiError(405, "method_not_allowed", message, accepted={"Allow": methods})
    await request.app[pages.TEMPLATES].compile()
    request[RECORD].fail(error)
    return await pages.problem(request, current_login(request), error)


async def root(_: web.Request) -> web.StreamResponse:
    """GET /: redirect browsers to the dashboard."""
    return see_other("/dashboard")
