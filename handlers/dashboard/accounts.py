"""The Accounts page: add accounts by pasting, see their state, test, rename, pause, renew and remove them."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial

from aiohttp import web

from bridge.access.logins import Login
from bridge.accounts.enrolment import (
    HOW_TO_COPY,
    ONE_HOLDER,
    check_label,
    enrolled,
    find_account,
    owner_of,
    renamed,
    set_paused,
    shortcomings,
    without,
)
from bridge.accounts.status import DOUBTED, SAME_FLAG, judge
from bridge.state.admin import Clearance
from handlers.dashboard.account_card import BAR_DAYS, HOUR_WIDTH, STRIP_HEIGHT, attempts_of, card_of, limits_of
from handlers.dashboard.guard import read_form, see_other
from handlers.dashboard.pages import render, template
from handlers.dashboard.wording import duration
from handlers.request.appkeys import CLIENT, MODELS, RENEWALS, SETTINGS, STATE, STATS
from handlers.request.clearance import use_clearance
from upstream.protocol.cookies import CookieError
from upstream.protocol.pastes import Pasted, read_pasted


async def accounts(request: web.Request, login: Login) -> web.StreamResponse:
    """GET /dashboard/accounts, and its live part."""
    return await _page(request, login)


async def paste(request: web.Request, login: Login) -> web.StreamResponse:
    """POST /dashboard/accounts: a paste from the browser. Its secrets are never shown again."""
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
        request.app[MODELS].wake()  # the new login may make the list of models readable again
    return await _page(request, login, messages=messages)


async def remove(request: web.Request, login: Login) -> web.StreamResponse:
    """POST /dashboard/accounts/remove."""
    user_id = (await read_form(request)).get("user", "")
    try:
        await request.app[STATE].update_accounts(partial(without, name=user_id))
    except ValueError:
        return await _page(request, login, error="That account has already been removed.", status=404)
    return see_other("/dashboard/accounts")


async def test(request: web.Request, login: Login) -> web.StreamResponse:
    """POST /dashboard/accounts/test: ask the site about an account now, and show the result."""
    app, user_id = request.app, (await read_form(request)).get("user", "")
    account = app[STATE].pool.get(user_id)
    if account is None:
        return await _page(request, login, error="That account has been removed.", status=404)
    tested = await app[RENEWALS].test(account)
    if tested.error is not None:
        why = f"“{account.label}”, after {duration(tested.seconds)}: {tested.error.message}"
        return await _page(request, login, error=why)
    pool = app[STATE].pool
    worst = judge(pool.get(user_id) or account, time.time(), app[CLIENT].clock()).worst
    state = "the site accepts its login" if worst is None else worst.what.replace("`", "")
    messages = [f"“{account.label}”, after {duration(tested.seconds)}: {state}."]
    messages += [f"Limit of {each.words}." for each in limits_of(pool.limits(user_id))]
    return await _page(request, login, messages=messages)


async def pause(request: web.Request, login: Login) -> web.StreamResponse:
    """POST /dashboard/accounts/pause: pause or resume an account."""
    form = await read_form(request)
    wanted = form.get("paused") == "yes"
    try:
        await request.app[STATE].update_accounts(partial(set_paused, name=form.get("user", ""), paused=wanted))
    except ValueError:
        return await _page(request, login, error="That account has been removed.", status=404)
    return see_other("/dashboard/accounts")


async def rename(request: web.Request, login: Login) -> web.StreamResponse:
    """POST /dashboard/accounts/rename."""
    form = await read_form(request)
    user_id, label = form.get("user", ""), form.get("label", "").strip()
    if request.app[STATE].pool.get(user_id) is None:
        return await _page(request, login, error="That account has been removed.", status=404)
    try:
        await request.app[STATE].update_accounts(partial(renamed, name=user_id, label=label))
    except ValueError as error:
        return await _page(request, login, error=f"This cannot be the account's label: {error}", status=400)
    return see_other("/dashboard/accounts")


async def _save(request: web.Request, label: str | None, pasted: Pasted) -> list[str]:
    """Save the paste, and return messages about it. Raises ValueError."""
    app, messages, now = request.app, [], time.time()
    state, upstream = app[STATE], app[SETTINGS].config.upstream
    configured = upstream.cf_clearance.value
    clearance = None
    if pasted.cf_clearance:
        clearance = Clearance.replacing(configured, pasted.cf_clearance, pasted.user_agent or "")
    if (session := pasted.session) is not None:  # first, since nothing may be saved if it is refused
        known = state.pool.get(session.user_id) is not None
        await state.update_accounts(partial(enrolled, label=label, session=session))
        account = find_account(tuple(state.pool), session.user_id)
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
    app, now = request.app, time.time()
    stats = await app[STATS].read()
    pool, site_now = app[STATE].pool, app[CLIENT].clock()
    everyone = sum(attempts_of(use, now) for use in stats.accounts.values())
    cards = [
        card_of(
            account,
            stats.accounts.get(account.label),
            everyone,
            pool.limits(account.user_id),
            now=now,
            site_now=site_now,
            failing=app[RENEWALS].failing(account.user_id),
        )
        for account in pool
    ]
    context = {
        "accounts": cards,
        "site_now": site_now,
        "site": app[CLIENT].location.origin,
        "bar_days": BAR_DAYS,
        "hour_width": HOUR_WIDTH,
        "strip_height": STRIP_HEIGHT,
        "doubted": DOUBTED,
        "same_flag": SAME_FLAG,
        "error": error,
        "how_to_copy": HOW_TO_COPY,
        "one_holder": ONE_HOLDER,
        "label": label or "",
        "messages": messages or [],
    }
    return await render(request, template(request, "accounts"), login, context, status=status)
