"""The status of an account, determined here alone for the log, `/health`, `/metrics`, commands and the dashboard.

Pure functions. Their texts contain no secret and no account's label.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Final, NamedTuple

from bridge.diagnosis import ADVICE
from upstream.accounts import EVERYTHING, EXPIRY_WARNING_SECONDS, Account
from upstream.protocol.cookies import Session
from upstream.protocol.errors import Reason, UpstreamError

#: Why an account is not used for anything, and where the operator sees that too.
DOUBTED: Final = "LMArena doubts that a human uses this account"
SAME_FLAG: Final = "Its own page shows the same flag"


class Condition(StrEnum):
    """The status of an account in one word, the worst first."""

    EXPIRED = "expired"  # the site does not accept its login
    GUEST = "guest"
    TERMS = "terms"
    FAILING = "failing"  # the renewal of its login fails
    ENDED = "ended"  # its login cannot be renewed and is past its end; only the site can confirm that
    COOLDOWN = "resting"  # the word that the API and the metrics have always used
    ENDING = "ending"  # its login cannot be renewed, and ends within a day
    PAUSED = "paused"  # by its owner
    USABLE = "usable"


class FailedRenewal(NamedTuple):
    """Why the renewal of a login fails, since when (unix seconds by the site's clock), and how often in a row."""

    since: float
    error: UpstreamError
    failures: int = 1

    def matters(self, session: Session, now: float) -> bool:
        """Whether this should be reported: a single failure is harmless while the token is valid.

        `now` is by the site's clock.
        """
        return session.renewable and (self.failures > 1 or session.expires_at <= now)


class Finding(NamedTuple):
    """One problem with an account.

    `what` has happened and what the operator has `to_do` are clauses without a full stop, code between backticks;
    `to_do` is '' if the problem ends by itself. `blocks` means that the account cannot be used for chats meanwhile.
    """

    condition: Condition
    reason: Reason
    what: str
    to_do: str = ""
    blocks: bool = False

    @property
    def clause(self) -> str:
        """`what` and `to_do` in one clause."""
        return f"{self.what}: {self.to_do}" if self.to_do else self.what


class AccountStatus(NamedTuple):
    """All problems of an account, the worst first; none if it is usable."""

    findings: tuple[Finding, ...]

    @property
    def worst(self) -> Finding | None:
        """The worst problem; None if there is none."""
        return self.findings[0] if self.findings else None

    @property
    def condition(self) -> Condition:
        """The worst problem's condition."""
        return self.findings[0].condition if self.findings else Condition.USABLE

    @property
    def obstacle(self) -> Finding | None:
        """Why the account cannot be used for a chat now; None if it can."""
        return next((finding for finding in self.findings if finding.blocks), None)


def utc(moment: float) -> str:
    """A unix time as text, `at 2026-11-30 12:00 UTC`. Negative times become 0."""
    return time.strftime("at %Y-%m-%d %H:%M UTC", time.gmtime(max(0.0, moment)))


def judge(
    account: Account,
    now: float,
    site_now: float,
    failing: FailedRenewal | None = None,
    *,
    when: Callable[[float], str] = utc,
) -> AccountStatus:
    """Determine the status of an account.

    `now` is unix time in seconds by this machine's clock, to which cooldowns refer; `site_now` is by the site's, to
    which logins refer. `failing` is set if the renewal of the login fails. `when` formats the end of a login, with its
    preposition.
    """
    return AccountStatus(tuple(_findings(account, now, site_now, failing, when)))


def validity(session: Session, now: float, when: Callable[[float], str]) -> str:
    """How long a login is valid, as a predicate. `now` is by the site's clock, `when` as for `judge`."""
    if session.renewable:
        return "renews itself"
    if session.expires_at <= now:
        return f"ended {when(session.expires_at)} and cannot be renewed"
    return f"ends for good {when(session.expires_at)}"


def login_validity(session: Session, now: float, when: Callable[[float], str]) -> str:
    """How long a login is valid, as a clause."""
    return f"{'its login' if session.renewable else 'the session'} {validity(session, now, when)}"


def _findings(
    account: Account, now: float, site_now: float, failing: FailedRenewal | None, when: Callable[[float], str]
) -> Iterator[Finding]:
    session = account.session
    left = math.inf if session.renewable else session.expires_at - site_now
    log_in_again = ADVICE[Reason.EXPIRED].now
    if account.expired:
        what = "the site no longer accepts its login" if left > 0 else login_validity(session, site_now, when)
        yield Finding(Condition.EXPIRED, Reason.EXPIRED, what, log_in_again, blocks=True)
        yield from _cooldowns(account, now)
        yield from _pause(account)
        return
    if account.bar is not None:
        why, to_do, _ = ADVICE[account.bar]
        yield Finding(Condition(account.bar.value), account.bar, why, to_do, blocks=True)
    if failing is not None and failing.matters(session, site_now):
        yield Finding(Condition.FAILING, failing.error.reason, _failing(failing, site_now))
    if left <= 0:
        yield Finding(Condition.ENDED, Reason.EXPIRED, login_validity(session, site_now, when), log_in_again)
    yield from _cooldowns(account, now)
    if 0 < left < EXPIRY_WARNING_SECONDS:
        what = login_validity(session, site_now, when)
        yield Finding(Condition.ENDING, Reason.EXPIRED, what, f"before then, {log_in_again}")
    yield from _pause(account)


def _pause(account: Account) -> Iterator[Finding]:
    if account.paused:
        what = "paused by its owner: it takes no requests, but its login is still renewed"
        yield Finding(
            Condition.PAUSED,
            Reason.NO_ACCOUNT,
            what,
            "resume it on the Accounts page, or with `lmarena-bridge accounts resume`",
            blocks=True,
        )


def _failing(failing: FailedRenewal, now: float) -> str:
    minutes = max(0.0, now - failing.since) / 60
    span = f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.0f} h"
    since = f"{time.strftime('%H:%M UTC', time.gmtime(failing.since))} ({span})"
    why = failing.error.message.rstrip(".")
    return f"renewal of its login has failed since {since}: {why}; the bridge keeps retrying"


def _cooldowns(account: Account, now: float) -> Iterator[Finding]:
    for modality, until in account.cooldowns.items():
        seconds = math.ceil(until - now)
        if seconds <= 0:
            continue
        if modality == EVERYTHING:
            what, reason = f"{DOUBTED}: it is not used for {seconds} s. {SAME_FLAG}", Reason.RECAPTCHA
        else:
            what, reason = f"on cooldown for {modality} for {seconds} s after a 429", Reason.RATE_LIMITED
        yield Finding(Condition.COOLDOWN, reason, what, blocks=modality in ("chat", EVERYTHING))
