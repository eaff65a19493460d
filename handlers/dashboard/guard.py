"""Access control of the dashboard: login and CSRF checks, declared at each route and never derived from URLs."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import parse_qsl, urlencode

from aiohttp import web

from bridge.access.logins import Login, Logins, csrf_matches
from bridge.errors import ApiError
from bridge.shared.errors import SharedStateDown
from bridge.state.errors import StateError
from handlers.dashboard import pages
from handlers.request.appkeys import RECORD, SETTINGS, SHARING, STATE, Handler
from handlers.request.body import read_body
from handlers.request.callers import is_secure
from handlers.request.middlewares import mark_authenticated
from upstream.protocol.errors import Reason

if TYPE_CHECKING:
    from bridge.shared.logins import RedisLogins  # which needs an optional library

PrivateHandler: TypeAlias = Callable[[web.Request, Login], Awaitable[web.StreamResponse]]
Form: TypeAlias = Mapping[str, str]

LOGINS: Final = web.AppKey("logins", Logins)
FORM: Final = web.RequestKey("form", Form)

#: `__Host-` binds the cookie to this host and to TLS; browsers accept that prefix only with Secure.
_SECURE_COOKIE: Final = "__Host-lmarena-bridge"
PLAIN_COOKIE: Final = "lmarena-bridge"
#: How a browser sends a form without files; our pages upload none, since aiohttp would write them to disk.
_FORM_TYPE: Final = "application/x-www-form-urlencoded"
#: Our largest form has a few fields with a page of text.
MAX_FORM_BYTES: Final = 256 * 1024
MAX_FIELDS: Final = 20
#: Without a login, a form has a code and a password, twice.
MAX_LOGIN_FORM_BYTES: Final = 4 * 1024
LOGIN_FORM_SECONDS: Final = 10.0
#: A page of ours that a redirect may lead to: no other host, and nothing that could add a header.
_OWN_PAGE: Final = re.compile(r"/dashboard(?:/[a-z]+(?:/[\w.-]+)?)?(?:\?[\w.~%&=+:*/-]*)?", re.ASCII)
MAX_ASKED_CHARS: Final = 2000
#: The value that a hidden page sends in the header for its live part.
HIDDEN: Final = "hidden"
#: The safe methods.
_READING: Final = frozenset({"GET", "HEAD"})

_logger = logging.getLogger(__name__)


def open_to_all(handler: Handler) -> Handler:
    """Make a page available without a login, as login and setup are."""

    @functools.wraps(handler)
    async def guarded(request: web.Request) -> web.StreamResponse:
        await _fetch_login(request)
        return await _guarded(request, None, partial(handler, request))

    return guarded


def private(handler: PrivateHandler) -> Handler:
    """Require a login for a page, and the CSRF token of our pages for a change."""

    @functools.wraps(handler)
    async def guarded(request: web.Request) -> web.StreamResponse:
        await _fetch_login(request)
        login = current_login(request)
        if login is None:
            return await _to_login(request)
        mark_authenticated(request)
        request[RECORD].quiet = _is_live(request)
        return await _guarded(request, login, partial(handler, request, login))

    return guarded


async def _guarded(
    request: web.Request, login: Login | None, page: Callable[[], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Call `page` unless a change comes from another site or lacks the token; errors become a page."""
    await request.app[pages.TEMPLATES].compile()
    try:
        if request.method not in _READING:
            _require_same_origin(request)
            if login is not None:
                await _require_token(request, login)
        return await page()
    except ApiError as error:
        problem = error.with_traceback(None)  # the traceback would keep the request alive
    except SharedStateDown as error:
        problem = ApiError(503, "not_saved", f"{error}.", reason=Reason.STATE)
    except StateError as error:
        _logger.error("%s", error)
        problem = ApiError(500, "not_saved", f"Nothing was changed: {error}")
    request[RECORD].fail(problem)
    return await pages.problem(request, login, problem)


def current_login(request: web.Request) -> Login | None:
    """The login of the request's session cookie. A page that refreshes itself while hidden does not prolong it."""
    session = session_id(request)
    used = request.headers.get(pages.LIVE_HEADER) != HIDDEN
    return request.app[LOGINS].find(session, used=used) if session else None


async def _fetch_login(request: web.Request) -> None:
    """Fetch from Redis whether a login was started or ended at another process."""
    logins, session = shared_logins(request), session_id(request)
    if logins is not None and session:
        used = request.headers.get(pages.LIVE_HEADER) != HIDDEN
        await logins.fetch(session, used=used)


async def begin_login(request: web.Request) -> str:
    """Start a login, at all processes, and return its session id, which is new to prevent session fixation."""
    end_login(request)
    session, login = request.app[LOGINS].begin()
    if (logins := shared_logins(request)) is not None:
        await logins.keep(session, login)
    return session


