"""The door of the dashboard: who is logged in, and whether a change was meant. Routes say it, never URLs."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from aiohttp import web
from multidict import MultiDictProxy
from yarl import URL

from bridge.errors import ApiError
from bridge.logins import Login, Logins, csrf_matches
from bridge.store import StateError
from handlers.appkeys import FACTS, SETTINGS
from handlers.callers import is_secure
from handlers.dashboard import pages
from handlers.middlewares import Handler

PrivateHandler: TypeAlias = Callable[[web.Request, Login], Awaitable[web.StreamResponse]]
Form: TypeAlias = MultiDictProxy[str | bytearray | bytes | web.FileField]

LOGINS: Final = web.AppKey("logins", Logins)
FORM: Final = web.RequestKey("form", Form)

#: `__Host-` binds the cookie to this host and to TLS; a browser takes that name only with Secure.
_SECURE_COOKIE: Final = "__Host-lmarena-bridge"
_PLAIN_COOKIE: Final = "lmarena-bridge"
#: A form of ours is a page of text at most.
MAX_FORM_BYTES: Final = 256 * 1024

_logger = logging.getLogger(__name__)


def open_to_all(handler: Handler) -> Handler:
    """Show a page to whoever asks: logging in, setting up."""

    @functools.wraps(handler)
    async def shown(request: web.Request) -> web.StreamResponse:
        try:
            if request.method == "POST":
                _from_here(request)
            return _guarded(await handler(request))
        except ApiError as error:
            request[FACTS].fail(error)
            return _guarded(pages.problem(request, None, error.status, error.message))

    return shown


def private(handler: PrivateHandler) -> Handler:
    """Show a page only to whoever is logged in, and take a change only with the token that our pages carry."""

    @functools.wraps(handler)
    async def shown(request: web.Request) -> web.StreamResponse:
        login = current_login(request)
        if login is None:
            return _guarded(_to_login(request))
        try:
            if request.method == "POST":
                _from_here(request)
                await _with_token(request, login)
            return _guarded(await handler(request, login))
        except web.HTTPNotFound:
            return _guarded(pages.problem(request, login, 404, "There is no such page."))
        except ApiError as error:
            request[FACTS].fail(error)
            return _guarded(pages.problem(request, login, error.status, error.message))
        except StateError as error:
            _logger.error("%s", error)
            return _guarded(pages.problem(request, login, 500, f"Nothing was changed: {error}"))

    return shown


def current_login(request: web.Request) -> Login | None:
    """The login that the request's cookie stands for."""
    session = session_id(request)
    return request.app[LOGINS].find(session) if session else None


def session_id(request: web.Request) -> str | None:
    """What the cookie says."""
    return request.cookies.get(_SECURE_COOKIE if _secure(request) else _PLAIN_COOKIE)


def set_session(request: web.Request, response: web.StreamResponse, session: str, max_age: float) -> None:
    """Give the browser the cookie of a login."""
    secure = _secure(request)
    name = _SECURE_COOKIE if secure else _PLAIN_COOKIE
    response.set_cookie(name, session, max_age=int(max_age), path="/", secure=secure, httponly=True, samesite="Strict")


def forget_session(request: web.Request, response: web.StreamResponse) -> None:
    """Take the cookie away."""
    secure = _secure(request)
    name = _SECURE_COOKIE if secure else _PLAIN_COOKIE
    response.del_cookie(name, path="/", secure=secure, httponly=True, samesite="Strict")


def see_other(path: str) -> web.Response:
    """Go on to another page of ours, by a path alone: no header of the request says where that is."""
    return web.Response(status=303, headers={"Location": path})


def text(form: Form, name: str) -> str:
    """A text of a form; '' where it is missing."""
    value = form.get(name, "")
    return value if isinstance(value, str) else ""


async def read_form(request: web.Request) -> Form:
    """Read the form once. Raises ApiError where it is too large or none."""
    form = request.get(FORM)
    if form is None:
        if (request.content_length or 0) > MAX_FORM_BYTES or request.content_length is None:
            raise _refused(413, "This is more than the form takes.")
        try:
            form = request[FORM] = await request.post()
        except ValueError as error:
            raise _refused(400, "The form cannot be read.") from error
    return form


def _secure(request: web.Request) -> bool:
    return is_secure(request, request.app[SETTINGS].config)


def _to_login(request: web.Request) -> web.Response:
    if request.method == "GET" and "X-Live" not in request.headers:
        return see_other("/dashboard/login")
    return web.Response(status=401, text="You are not logged in (any more).")


def _from_here(request: web.Request) -> None:
    """Refuse what a page of another site sends. Browsers say where a form comes from; a script outside cannot."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None and site not in ("same-origin", "none"):
        raise _refused(403, "This came from another site's page, and was not done.")
    origin = request.headers.get("Origin")
    if origin is not None and URL(origin).authority != request.headers.get("Host"):
        raise _refused(403, "This came from another site's page, and was not done.")


async def _with_token(request: web.Request, login: Login) -> None:
    sent = request.headers.get("X-CSRF-Token")
    if sent is None:
        sent = text(await read_form(request), "csrf")
    if not csrf_matches(login, sent):
        raise _refused(403, "This page is too old, or the request was not made on it. Load it again.")


def _guarded(response: web.StreamResponse) -> web.StreamResponse:
    if not response.prepared:
        response.headers.update(pages.HEADERS)
    return response


def _refused(status: int, message: str) -> ApiError:
    return ApiError(status, "invalid_request_error", "refused", message)
