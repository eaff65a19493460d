"""The session cookie: decoding it, sending it, and replacing it from the site's Set-Cookie headers.

Its value is `base64-` and base64url of JSON with `access_token` (a JWT), `refresh_token`, `expires_at` and `user`; a
long one is stored and sent in pieces, `.0`, `.1` and so on (docs/protocol.md, "Identity"). `pastes` finds a cookie in
pasted text.
"""

from __future__ import annotations

import math
import re
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count
from typing import Final
from urllib.parse import unquote

import orjson

SESSION_COOKIE: Final = "arena-auth-prod-v1"
CLEARANCE_COOKIE: Final = "cf_clearance"
SESSION_PREFIX: Final = "base64-"
#: A pattern for one valid character of a cookie's value: cookie-octet in RFC 6265, 4.1.1.
COOKIE_OCTET: Final = r"[!#-+\--:<-\[\]-~]"
#: The size at which the site's login library splits the cookie, so that each piece stays below 4096 bytes.
PIECE_CHARS: Final = 3180

#: The assumed lifetime of an access token in seconds, if the session does not say when it was issued.
_TOKEN_SECONDS: Final = 3600.0
_PIECE: Final = re.compile(rf"{SESSION_COOKIE}\.([0-9]{{1,2}})")
_COOKIE_VALUE: Final = re.compile(f"{COOKIE_OCTET}*")
_MAX_AGE: Final = re.compile(r";\s*max-age\s*=\s*(-?[0-9]{1,15})", re.IGNORECASE)
_EPOCH: Final = re.compile(r";\s*expires\s*=[^;]*\b1970\b", re.IGNORECASE)
_URL_SAFE_TO_STANDARD: Final = str.maketrans("-_", "+/")


class CookieError(ValueError):
    """A paste contains no valid session, or a value is not valid in a cookie; the text does not quote it."""


@dataclass(frozen=True, slots=True)
class Session:
    """A session cookie's exact value and its content; the times are the access token's, in unix seconds.

    `guest`: the user has not signed in, so the site allows battles only. `renewable`: there is a refresh token, with
    which the site can renew the session even after it has expired.
    """

    value: str = field(repr=False)
    user_id: str
    email: str | None
    expires_at: float
    guest: bool
    renewable: bool
    issued_at: float


def decode(value: str) -> Session:
    """Decode a whole session cookie. Raises CookieError with the reason."""
    session = contents(value)
    access_token = _text(session.get("access_token"))
    if access_token is None:
        raise CookieError("the session cookie has no access_token")
    claims = _claims(access_token)
    user = session.get("user")
    user = user if isinstance(user, dict) else {}
    user_id = user.get("id") or claims.get("sub")
    if not isinstance(user_id, str) or not user_id:
        raise CookieError("the session cookie names no user")
    expires_at = _number(session.get("expires_at"), claims.get("exp"))
    if expires_at is None:
        raise CookieError("the session cookie has no expires_at")
    issued_at = _number(claims.get("iat"))
    if issued_at is None:
        issued_at = expires_at - (_number(session.get("expires_in")) or _TOKEN_SECONDS)
    email = _text(user.get("email")) or _text(claims.get("email"))
    return Session(
        value,
        user_id,
        email,
        expires_at,
        guest=email is None and (_anonymous(user) or _anonymous(claims)),
        renewable=_text(session.get("refresh_token")) is not None,
        issued_at=issued_at,
    )


def contents(value: str) -> dict[str, object]:
    """The JSON object within a session cookie, unchecked. Raises CookieError if there is none."""
    check_value(SESSION_COOKIE, value)
    if not value.startswith(SESSION_PREFIX):
        raise CookieError(f"the session cookie does not begin with {SESSION_PREFIX}: is piece 0 missing?")
    return _json_object(value.removeprefix(SESSION_PREFIX))


def encode(session: Mapping[str, object]) -> str:
    """The cookie's value for a session given as JSON, as in a browser's local storage.

    Raises CookieError if it is nested too deeply to be encoded.
    """
    try:
        return SESSION_PREFIX + urlsafe_b64encode(orjson.dumps(session)).rstrip(b"=").decode()
    except orjson.JSONEncodeError as error:
        raise CookieError("the session's JSON cannot be encoded as a cookie") from error


