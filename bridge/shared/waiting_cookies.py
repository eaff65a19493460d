"""Session cookies that the site issued while Redis could not be used. A file keeps them until they are in Redis.

The site rejects a cookie that it has replaced, so without the file a daemon that ends meanwhile would lose its logins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from bridge.state.documents import StateFolder
from bridge.state.formats import DocumentFormat
from upstream.accounts import Account, digest
from upstream.protocol import cookies
from upstream.protocol.cookies import CookieError


class WaitingCookie(NamedTuple):
    """An account's new cookie, and the SHA-256 in hex of the one that it replaces, which Redis still has."""

    user_id: str
    replaces: str
    cookie: str

    def to_json(self) -> list[str]:
        """Plain values for the file."""
        return list(self)

    @classmethod
    def from_json(cls, value: object) -> WaitingCookie:
        """Read what `to_json` wrote. Raises ValueError."""
        match value:
            case [str(user_id), str(replaces), str(cookie)]:
                return cls(user_id, replaces, cookie)
        raise ValueError("a waiting cookie needs a user, a digest and a cookie")


def _parse(values: object) -> tuple[WaitingCookie, ...]:
    if not isinstance(values, list):
        raise ValueError("must be a list")
    return tuple(map(WaitingCookie.from_json, values))


#: `waiting_cookies.json`, beside the copies of what is in Redis.
WAITING: Final[DocumentFormat[tuple[WaitingCookie, ...]]] = DocumentFormat(
    "waiting_cookies", 1, _parse, lambda waiting: [each.to_json() for each in waiting], (), precious=True
)


class WaitingCookies:
    """The file, which all processes with the same state folder share.

    A cookie in it belongs to the process that must bring it to Redis.
    """

    def __init__(self, folder: StateFolder) -> None:
        self._document = folder.open(WAITING)
        self._ours: frozenset[WaitingCookie] = frozenset()

    async def applied(self, accounts: Iterable[Account]) -> tuple[Account, ...]:
        """The accounts with their cookies replaced by those that are not in Redis yet. Raises StateError.

        The cookies that are applied belong to this process from now on.
        """
        found = {(each.user_id, each.replaces): each for each in await self._document.load()}
        renewed: list[Account] = []
        for account in accounts:
            waiting = found.get((account.user_id, digest(account.session.value).hex()))
            if waiting is not None:
                self._ours |= {waiting}
            renewed.append(account if waiting is None else _renewed(account, waiting.cookie))
        return tuple(renewed)

    async def keep(self, shared: Mapping[str, Account], ours: Iterable[Account]) -> None:
        """Replace this process's cookies in the file by those of `ours` that Redis does not have. Raises StateError.

        `shared` are the accounts as Redis has them, by user id.
        """
        waiting = frozenset(
            WaitingCookie(account.user_id, digest(before.session.value).hex(), account.session.value)
            for account in ours
            if (before := shared.get(account.user_id)) is not None and before.session.value != account.session.value
        )
        if waiting != self._ours:
            ours_by_id = {each[:2] for each in self._ours | waiting}
            await self._document.update(
                lambda known: (*(each for each in known if each[:2] not in ours_by_id), *sorted(waiting))
            )
            self._ours = waiting


def _renewed(account: Account, cookie: str) -> Account:
    try:
        return replace(account, session=cookies.decode(cookie), expired=False)
    except CookieError:  # the file was changed by hand
        return account
