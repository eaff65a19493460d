"""The door of the dashboard: who is logged in, and whether a change was meant. Routes say it, never URLs."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final, TypeAlias
from urllib.parse import parse_qsl

from aiohttp import web

from bridge.access.logins import Login, Logins, csrf_matches
from bridge.errors import ApiError
from bridge.state.documents import StateError
from handlers.dashboard import pages
from handlers.request.appkeys import FACTS, SETTINGS, Handler
from handlers.request.body import read_body
from handlers.request.callers import is_secure
from handlers.request.middlewares import know

PrivateHandler: TypeAlias = Callable[[web.Request, Login], Awaitable[web.StreamResponse]]
Form: TypeAlias = Mapping[str, str]

LOGINS: Final = web.AppKey("logins", Logins)
FORM: Final = web.RequestKey("form", Form)

#: `__Host-` binds the cookie to this host and to TLS; a browser takes that name only with Secure.
_SECURE_COOKIE: Final = "__Host-lmarena-bridge"
PLAIN_COOKIE: Final = "lmarena-bridge"
#: How a browser sends a form without files; no page of ours has files, which would be written to disk.
_FORM_TYPE: Final = "application/x-www-form-urlencoded"
#: A form of ours is a page of text at most, in a few fields.
MAX_FORM_BYTES: Final = 256 * 1024
MAX_FIELDS: Final = 20
#: A form of somebody who is not logged in is a code and a password, twice, and has no time for more.
MAX_STRANGER_FORM_BYTES: Final = 4 * 1024
STRANGER_FORM_SECONDS: Final = 10.0
#: What asks for a page, and changes nothing.
_READING: Final = frozenset({"GET", "HEAD"})

_logger = logging.getLogger(__name__)


def open_to_all(handler: Handler) -> Handler:
    """Show a page to whoever asks: logging in, setting up."""

    @functools.wraps(handler)
    async def shown(request: web.Request) -> web.StreamResponse:
        return await _shown(request, None, partial(handler, request))

    return shown


def private(handler: PrivateHandler) -> Handler:
    """Show a page only to whoever is logged in, and take a change only with the token that our pages carry."""

    @functools.wraps(handler)
    async def shown(request: web.Request) -> web.StreamResponse:
        login = current_login(request)
        if login is None:
            return _to_login(request)
        know(request)
        request[FACTS].quiet = _is_live(request)
        return await _shown(request, login, partial(handler, request, login))

    return shown


async def _shown(
    request: web.Request, login: Login | None, page: Callable[[], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """The page, or what went wrong as one; `page` is not asked for a change that another site's page sends."""
    await request.app[pages.TEMPLATES].compile()
    try:
        if request.method not in _READING:
            _from_here(request)
            if login is not None:
                await _with_token(request, login)
        return await page()
    except ApiError as error:
        problem = error.with_traceback(None)  # its frames, this one among them, would hold the request
    except StateError as error:
        _logger.error("%s", error)
        problem = ApiError(500, "not_saved", f"Nothing was changed: {error}")
    request[FACTS].fail(problem)
    return await pages.problem(request, login, problem)


def current_login(request: web.Request) -> Login | None:
    """The login that the request's cookie stands for."""
    session = session_id(request)
    return request.app[LOGINS].find(session) if session else None


def session_id(request: web.Request) -> str | None:
    """What the cookie says."""
    return request.cookies.get(_SECURE_COOKIE if _secure(request) else PLAIN_COOKIE)


def set_session(request: web.Request, response: web.StreamResponse, session: str, max_age: float) -> None:
    """Give the browser the cookie of a login."""
    secure = _secure(request)
    name = _SECURE_COOKIE if secure else PLAIN_COOKIE
    response.set_cookie(name, session, max_age=int(max_age), path="/", secure=secure, httponly=True, samesite="Strict")


def forget_session(request: web.Request, response: web.StreamResponse) -> None:
    """Take the cookie away."""
    secure = _secure(request)
    name = _SECURE_COOKIE if secure else PLAIN_COOKIE
    response.del_cookie(name, path="/", secure=secure, httponly=True, samesite="Strict")


def see_other(path: str) -> web.Response:
    """Go on to another page of ours, by a path alone: no header of the request says where that is."""
    return web.Response(status=303, headers={"Location": path})


async def read_form(request: web.Request) -> Form:
    """Read the form once. Raises ApiError where it is none, too large, too slow, or names a field twice."""
    form = request.get(FORM)
    if form is None:
        if request.content_type != _FORM_TYPE:
            raise _refused(415, "This is not how a page of the dashboard sends its form.")
        limit, timeout = MAX_FORM_BYTES, request.app[SETTINGS].config.server.body_timeout
        if current_login(request) is None:
            limit, timeout = MAX_STRANGER_FORM_BYTES, min(timeout, STRANGER_FORM_SECONDS)
        if (request.content_length or 0) > limit:
            raise _refused(413, "This is more than the form takes.")
        body = await read_body(request, limit=limit, timeout=timeout)
        try:
            fields = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
        except ValueError as error:
            raise _refused(400, "The form cannot be read.") from error
        form = request[FORM] = dict(fields)
        if len(form) < len(fields):
            raise _refused(400, "The form names a field twice.")
    return form


def _secure(request: web.Request) -> bool:
    return is_secure(request, request.app[SETTINGS].config)


def _to_login(request: web.Request) -> web.Response:
    if request.method in _READING and not _is_live(request):
        return see_other("/dashboard/login")
    return web.Response(status=401, text="You are not logged in (any more).")


def _is_live(request: web.Request) -> bool:
    """Whether a page asks by itself, to redraw a part."""
    return request.method in _READING and "X-Live" in request.headers


def _from_here(request: web.Request) -> None:
    """Refuse what a page of another site sends. Browsers say where a form comes from, and no page can change that.

    `Sec-Fetch-Site` first: a proxy may have rewritten `Host`, which the `Origin` of older browsers is compared with.
    """
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is None:
        from_here = origin is None or origin.partition("://")[2] == request.headers.get("Host")
    else:
        from_here = site in ("same-origin", "none")
    if not from_here:
        raise _refused(403, "This came from another site's page, and was not done.")


async def _with_token(request: web.Request, login: Login) -> None:
    form = await read_form(request) if request.content_type == _FORM_TYPE else {}
    sent = request.headers.get("X-CSRF-Token", form.get("csrf", ""))
    if not csrf_matches(login, sent) or current_login(request) is not login:  # it may have ended while the form came
        raise _refused(403, "This page is too old, or the request was not made on it. Load it again.")


def _refused(status: int, message: str) -> ApiError:
    return ApiError(status, "refused", message)