@lru_cache(maxsize=128)  # one header for all calls of an account: open streams share its memory
def cookie_header(session_value: str, cf_clearance: str) -> str:
    """The `Cookie` header of a call; empty values are omitted, and a long session is sent in pieces.

    Raises CookieError for an invalid character in a value: a line break would inject a header.
    """
    cookies = {CLEARANCE_COOKIE: cf_clearance} | _browser_cookies(session_value)
    for name, value in cookies.items():
        check_value(name, value)
    return "; ".join(f"{name}={value}" for name, value in cookies.items() if value)


def rotated(set_cookie_headers: Iterable[str], current: str) -> str | None:
    """The session with which an answer's Set-Cookie headers replace `current`, as a whole or in pieces.

    None if they do not change it, only delete it, give a value that cannot be decoded, or start a session of another
    user, as a site may do if it takes the caller for a visitor.
    """
    changes: dict[str, str] = {}
    for header in set_cookie_headers:
        pair, _, attributes = header.partition(";")
        name, _, value = pair.partition("=")
        if _is_deletion(f";{attributes}"):  # if the answer sets it too, this is the one of another domain or path
            changes.setdefault(name.strip(), "")
        else:
            changes[name.strip()] = value.strip().strip('"')
    if not changes:  # as in nearly every answer: saves decoding the current cookie
        return None
    for cookies in (changes, _browser_cookies(current) | changes):
        try:
            session = decode(combined(cookies))
        except CookieError:
            continue
        return session.value if session.value != current and session.user_id == _user_of(current) else None
    return None


def _user_of(value: str) -> str | None:
    try:
        return decode(value).user_id
    except CookieError:
        return None


def combined(cookies: Mapping[str, str]) -> str:
    """The session cookie's value, '' if there is none; a whole cookie takes precedence over pieces, as on the site.

    Raises CookieError if a piece before the last one is missing.
    """
    if whole := cookies.get(SESSION_COOKIE):
        return unquoted(whole)
    pieces = {int(piece[1]): value for name, value in cookies.items() if value and (piece := _PIECE.fullmatch(name))}
    missing = next(index for index in count() if index not in pieces)
    if missing < len(pieces):
        raise CookieError(f"piece {missing} of the session cookie is missing")
    return unquoted("".join(pieces[index] for index in range(missing)))


def unquoted(value: str) -> str:
    """Remove percent escapes and quotes. Join pieces first: a percent escape may be split between two."""
    return unquote(value).strip('"')


def check_value(name: str, value: str) -> None:
    """Raise CookieError if a cookie's value contains invalid characters."""
    if not _COOKIE_VALUE.fullmatch(value):
        raise CookieError(f"the value of {name} contains characters that are not allowed in a cookie")


def _browser_cookies(session_value: str) -> dict[str, str]:
    """The session as a browser stores it: one cookie, or several pieces."""
    if len(session_value) <= PIECE_CHARS:
        return {SESSION_COOKIE: session_value}
    starts = range(0, len(session_value), PIECE_CHARS)
    return {f"{SESSION_COOKIE}.{n}": session_value[start : start + PIECE_CHARS] for n, start in enumerate(starts)}


def _json_object(encoded: str) -> dict[str, object]:
    """Decode a JSON object from base64 of either alphabet, with or without padding."""
    stripped = encoded.rstrip("=").translate(_URL_SAFE_TO_STANDARD)
    try:
        value = orjson.loads(b64decode(stripped + "=" * (-len(stripped) % 4), validate=True))
    except orjson.JSONDecodeError as error:
        raise CookieError("the session cookie is cut short: copy it whole, with all of its pieces") from error
    except ValueError as error:
        raise CookieError("the session cookie is not base64, or is cut short") from error
    if not isinstance(value, dict):
        raise CookieError("the session cookie contains JSON, but not a session")
    return value


def _claims(token: str) -> dict[str, object]:
    """The claims of a JWT; empty if it is not a JWT, since only upstream can tell whether it is valid."""
    _, _, rest = token.partition(".")
    try:
        return _json_object(rest.partition(".")[0])
    except CookieError:
        return {}


def _is_deletion(attributes: str) -> bool:
    max_age = _MAX_AGE.search(attributes)  # takes precedence over Expires (RFC 6265, 5.3)
    return int(max_age[1]) <= 0 if max_age else _EPOCH.search(attributes) is not None


def _anonymous(values: Mapping[str, object]) -> bool:
    """Whether a user or a token's claims are those of a guest."""
    return values.get("is_anonymous") is True or values.get("role") == "anon"


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(*values: object) -> float | None:
    """The first of the values that is a finite number."""
    for value in values:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    return None
