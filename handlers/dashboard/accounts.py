"""The Accounts page: add accounts by pasting, see their owners and status, renew them in place, remove them."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple

from aiohttp import web

from bridge.access.logins import Login
from bridge.accounts.enrolment import (
    HOW_TO_COPY,
    ONE_HOLDER,
    by_user,
    check_label,
    enrolled,
    owner_of,
    shortcomings,
    without,
)
from bridge.accounts.standing import DOUBTED, SAME_FLAG, Standing, judge
from bridge.state.admin import Clearance
from bridge.statistics.counts import AccountUse
from handlers.dashboard.guard import read_form, see_other
from handlers.dashboard.pages import render, template
from handlers.request.appkeys import CLIENT, MODELS, RENEWALS, SETTINGS, STATE, STATS
from handlers.request.clearance import use_clearance
from upstream.accounts import Account
from upstream.protocol.cookies import CookieError
from upstream.protocol.pastes import Pasted, read_pasted

#: The latest unix time that `datetime` accepts in every time zone.
_LAST_SECOND: Final = 253_402_214_400.0


class AccountCard(NamedTuple):
    """One account as the page shows it. Times are unix times; `rests` are pairs of modality and end."""

    label: str
    owner: str
    user_id: str
    expires_at: float
    renewable: bool
    standing: Standing
    rests: tuple[tuple[str, float], ...]
    use: AccountUse | None


async def accounts(request: web.Request, login: Login) -> web.StreamResponse:
    """GET /dashboard/accounts, and its live part."""
    return await _page(request, login)


async def paste(request: web.Request, login: Login) -> web.StreamResponse:
    """POST /dashboard/accounts: a paste of what was copied in the browser. Secrets in it are never shown again."""
    form = await read_form(request)
    label = form.get("label", "").strip() or None
    try:
        if label is not None:
            check_label(label)
        pasted = read_pasted(form.get("paste", ""))
        messages = await _save(request, label, pasted)
    except CookieError as error:
        return await _page(request, login, error=f"This cannot be used: {error}", label=label, status=400)
    except ValueError as error:
        return await _page(request, login, error=f"{error}", label=label, status=400)
    request.app[RENEWALS].wake()
    if pasted.cf_clearance:
        request.app[MODELS].wake()  # the site may let us read its list again
    return await _page(request, login, messages=messages)


async def remove(request: web.Request, login: Login) -> web.StreamResponse:
    """POST /dashboard/accounts/remove."""
    user_id = (await read_form(request)).get("user", "")
    try:
        await request.app[STATE].update_accounts(partial(without, label=user_id))
    except ValueError:
        return await _page(request, login, error="That account has already been removed.", status=404)
    return see_other("/dashboard/accounts")


async def _save(request: web.Request, label: str | None, pasted: Pasted) -> list[str]:
    """Save what was pasted; return messages about it. Raises ValueError."""
    app, messages, now = request.app, [], time.time()
    state, upstream = app[STATE], app[SETTINGS].config.upstream
    configured = upstream.cf_clearance.value
    clearance = None
    if pasted.cf_clearance:
        clearance = Clearance.replacing(configured, pasted.cf_clearance, pasted.user_agent or "")
    if (session := pasted.session) is not None:  # first, since it may be refused, and then nothing may be saved
        known = state.pool.get(session.user_id) is not None
        await state.update_accounts(partial(enrolled, label=label, session=session))
        account = by_user(tuple(state.pool), session.user_id)
        messages.append(f"{'Renewed' if known else 'Added'} “{account.label}”: {owner_of(account)}.")
    if clearance is not None:
        await state.update_admin(lambda admin: replace(admin, clearance=clearance))
        use_clearance(app)
        messages.append("The browser's cf_clearance and user agent are used from now on.")
    if session is not None:
        messages += shortcomings(pasted, session, now, cleared=bool(configured or state.admin.clearance))
    return messages


async def _page(
    request: web.Request,
    login: Login,
    *,
    error: str = "",
    label: str | None = None,
    messages: list[str] | None = None,
    status: int = 200,
) -> web.Response:
    app = request.app
    stats = await app[STATS].read()
    context = {
        "accounts": [_card(app, account, stats.accounts.get(account.label)) for account in app[STATE].pool],
        "site_now": app[CLIENT].clock(),
        "doubted": DOUBTED,
        "same_flag": SAME_FLAG,
        "error": error,
        "how_to_copy": HOW_TO_COPY,
        "one_holder": ONE_HOLDER,
        "label": label or "",
        "messages": messages or [],
    }
    return await render(request, template(request, "accounts"), login, context, status=status)


def _card(app: web.Application, account: Account, use: AccountUse | None) -> AccountCard:
    session, site_now, now = account.session, app[CLIENT].clock(), time.time()
    return AccountCard(
        account.label,
        owner_of(account),
        account.user_id,
        min(max(session.expires_at, 0.0), _LAST_SECOND),
        session.renewable,
        judge(account, now, site_now, app[RENEWALS].failing(account.user_id)),
        tuple((kind, until) for kind, until in account.resting.items() if until > now),
        use,
    )
