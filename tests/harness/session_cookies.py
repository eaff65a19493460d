"""Generates session cookies for tests, and splits and names them like a browser."""

from __future__ import annotations

import base64
import json
import random

from hypothesis import strategies as st

from upstream.protocol.cookies import Session

NAME = "arena-auth-prod-v1"
CLEARANCE = "cL3ar.ance-1763-1.2.1.1-x_y"
USER = {"id": "u-1", "email": "ada@example.org"}


def encoded(value: object, *, standard: bool = False, padded: bool = False) -> str:
    raw = json.dumps(value, ensure_ascii=False).encode()
    text = (base64.b64encode if standard else base64.urlsafe_b64encode)(raw).decode()
    return text if padded else text.rstrip("=")


def jwt(**claims: object) -> str:
    return f"{encoded({'alg': 'HS256'})}.{encoded(claims)}.c2lnbmF0dXJl"


def session_json(**changes: object) -> dict[str, object]:
    """A session; a field given as `...` is omitted."""
    whole: dict[str, object] = {
        "access_token": jwt(exp=1_800_000_000, sub="u-1"),
        "token_type": "bearer",
        "refresh_token": "r3fresh",
        "expires_at": 1_800_000_001,
        "user": USER,
    }
    return {key: value for key, value in (whole | changes).items() if value is not ...}


def cookie(**changes: object) -> str:
    return "base64-" + encoded(session_json(**changes))


def long_cookie(seed: int = 1, length: int = 3_000) -> str:
    filler = "".join(random.Random(seed).choices("abcdefghijklmnopqrstuvwxyz", k=length))
    return cookie(provider_token=filler)


def cut(value: str, size: int = 3180) -> list[str]:
    return [value[start : start + size] for start in range(0, len(value), size)]


def named(pieces: list[str]) -> list[tuple[str, str]]:
    return [(f"{NAME}.{index}", piece) for index, piece in enumerate(pieces)]


VALUE = cookie()


def expected(value: str, email: str | None = "ada@example.org") -> Session:
    """The session in a cookie made by `session_json` without an issue date."""
    expires_at = 1_800_000_001.0
    return Session(value, "u-1", email, expires_at, guest=False, renewable=True, issued_at=expires_at - 3600)


SESSION = expected(VALUE)
LONG = long_cookie()  # two pieces
LONGER = long_cookie(length=6_000)  # three

text = st.text(max_size=20)
sessions = st.builds(
    session_json,
    user=st.fixed_dictionaries({"id": st.text(min_size=1, max_size=20), "email": st.none() | st.text(min_size=1)}),
    expires_at=st.integers(0, 2**53) | st.floats(0, 1e12),
    refresh_token=text,
    user_metadata=st.dictionaries(text, text, max_size=3),
    provider_token=st.integers(0, 400).map("x".__mul__),
)
