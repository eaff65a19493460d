"""The demo's Trouble page, on which a click arms faults of the embedded arena. No other daemon has it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final, NamedTuple

from aiohttp import web

from bridge.access.logins import Login
from bridge.accounts.enrolment import enrolled
from bridge.errors import ApiError, invalid_request
from handlers.dashboard import pages
from handlers.dashboard.guard import private, read_form, see_other
from handlers.request.appkeys import RENEWALS, STATE
from upstream.arena import FAULTS, Arena
from upstream.protocol import cookies

PATH: Final = "/dashboard/trouble"
_PAGE: Final = "trouble"
#: The count of a fault that is armed until it is switched off, in the arena's terms.
_ALWAYS: Final = None


class Fault(NamedTuple):
    """A fault of the arena with its parameters. `on` says which calls meet it; None stands for the usual ones."""

    name: str
    parameters: Mapping[str, Any] = {}
    on: str | None = None


class Scenario(NamedTuple):
    """A trouble that a click can arm, and what it causes. Its faults are armed together."""

    label: str
    seen: str
    faults: tuple[Fault, ...]


#: The troubles, by their names in the page's forms.
TROUBLES: Final[Mapping[str, Scenario]] = {
    "rate_limited": Scenario(
        "Rate limited",
        "429 `upstream_rate_limited` with `Retry-After`: the account is on cooldown for 20 seconds, as Accounts shows",
        (Fault("rate_limited", {"retry_after": "20"}),),
    ),
    "challenge": Scenario(
        "Challenge page", "503 `upstream_challenge`: the site demands a fresh `cf_clearance`", (Fault("challenge"),)
    ),
    "recaptcha": Scenario(
        "reCAPTCHA", "503 `upstream_challenge`: the site demands a human for this request", (Fault("recaptcha"),)
    ),
    "blocked": Scenario("Blocked", "503 `upstream_challenge`: the site blocks this network", (Fault("blocked"),)),
    "expired": Scenario(
        "Expired login",
        "503 `no_account`: the account's login has expired. “All off” logs it in again",
        (Fault("expired"), Fault("expired", on="me")),
    ),
    "moderated": Scenario("Moderated", "400 `content_filter`: the prompt is refused", (Fault("moderated"),)),
    "broken": Scenario(
        "Broken stream", "an error event after two deltas: the answer is `truncated`", (Fault("reset_middle"),)
    ),
    "failed": Scenario(
        "Model fails midway", "an error event after two deltas: `upstream_error`", (Fault("model_failed_middle"),)
    ),
    "slow_start": Scenario(
        "Slow first token",
        "fifteen seconds of silence; meanwhile a stream gets keep-alives",
        (Fault("heartbeats", {"count": 15, "every": 1.0}),),
    ),
    "slow": Scenario(
        "Slow answer", "a pause of half a second before each delta", (Fault("slow", {"delta_seconds": 0.5}),)
    ),
    "server_error": Scenario(
        "Site fails (503)",
        "once: the bridge retries without an error; every time: 502 `upstream_error` after three attempts",
        (Fault("server_error", {"status": 503}),),
    ),
    "empty": Scenario(
        "Empty answer",
        "once: the bridge retries without an error; every time: 502 `upstream_error` after two attempts",
        (Fault("empty_answer"),),
    ),
    "changed": Scenario(
        "Site has changed",
        "502 with `site_changed`: the site answers 404. Once: the bridge may succeed in the other mode",
        (Fault("not_found", {"status": 404}),),
    ),
    "unknown": Scenario(
        "Unknown lines",
        "the answer is complete; `/health` counts the lines that the bridge did not understand",
        (Fault("unknown_tags"),),
    ),
}


def add_trouble(app: web.Application, arena: Arena) -> None:
    """Add the page to the dashboard of a daemon that runs against this arena."""
    pages.add_page(app, PATH, "Trouble", "t")

    async def show(request: web.Request, login: Login) -> web.StreamResponse:
        """GET: show the troubles that can be armed, and those that are armed."""
        armed = arena.faults.armed()
        names = {fault.name for fault in armed}
        shown = {
            "troubles": TROUBLES,
            "armed": armed,
            "labels": {fault.name: each.label for each in TROUBLES.values() for fault in each.faults},
            "is_armed": {name: {fault.name for fault in each.faults} <= names for name, each in TROUBLES.items()},
            "faults": FAULTS,
        }
        return await pages.render(request, pages.template(request, _PAGE), login, shown)

    async def arm(request: web.Request, _: Login) -> web.StreamResponse:
        """POST: arm a trouble once or until it is switched off, or any fault once."""
        form = await read_form(request)
        times, name = (1, form["once"]) if "once" in form else (_ALWAYS, form.get("always", ""))
        if name in TROUBLES:
            for fault in TROUBLES[name].faults:
                arena.faults.arm(fault.name, times, on=fault.on, **fault.parameters)
        elif form.get("fault") in FAULTS:
            arena.faults.arm(form["fault"])
        else:
            raise _unknown()
        return see_other(PATH)

    async def clear(request: web.Request, _: Login) -> web.StreamResponse:
        """POST: disarm all faults, and log each account in again, which also ends its cooldowns."""
        arena.faults.clear()
        for account in list(request.app[STATE].pool):
            session = cookies.decode(arena.sign_in(account.session.email or account.label).cookie_value)
            await request.app[STATE].update_accounts(partial(enrolled, label=None, session=session))
        request.app[RENEWALS].wake()
        return see_other(PATH)

    app.router.add_get(PATH, private(show))
    app.router.add_post(PATH, private(arm))
    app.router.add_post(f"{PATH}/off", private(clear))


def _unknown() -> ApiError:
    return invalid_request("invalid_value", "There is no such fault.")
