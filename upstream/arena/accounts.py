"""The site's accounts: signing in, and the life of a session's tokens. A refresh token is good for one renewal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from upstream.arena import tokens
from upstream.arena.ids import fixed_uuid
from upstream.arena.replies import Header, RefusedError, unauthorized
from upstream.arena.tokens import COOKIE, joined

_SPENT: Final = 10_000  # old cookies that are remembered; the oldest go first


@dataclass(slots=True, eq=False)
class Session:
    """One login of an account: what the browser would hold. `cookie_value` changes when the site replaces it.

    A test may change `guest` and `consented` (whether the account has accepted the terms of use) at any time.
    """

    user_id: str
    email: str  # also a guest's, as the name of its account in a test; the site does not know it
    expires_at: int  # of the access token
    cookie_value: str = field(repr=False)
    alive: bool = True
    guest: bool = False
    consented: bool = True
    renewable: bool = True  # whether it has a refresh token
    rotation: str | None = None  # "whole" or "pieces": how the next answer sets the new cookie
    refreshes: int = 0  # how often a GET has renewed it
    spent_twice: int = 0  # how often a refresh token was used that had been used before
    revoked: bool = False  # it died of that

    @property
    def access_token(self) -> str:
        """The JWT within the cookie."""
        return tokens.access_token(self.cookie_value)

    def cookies(self, pieces: bool = False) -> dict[str, str]:
        """Name → value, whole or cut into `arena-auth-prod-v1.0`, `.1`, …"""
        if not pieces:
            return {COOKIE: self.cookie_value}
        starts = range(0, len(self.cookie_value), tokens.PIECE_CHARS)
        return {f"{COOKIE}.{n}": self.cookie_value[at : at + tokens.PIECE_CHARS] for n, at in enumerate(starts)}


@dataclass(frozen=True, slots=True)
class _Spent:
    """A cookie that has been replaced: its refresh token has been used."""

    session: Session
    expires_at: int


class Accounts:
    """All sessions, found by the value of their cookie."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}
        self._spent: dict[str, _Spent] = {}

    def sign_in(
        self,
        email: str,
        *,
        expires_at: int,
        now: float,
        guest: bool = False,
        consented: bool = True,
        renewable: bool = True,
    ) -> Session:
        """A new session; the same address is the same account, with the same user id."""
        user_id = fixed_uuid(f"{'guest' if guest else 'account'} {email}", 4)
        value = tokens.cookie_value(user_id, email, expires_at, now, guest=guest, renewable=renewable)
        session = Session(user_id, email, expires_at, value, guest=guest, consented=consented, renewable=renewable)
        self._sessions[value] = session
        return session

    def expire(self, session: Session) -> None:
        """The session is over: its cookie is dead and cannot be renewed."""
        session.alive = False

    def recognise(self, cookies: Mapping[str, str], now: float) -> Session:
        """The session of these cookies, whose access token must not have ended.

        Raises:
            RefusedError: 401, the session cookie is missing, unknown, dead, or its access token has ended.
        """
        session = self._sessions.get(joined(cookies))
        if session is None or not session.alive or session.expires_at <= now:
            raise RefusedError(unauthorized())
        return session

    def recognise_renewable(self, cookies: Mapping[str, str], now: float, within: float) -> Session:
        """The session of these cookies for a call that can renew it, so its access token may have ended.

        A cookie that has been replaced, and that ends within `within` seconds or has ended, would be renewed with a
        refresh token that was used before: that revokes the session.

        Raises:
            RefusedError: 401, the session cookie is missing, unknown, replaced or dead, or its access token has ended
                and there is no refresh token.
        """
        value = joined(cookies)
        session = self._sessions.get(value)
        if session is not None and session.alive and (session.renewable or session.expires_at > now):
            return session
        spent = self._spent.get(value)
        if spent is not None and spent.expires_at - now <= within:
            spent.session.spent_twice += 1
            spent.session.alive = False
            spent.session.revoked = True
        raise RefusedError(unauthorized())

    def renew(self, session: Session, cookies: Mapping[str, str], now: float, expires_at: int) -> list[Header]:
        """Replace the session's tokens: the new cookie's `Set-Cookie` headers, clearing what was held in another form.

        `session.rotation` says whether the new cookie comes in pieces, and is reset.
        """
        self._spent[session.cookie_value] = _Spent(session, session.expires_at)
        while len(self._spent) > _SPENT:
            del self._spent[next(iter(self._spent))]
        del self._sessions[session.cookie_value]
        session.expires_at = expires_at
        value = tokens.cookie_value(
            session.user_id, session.email, expires_at, now, guest=session.guest, renewable=session.renewable
        )
        session.cookie_value = value
        self._sessions[value] = session
        fresh = session.cookies(pieces=session.rotation == "pieces")
        session.rotation = None
        stale = [name for name in cookies if name.partition(".")[0] == COOKIE and name not in fresh]
        return [
            *(
                ("set-cookie", f"{name}={value}; Path=/; Max-Age=34560000; SameSite=Lax")
                for name, value in fresh.items()
            ),
            *(("set-cookie", f"{name}=; Path=/; Max-Age=0; SameSite=Lax") for name in stale),
        ]
