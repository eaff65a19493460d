"""How the daemon is: what works, what is degraded, and why, in the vocabulary of diagnosis. No secrets."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from bridge.accounts.renewals import Failing
from bridge.diagnosis import ADVICE
from bridge.log import event
from upstream.accounts import EVERYTHING, EXPIRY_WARNING_SECONDS, Account, AccountPool
from upstream.protocol.catalog import Catalog
from upstream.protocol.errors import Reason, UpstreamError

_logger = logging.getLogger(__name__)


class Trouble(NamedTuple):
    """One thing that is not as it should be: where, the word of diagnosis, and what to do now.

    `label` is an account's, often an address, which is for its owner alone; `part` gives its place in the list.
    """

    part: str
    reason: Reason
    message: str
    label: str | None = None

    @property
    def where(self) -> str:
        """The part as its owner calls it."""
        return self.part if self.label is None else f"account {self.label}"

    def to_json(self) -> dict[str, str]:
        """Plain values, as `/health` shows them to anybody."""
        return {"part": self.part, "reason": self.reason.value, "message": self.message}


class Health(NamedTuple):
    """`serving` is whether a chat could be answered now."""

    serving: bool
    troubles: tuple[Trouble, ...]


def examine(
    pool: AccountPool,
    catalog: Catalog | None,
    *,
    failing: Callable[[str], Failing | None],
    models_failure: UpstreamError | None,
    wall: UpstreamError | None,
    outage: UpstreamError | None,
    now: float,
    skew: float,
) -> Health:
    """Look at every part.

    `failing` says by user id whether the renewal of a login fails. `now` is unix time in seconds by this machine's
    clock, `skew` the seconds that the site's clock is ahead of it, 0 where that is tolerable.
    """
    troubles = [
        Trouble(f"account {number}", reason, message, account.label)
        for number, account in enumerate(pool, 1)
        for reason, message in _account_troubles(account, failing(account.user_id), now, skew)
    ]
    if not len(pool):
        troubles.append(Trouble("accounts", Reason.NO_ACCOUNT, "No account: run `lmarena-bridge accounts add`."))
    if catalog is None:
        why = f"{models_failure}" if models_failure else "The first reading is under way."
        reason = models_failure.reason if models_failure else Reason.UNREACHABLE
        troubles.append(Trouble("models", reason, f"No list of models yet. {why}"))
    elif models_failure is not None:
        troubles.append(Trouble("models", models_failure.reason, f"The list of models is not fresh. {models_failure}"))
    troubles += [Trouble("site", error.reason, error.message) for error in (wall, outage) if error is not None]
    if skew:
        troubles.append(Trouble("clock", Reason.REJECTED, clock_advice(skew)))
    return Health(catalog is not None and bool(pool.usable("chat")) and wall is None, tuple(troubles))


class Watch:
    """Logs what begins to be wrong, and what is well again: once each, not with every request that suffers."""

    def __init__(self, examine: Callable[[], Health]) -> None:
        self._examine = examine
        self._known: dict[tuple[str, Reason], Trouble] = {}

    async def __call__(self) -> None:
        """Look, and log what has changed since the last look."""
        troubles = {(trouble.where, trouble.reason): trouble for trouble in self._examine().troubles}
        for key, trouble in troubles.items():
            if key not in self._known:
                event(_logger, logging.WARNING, f"{trouble.where}: {trouble.message}", reason=trouble.reason.value)
        for where, reason in self._known.keys() - troubles.keys():
            event(_logger, logging.INFO, f"{where}: well again", reason=reason.value)
        self._known = troubles


def clock_advice(skew: float) -> str:
    """Say that this machine's clock is wrong. `skew`: the seconds that the site's clock is ahead of it."""
    off = f"{abs(skew):.0f} s {'behind' if skew > 0 else 'ahead of'} LMArena's"
    return f"This machine's clock is {off}: set it right (NTP). Ids are corrected meanwhile."


def _failing_advice(failing: Failing, now: float) -> str:
    """Say that an account's renewal fails. `now` is unix time by the site's clock."""
    since = f"{time.strftime('%H:%M UTC', time.gmtime(failing.since))} ({_span(now - failing.since)})"
    why = failing.error.message.rstrip(".")
    return f"Renewal of its login has failed since {since}: {why}; it is tried again by itself."


def _bar_advice(bar: Reason) -> str:
    """Say what keeps an account from chatting, one of `upstream.accounts.BARS`, and what to do."""
    why, now = ADVICE[bar]
    return f"{why[0].upper()}{why[1:]}: {now}."


def _account_troubles(
    account: Account, failing: Failing | None, now: float, skew: float
) -> Iterator[tuple[Reason, str]]:
    site_now = now + skew
    if account.expired:
        yield Reason.EXPIRED, f"The site no longer accepts its login: {ADVICE[Reason.EXPIRED].now}."
    else:
        if account.bar is not None:
            yield account.bar, _bar_advice(account.bar)
        if failing is not None and failing.matters(account.session, site_now):
            yield failing.error.reason, _failing_advice(failing, site_now)
        if not account.session.renewable:
            yield from _end(account.session.expires_at, site_now)
    for modality, until in account.resting.items():
        seconds = math.ceil(until - now)
        if seconds <= 0:
            continue
        if modality == EVERYTHING:
            doubt = f"LMArena doubts that a human uses this account: it rests for {seconds} s."
            yield Reason.RECAPTCHA, f"{doubt} Its own page shows the same flag."
        else:
            yield Reason.RATE_LIMITED, f"Rests for {seconds} s from {modality} after a 429."


def _end(expires_at: float, site_now: float) -> Iterator[tuple[Reason, str]]:
    """What there is to say of the end of a session that cannot be renewed."""
    if expires_at - site_now >= EXPIRY_WARNING_SECONDS:  # also the times that no date can name
        return
    at = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(max(0.0, expires_at)))
    if expires_at <= site_now:
        yield Reason.EXPIRED, f"The session ended at {at} and cannot be renewed: paste a new one."
    else:
        yield Reason.EXPIRED, f"The session ends for good at {at}: paste a new one in time."


def _span(seconds: float) -> str:
    minutes = max(0.0, seconds) / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.0f} h"
