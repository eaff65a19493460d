"""Changes of the accounts by the operator, for the commands and the dashboard: adding, renewing, renaming, pausing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final, TypeAlias

from upstream.accounts import Account
from upstream.protocol.cookies import Session
from upstream.protocol.pastes import Pasted

Accounts: TypeAlias = tuple[Account, ...]

#: Why a guest's session is refused, and what to do: the site lets guests chat only in battles (docs/protocol.md).
_GUEST_REFUSED: Final = (
    "this is a guest's session, which cannot choose a model: sign in to the site in that window, then copy again"
)
#: The steps of copying a session that the bridge can keep alive.
HOW_TO_COPY: Final = (
    "Log in to the site (arena.ai, formerly lmarena.ai) in a private window.",
    "Send one message there: only then is the cookie complete.",
    'Copy any request to arena.ai (developer tools, Network, reload, right-click, "Copy as cURL"), or the cookie.',
    "Close that window without logging out.",
)
#: Why that window must be closed.
ONE_HOLDER: Final = (
    "Never use the same login in a browser and in the bridge at the same time: the login renews itself with a refresh "
    "token, and using one twice ends the login."
)

_LABEL: Final = re.compile(r"[\w .@+\-]{1,64}")


def check_label(label: str) -> None:
    """Raise ValueError unless this is a valid label for an account."""
    if not _LABEL.fullmatch(label):
        raise ValueError("label: must be 1 to 64 letters, digits, spaces and . _ @ + -")


def enrolled(accounts: Accounts, label: str | None, session: Session) -> Accounts:
    """`accounts` with the session's account: appended if it is new, or renewed in place if the user has one.

    Without `label`, an account keeps its own, and a new one is labelled with its e-mail address. Renewal ends the
    account's cooldowns: the operator wants it used, and if the site's limit still applies, the next call shows that.
    Raises ValueError if the session is a guest's or the label is another account's.
    """
    if session.guest:
        raise ValueError(_GUEST_REFUSED)
    old = next((each for each in accounts if each.user_id == session.user_id), None)
    label = label or (old.label if old else session.email or session.user_id)
    if any(each.label == label for each in accounts if each is not old):
        raise ValueError(f"another account is labelled {label!r}: choose another label, or remove that one")
    if old is None:
        return (*accounts, Account(label, session))
    renewed = replace(old, label=label, session=session, expired=False, cooldowns={}, bar=None)
    return tuple(renewed if each is old else each for each in accounts)


def without(accounts: Accounts, name: str) -> Accounts:
    """`accounts` without the one with this user id or label. Raises ValueError if there is none."""
    account = find_account(accounts, name)
    return tuple(each for each in accounts if each is not account)


def renamed(accounts: Accounts, name: str, label: str) -> Accounts:
    """`accounts` with another label for the one with this user id or label. Raises ValueError."""
    check_label(label)
    account = find_account(accounts, name)
    if any(each.label == label for each in accounts if each is not account):
        raise ValueError(f"another account is labelled {label!r}: choose another label")
    return tuple(replace(each, label=label) if each is account else each for each in accounts)


def set_paused(accounts: Accounts, name: str, *, paused: bool) -> Accounts:
    """`accounts` with the one with this user id or label paused, or resumed. Raises ValueError."""
    account = find_account(accounts, name)
    return tuple(replace(each, paused=paused) if each is account else each for each in accounts)


def find_account(accounts: Accounts, name: str) -> Account:
    """The account with this user id, else with this label. Raises ValueError if there is none."""
    by_id = next((each for each in accounts if each.user_id == name), None)
    account = by_id or next((each for each in accounts if each.label == name), None)
    if account is None:
        raise ValueError(f"no account labelled {name!r}")
    return account


def owner_of(account: Account) -> str:
    """The e-mail address or user id of the account's owner, for display."""
    return account.session.email or f"user {account.user_id}"


def shortcomings(pasted: Pasted, session: Session, now: float, *, cleared: bool) -> Iterator[str]:
    """What the paste lacks, in sentences. `cleared`: the bridge already has a cf_clearance. `now` is unix time."""
    if session.expires_at <= now and not session.renewable:
        yield "This session has ended and cannot renew itself: log in and copy again."
    if not (pasted.cf_clearance or cleared):
        yield (
            "cf_clearance and the user agent are also useful, in case the site shows a challenge page. "
            "A request copied as cURL includes both."
        )
