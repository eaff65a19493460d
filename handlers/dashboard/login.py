"""First setup, login and logout. There is no default password: a one-time code authorizes setting the first."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from functools import partial
from typing import Final, Protocol

from aiohttp import web

from bridge.access import passwords
from bridge.access.logins import LONGEST_SECONDS, Login, SetupCode
from bridge.access.throttle import Throttle, TooManyAttempts
from bridge.log import event
from bridge.state.admin import Admin
from handlers.dashboard.guard import (
    asked_page,
    begin_login,
    current_login,
    end_login,
    forget_session,
    login_address,
    read_form,
    see_other,
    set_session,
)
from handlers.dashboard.pages import render
from handlers.request.appkeys import SETTINGS, SHARING, STATE
from handlers.request.callers import LOOPBACK, caller_address, is_secure
from upstream.loop.threads import Threads

THROTTLE: Final = web.AppKey("throttle", Throttle)
SETUP: Final = web.AppKey("setup", SetupCode)
#: The threads for hashing passwords, which takes memory and time: at most two hashes run concurrently.
HASHING: Final = web.AppKey("hashing", Threads)
HASHES_AT_ONCE: Final = 2


class _Page(Protocol):
    async def __call__(self, request: web.Request, error: str, *, status: int) -> web.Response: ...


_logger = logging.getLogger(__name__)


def setup_code(app: web.Application) -> str | None:
    """The code that authorizes setting the first password; None once a password is set."""
    return app[SETUP].code if app[STATE].admin.password_hash is None else None


async def show_login(request: web.Request) -> web.StreamResponse:
    """GET /dashboard/login."""
    if current_login(request) is not None:
        return see_other(asked_page(request))
    if request.app[STATE].admin.password_hash is None:
        return see_other("/dashboard/setup")
    return await _login_page(request)


async def log_in(request: web.Request) -> web.StreamResponse:
    """POST /dashboard/login: a password."""
    form = await read_form(request)
    known = request.app[STATE].admin.password_hash
    if known is None:
        return see_other("/dashboard/setup")
    if wait := await _try(request):
        return await _too_early(request, _login_page, wait)
    right = await request.app[HASHING].run(passwords.verify, known, form.get("password", ""))
    if not right or request.app[STATE].admin.password_hash != known:  # the password may have been changed meanwhile
        event(_logger, logging.WARNING, "a wrong password was given for the dashboard", caller=_caller(request))
        return await _login_page(request, "Wrong password.", status=403)
    await _succeeded(request)
    return await _enter(request)


async def show_setup(request: web.Request) -> web.StreamResponse:
    """GET /dashboard/setup: the first password."""
    if request.app[STATE].admin.password_hash is not None:
        return see_other("/dashboard/login")
    return await _setup_page(request)


async def set_up(request: web.Request) -> web.StreamResponse:
    """POST /dashboard/setup: the code that the daemon logged, and the first password, twice."""
    state, setup = request.app[STATE], request.app[SETUP]
    if state.admin.password_hash is not None:
        return see_other("/dashboard/login")
    form = await read_form(request)
    password = form.get("password", "")
    if wait := await _try(request):
        return await _too_early(request, _setup_page, wait)
    code = form.get("code", "").strip()
    if not setup.matches(code):
        return await _setup_page(request, "Wrong code: use the one that the daemon logged when it started.", status=403)
    await _succeeded(request)
    try:
        passwords.check(password)
    except ValueError as error:
        return await _setup_page(request, f"{error}", status=400, code=code)
    if password != form.get("again", ""):
        return await _setup_page(request, "The two passwords differ.", status=400, code=code)
    hashed = await request.app[HASHING].run(passwords.hash_password, password)
    await state.update_admin(partial(_with_first_password, hashed=hashed))
    setup.spend()
    if request.app[STATE].admin.password_hash != hashed:
        return see_other("/dashboard/login")
    return await _enter(request)


async def log_out(request: web.Request, _: Login) -> web.StreamResponse:
    """POST /dashboard/logout: end the login on the server, and delete the cookie."""
    end_login(request)
    response = see_other("/dashboard/login")
    forget_session(request, response)
    return response


def _with_first_password(admin: Admin, hashed: str) -> Admin:
    """Set the password, unless another request or a command has set one first."""
    return replace(admin, password_hash=hashed) if admin.password_hash is None else admin


async def _enter(request: web.Request) -> web.StreamResponse:
    """Start a login."""
    session = await begin_login(request)
    response = see_other(asked_page(request))
    set_session(request, response, session, LONGEST_SECONDS)
    return response


async def _login_page(request: web.Request, error: str = "", *, status: int = 200) -> web.Response:
    shown = {"error": error, "secure": _is_private(request), "action": login_address(asked_page(request))}
    return await render(request, "login.html", None, shown, status=status)


async def _setup_page(request: web.Request, error: str = "", *, status: int = 200, code: str = "") -> web.Response:
    """Show the page again. A correct `code` is kept, since the URL no longer has it."""
    shown = {"error": error, "secure": _is_private(request), "min_chars": passwords.MIN_CHARS, "code": code}
    return await render(request, "setup.html", None, shown, status=status)


async def _try(request: web.Request) -> int:
    """Count an attempt. Returns the seconds to wait if it is not allowed now, else 0."""
    throttle, sharing, caller = request.app[THROTTLE], request.app[SHARING], _caller(request)
    try:
        if sharing is None:
            throttle.attempt(caller)
        else:
            await sharing.throttle(throttle).attempt(caller)
    except TooManyAttempts as error:
        return math.ceil(error.retry_after)
    return 0


async def _succeeded(request: web.Request) -> None:
    """An attempt had the right password."""
    throttle, sharing, caller = request.app[THROTTLE], request.app[SHARING], _caller(request)
    if sharing is None:
        throttle.succeeded(caller)
    else:
        await sharing.throttle(throttle).succeeded(caller)


async def _too_early(request: web.Request, page: _Page, wait: int) -> web.Response:
    response = await page(request, f"Too many wrong attempts. Try again in {wait} s.", status=429)
    response.headers["Retry-After"] = f"{wait}"
    return response


def _is_private(request: web.Request) -> bool:
    """Whether the connection cannot be eavesdropped: TLS, or the same machine."""
    return is_secure(request, request.app[SETTINGS].config) or _caller(request) in LOOPBACK


def _caller(request: web.Request) -> str:
    return caller_address(request, request.app[SETTINGS].config)
