"""The session cookie: its content, and how it is joined from a `Cookie` header's pieces (`docs/protocol.md`)."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from typing import Any, Final

import orjson

from upstream.arena.ids import fixed_uuid

COOKIE: Final = "arena-auth-prod-v1"
PIECE_CHARS: Final = 3180  # where the site's login library splits a cookie to fit a browser's 4096 bytes


def read_cookies(header: str) -> dict[str, str]:
    """Parse a `Cookie` header into values by name."""
    pairs = (pair.strip().partition("=") for pair in header.split(";"))
    return {name: value for name, _, value in pairs if name}


def joined(cookies: Mapping[str, str]) -> str:
    """The session cookie's value, whole or joined from its pieces up to the first gap; '' if there is none."""
    if COOKIE in cookies:
        return cookies[COOKIE]
    pieces: list[str] = []
    while (piece := cookies.get(f"{COOKIE}.{len(pieces)}")) is not None:
        pieces.append(piece)
    return "".join(pieces)


def access_token(cookie_value: str) -> str:
    """The JWT within the cookie."""
    padded = cookie_value.removeprefix("base64-") + "=="
    return str(orjson.loads(base64.urlsafe_b64decode(padded))["access_token"])


def cookie_value(
    user_id: str, email: str, expires_at: int, now: float, *, guest: bool = False, renewable: bool = True
) -> str:
    """`base64-` + base64url of the session as the login library stores it, with new tokens each time.

    A guest's session has no e-mail address and no profile, and has `is_anonymous` set. Without `renewable`, there is no
    refresh token.
    """
    seconds = int(now)
    person = _guest() if guest else _person(email)
    claims = {
        "iss": "https://auth.arena.example/auth/v1",
        "sub": user_id,
        "aud": "authenticated",
        "exp": expires_at,
        "iat": seconds,
        "phone": "",
        **person,
        "role": "authenticated",
        "aal": "aal1",
        "amr": [{"method": "anonymous" if guest else "oauth", "timestamp": seconds}],
        "session_id": fixed_uuid(secrets.token_hex(), 4),
        "is_anonymous": guest,
    }
    identity = {"identity_id": fixed_uuid(email, 4), "user_id": user_id, "identity_data": person["user_metadata"]}
    user = {
        "id": user_id,
        "aud": "authenticated",
        "role": "authenticated",
        **person,
        "identities": [] if guest else [identity],
        "is_anonymous": guest,
    }
    head = {"alg": "HS256", "kid": "sEmBeDdEdArEnA01", "typ": "JWT"}
    session = {
        "access_token": f"{_base64url(head)}.{_base64url(claims)}.{secrets.token_urlsafe(32)}",
        "token_type": "bearer",
        "expires_in": expires_at - seconds,
        "expires_at": expires_at,
        **({"refresh_token": secrets.token_urlsafe(9)} if renewable else {}),
        "user": user,
    }
    return f"base64-{_base64url(session)}"


def _guest() -> dict[str, Any]:
    return {"app_metadata": {}, "user_metadata": {}}


def _person(email: str) -> dict[str, Any]:
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
    providers = {"provider": "google", "providers": ["google"]}
    return {"email": email, "app_metadata": providers, "user_metadata": profile}


def _base64url(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(value)).rstrip(b"=").decode()
