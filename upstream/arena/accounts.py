"""The site's accounts: signing in, the session cookie whole or in pieces, its rotation and its death."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from upstream.arena.ids import fixed_uuid
from upstream.arena.replies import Header, RefusedError, unauthorized

COOKIE: Final = "arena-auth-prod-v1"
_PIECE_CHARS: Final = 3180  # where the site's sign-in library cuts a cookie, so that it fits a browser's 4096 bytes


@dataclass(slots=True, eq=False)
class Session:
    """One stay of an account: what the browser would hold. `cookie_value` changes when the site rotates it."""

    user_id: str
    email: str
    expires_at: int
    cookie_value: str = field(repr=False)
    alive: bool = True
    rotation: str | None = None  # "whole" or "pieces": how the next answer sets the new cookie

    @property
    def access_token(self) -> str:
        """The JWT within the cookie."""
        padded = self.cookie_value.removeprefix("base64-") + "=="
        return str(orjson.loads(base64.urlsafe_b64decode(padded))["access_token"])

    def cookies(self, pieces: bool = False) -> dict[str, str]:
        """Name → value, whole or cut into `arena-auth-prod-v1.0`, `.1`, …"""
        if not pieces:
            return {COOKIE: self.cookie_value}
        starts = range(0, len(self.cookie_value), _PIECE_CHARS)
        return {f"{COOKIE}.{n}": self.cookie_value[at : at + _PIECE_CHARS] for n, at in enumerate(starts)}


class Accounts:
    """All sessions, found by the value of their cookie."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}

    def sign_in(self, email: str, *, expires_at: int, now: float) -> Session:
        """A new session; the same address is the same account, with the same user id."""
        user_id = fixed_uuid(f"account {email}", 4)
        session = Session(user_id, email, expires_at, _cookie_value(user_id, email, expires_at, now))
        self._sessions[session.cookie_value] = session
        return session

    def expire(self, session: Session) -> None:
        """The session's cookie is dead from now on."""
        session.alive = False

    def recognise(self, cookies: Mapping[str, str], now: float) -> Session:
        """Whose cookies these are.

        Raises:
            RefusedError: 401, the session cookie is missing, unknown or expired.
        """
        session = self._sessions.get(joined(cookies))
        if session is None or not session.alive or session.expires_at <= now:
            raise RefusedError(unauthorized())
        return session

    def renew(self, session: Session, cookies: Mapping[str, str], now: float) -> list[Header]:
        """Carry out a rotation that is due: the `Set-Cookie` headers, clearing what the caller held in another form."""
        if session.rotation is None:
            return []
        del self._sessions[session.cookie_value]
        session.cookie_value = _cookie_value(session.user_id, session.email, session.expires_at, now)
        self._sessions[session.cookie_value] = session
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


def read_cookies(header: str) -> dict[str, str]:
    """Name → value of a `Cookie` header."""
    pairs = (pair.strip().partition("=") for pair in header.split(";"))
    return {name: value for name, _, value in pairs if name}


def joined(cookies: Mapping[str, str]) -> str:
    """The session cookie's value, whole or put together from its pieces up to the first gap; '' for none."""
    if COOKIE in cookies:
        return cookies[COOKIE]
    pieces: list[str] = []
    while (piece := cookies.get(f"{COOKIE}.{len(pieces)}")) is not None:
        pieces.append(piece)
    return "".join(pieces)


def _cookie_value(user_id: str, email: str, expires_at: int, now: float) -> str:
    """`base64-` + base64url of the session as the sign-in library stores it, with a token of its own each time."""
    seconds = int(now)
    providers = {"provider": "google", "providers": ["google"]}
    name, _, _ = email.partition("@")
    profile = {
        "avatar_url": f"https://lh3.googleusercontent.com/a/{secrets.token_urlsafe(40)}=s96-c",
        "email": email,
        "email_verified": True,
        "full_name": name.title(),
        "iss": "https://accounts.google.com",
        "name": name.title(),
        "phone_verified": False,
        "picture": f"https://lh3.googleusercontent.com/a/{secrets.token_urlsafe(40)}=s96-c",
        "provider_id": str(secrets.randbelow(10**21)),
        "sub": str(secrets.randbelow(10**21)),
    }
    claims = {
        "iss": "https://auth.arena.example/auth/v1",
        "sub": user_id,
        "aud": "authenticated",
        "exp": expires_at,
        "iat": seconds,
        "email": email,
        "phone": "",
        "app_metadata": providers,
        "user_metadata": profile,
        "role": "authenticated",
        "aal": "aal1",
        "amr": [{"method": "oauth", "timestamp": seconds}],
        "session_id": fixed_uuid(secrets.token_hex(), 4),
        "is_anonymous": False,
    }
    user = {
        "id": user_id,
        "aud": "authenticated",
        "role": "authenticated",
        "email": email,
        "app_metadata": providers,
        "user_metadata": profile,
        "identities": [{"identity_id": fixed_uuid(email, 4), "user_id": user_id, "identity_data": profile}],
        "is_anonymous": False,
    }
    head = {"alg": "HS256", "kid": "sEmBeDdEdArEnA01", "typ": "JWT"}
    session = {
        "access_token": f"{_base64url(head)}.{_base64url(claims)}.{secrets.token_urlsafe(32)}",
        "token_type": "bearer",
        "expires_in": expires_at - seconds,
        "expires_at": expires_at,
        "refresh_token": secrets.token_urlsafe(9),
        "user": user,
    }
    return f"base64-{_base64url(session)}"


def _base64url(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(value)).rstrip(b"=").decode()
