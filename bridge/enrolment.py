"""How an account comes to the bridge, by command or in the dashboard: added, or renewed by whoever's cookie it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final, TypeAlias

from upstream.accounts import Account
from upstream.cookies import Session
from upstream.pastes import Pasted

Accounts: TypeAlias = tuple[Account, ...]

_LABEL: Final = re.compile(r"[\w .@+\-]{1,64}")


def check_label(label: str) -> None:
    """Raise ValueError unless an account may be called so."""
    if not _LABEL.fullmatch(label):
        raise ValueError("label: must be 1 to 64 letters, digits, spaces and . _ @ + -")


def enrolled(found: Accounts, label: str | None, session: Session) -> Accounts:
    """`found` with the session's account: a new one at the end, or the one of the same user renewed in its place.

    Without a label an account keeps its own, a new one is called by its address. Raises ValueError when the label is
    another account's.
    """
    old = next((each for each in found if each.user_id == session.user_id), None)
    label = label or (old.label if old else session.email or session.user_id)
    if any(each.label == label for each in found if each is not old):
        raise ValueError(f"another account is labelled {label!r}: choose another label, or remove that one")
    if old is None:
        return (*found, Account(label, session))
    renewed = replace(old, label=label, session=session, expired=False)
    return tuple(renewed if each is old else each for each in found)


def without(found: Accounts, label: str) -> Accounts:
    """`found` without the account of this label or user id. Raises ValueError if there is none."""
    kept = tuple(each for each in found if label not in (each.label, each.user_id))
    if len(kept) == len(found):
        raise ValueError(f"no account labelled {label!r}")
    return kept


def by_user(found: Accounts, user_id: str) -> Account:
    """The account of that user, who is one of `found`."""
    return next(each for each in found if each.user_id == user_id)


def whose(account: Account) -> str:
    """What tells a person whose it is."""
    return account.session.email or f"user {account.user_id}"


def missing(pasted: Pasted, session: Session, now: float, *, cleared: bool) -> Iterator[str]:
    """What the paste lacks, in words. `cleared`: the bridge has a cf_clearance already. `now` is unix time."""
    if session.expires_at <= now:
        yield "a cookie that still holds. Open the site in the browser and copy it anew."
    if not (pasted.cf_clearance or cleared):
        yield 'cf_clearance and the user agent, which the site may ask for. A "copy as cURL" line has them.'
