"""The site's accounts: logins, and the renewal and revocation of their tokens. A refresh token can be used once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from upstream.arena import tokens
from upstream.arena.ids import fixed_uuid
from upstream.arena.replies import Header, RefusedError, unauthorized
from upstream.arena.tokens import COOKIE, joined

_MAX_REPLACED: Final = 10_000  # old cookies that are remembered; the oldest are evicted first


@dataclass(slots=True, eq=False)
class Session:
    """One login of an account, as a browser would store it. `cookie_value` changes when the site replaces it.

    A test may change `guest` and `consented` (whether the account has accepted the terms of use) at any time.
    """

    user_id: str
    email: str  # a guest has one too, as the name of its account in a test; the site does not show it
    expires_at: int  # of the access token
    cookie_value: str = field(repr=False)
    alive: bool = True
    guest: bool = False
    consented: bool = True
    renewable: bool = True  # whether it has a refresh token
    rotation: str | None = None  # "whole" or "pieces": how the next answer sets the new cookie
    refreshes: int = 0  # how often a GET has renewed it
    spent_twice: int = 0  # how often a refresh token was used again
    revoked: bool = False  # because of that

    @property
    def access_token(self) -> str:
        """The JWT within the cookie."""
        return tokens.access_token(self.cookie_value)

    def cookies(self, pieces: bool = False) -> dict[str, str]:
        """The cookies by name: one, or pieces named `arena-auth-prod-v1.0`, `.1`, …"""
        if not pieces:
            return {COOKIE: self.cookie_value}
        starts = range(0, len(self.cookie_value), tokens.PIECE_CHARS)
        return {f"{COOKIE}.{n}": self.cookie_value[at : at + tokens.PIECE_CHARS] for n, at in enumerate(starts)}

    def rotate(self, *, pieces: bool = False) -> None:
        """Make the next answer set a new cookie; the old one is then no longer valid."""
        self.rotation = "pieces" if pieces else "whole"


@dataclass(frozen=True, slots=True)
class _ReplacedCookie:
    """A cookie that has been replaced: its refresh token has been used."""

    session: Session
    expires_at: int


class Accounts:
    """All sessions, found by the value of their cookie."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}
        self._replaced: dict[str, _ReplacedCookie] = {}

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
        """Create a session; the same address means the same account, with the same user id."""
        user_id = fixed_uuid(f"{'guest' if guest else 'account'} {email}", 4)
        value = tokens.cookie_value(user_id, email, expires_at, now, guest=guest, renewable=renewable)
        session = Session(user_id, email, expires_at, value, guest=guest, consented=consented, renewable=renewable)
        self._sessions[value] = session
        return session

    def recognise(self, cookies: Mapping[str, str], now: float) -> Session:
        """The session of these cookies, whose access token must not have expired.

        Raises:
            RefusedError: 401, the session cookie is missing, unknown, revoked, or its access token has expired.
        """
        session = self._sessions.get(joined(cookies))
        if session is None or not session.alive or session.expires_at <= now:
            raise RefusedError(unauthorized())
        return session

    def recognise_renewable(self, cookies: Mapping[str, str], now: float, within: float) -> Session:
        """The session of these cookies for a call that can renew it, so its access token may have expired.

        A replaced cookie that expires within `within` seconds, or has expired, would be renewed with a refresh token
        that was used before: that revokes the session.

        Raises:
            RefusedError: 401, the session cookie is missing, unknown, replaced or revoked, or its access token has
                expired and there is no refresh token.
        """
        value = joined(cookies)
        session = self._sessions.get(value)
        if session is not None and session.alive and (session.renewable or session.expires_at > now):
            return session
        replaced = self._replaced.get(value)
        if replaced is not None and replaced.expires_at - now <= within:
            replaced.session.spent_twice += 1
            replaced.session.alive = False
            replaced.session.revoked = True
        raise RefusedError(unauthorized())

    def renew(self, session: Session, cookies: Mapping[str, str], now: float, expires_at: int) -> list[Header]:
        """Replace the session's tokens; return the `Set-Cookie` headers, which also clear cookies of the other form.

        `session.rotation` determines whether the new cookie is set in pieces, and is reset.
        """
        self._replaced[session.cookie_value] = _ReplacedCookie(session, session.expires_at)
        while len(self._replaced) > _MAX_REPLACED:
            del self._replaced[next(iter(self._replaced))]
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