def end_login(request: web.Request) -> None:
    """End the request's login, at all processes."""
    session = session_id(request)
    if session:
        request.app[LOGINS].end(session)
        if (logins := shared_logins(request)) is not None:
            logins.end(session)


def shared_logins(request: web.Request) -> RedisLogins | None:
    """The logins at all processes; None where the state is in files."""
    sharing = request.app[SHARING]
    return None if sharing is None else sharing.logins(request.app[LOGINS], request.app[STATE])


def session_id(request: web.Request) -> str | None:
    """The session id in the request's cookie."""
    return request.cookies.get(_SECURE_COOKIE if _secure(request) else PLAIN_COOKIE)


def set_session(request: web.Request, response: web.StreamResponse, session: str, max_age: float) -> None:
    """Set the session cookie."""
    secure = _secure(request)
    name = _SECURE_COOKIE if secure else PLAIN_COOKIE
    response.set_cookie(name, session, max_age=int(max_age), path="/", secure=secure, httponly=True, samesite="Strict")


def forget_session(request: web.Request, response: web.StreamResponse) -> None:
    """Delete the session cookie."""
    secure = _secure(request)
    name = _SECURE_COOKIE if secure else PLAIN_COOKIE
    response.del_cookie(name, path="/", secure=secure, httponly=True, samesite="Strict")


def see_other(path: str) -> web.Response:
    """Redirect to another page of ours, by path only, so that no request header can influence the target."""
    return web.Response(status=303, headers={"Location": path})


async def read_form(request: web.Request) -> Form:
    """Read the form once. Raises ApiError if it is not a form, too large, too slow, or repeats a field."""
    form = request.get(FORM)
    if form is None:
        if request.content_type != _FORM_TYPE:
            raise _refused(415, "The dashboard's forms must be sent as application/x-www-form-urlencoded.")
        limit, timeout = MAX_FORM_BYTES, request.app[SETTINGS].config.server.body_timeout
        if current_login(request) is None:
            limit, timeout = MAX_LOGIN_FORM_BYTES, min(timeout, LOGIN_FORM_SECONDS)
        if (request.content_length or 0) > limit:
            raise _refused(413, "The form's content is too large.")
        body = await read_body(request, limit=limit, timeout=timeout)
        try:
            fields = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
        except ValueError as error:
            raise _refused(400, "The form cannot be read.") from error
        form = request[FORM] = dict(fields)
        if len(form) < len(fields):
            raise _refused(400, "The form has a field twice.")
    return form


def _secure(request: web.Request) -> bool:
    return is_secure(request, request.app[SETTINGS].config)


async def _to_login(request: web.Request) -> web.Response:
    if request.method in _READING and not _is_live(request):
        return see_other(login_address(request.path_qs))
    ended = _refused(401, "You are not logged in, or your login has ended.")
    if _is_live(request):
        return web.Response(status=ended.status, text=ended.message)
    await request.app[pages.TEMPLATES].compile()
    request[RECORD].fail(ended)
    return await pages.problem(request, None, ended)


def login_address(asked: str) -> str:
    """The address of the login that leads to the page `asked`, given as path and query."""
    return "/dashboard/login" if asked == "/dashboard" else f"/dashboard/login?{urlencode({'next': asked}, safe='/')}"


def asked_page(request: web.Request) -> str:
    """The page to which a login leads: one of ours, by path and query; else the Overview."""
    asked = request.query.get("next", "")
    return asked if len(asked) <= MAX_ASKED_CHARS and _OWN_PAGE.fullmatch(asked) else "/dashboard"


def _is_live(request: web.Request) -> bool:
    """Whether a page requests its live part."""
    return request.method in _READING and pages.LIVE_HEADER in request.headers


def _require_same_origin(request: web.Request) -> None:
    """Refuse a request from another site's page, by headers that browsers set and pages cannot change.

    `Sec-Fetch-Site` is preferred: a proxy may rewrite `Host`, with which the `Origin` of older browsers is compared.
    """
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is None:
        from_here = origin is None or origin.partition("://")[2] == request.headers.get("Host")
    else:
        from_here = site in ("same-origin", "none")
    if not from_here:
        raise _refused(403, "This request came from another site's page and was refused.")


async def _require_token(request: web.Request, login: Login) -> None:
    form = await read_form(request) if request.content_type == _FORM_TYPE else {}
    sent = request.headers.get("X-CSRF-Token", form.get("csrf", ""))
    if not csrf_matches(login, sent) or current_login(request) is not login:  # the login may have ended meanwhile
        raise _refused(403, "Nothing was changed: the page was out of date, as after a new login. Open it again.")


def _refused(status: int, message: str) -> ApiError:
    return ApiError(status, "refused", message)
