"""Whatever the user pasted → whose session it is and when it expires; Set-Cookie → the rotated session.

The site's session cookie is `base64-` and base64 of JSON with `access_token` (a JWT), `refresh_token`, `expires_at`
and `user`; a browser holds a long one in pieces, `.0`, `.1` and so on (PROTOCOL, identity).
"""

from __future__ import annotations

import math
import re
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count, pairwise
from urllib.parse import unquote

import orjson

SESSION_COOKIE = "arena-auth-prod-v1"
CLEARANCE_COOKIE = "cf_clearance"
PIECE_CHARS = 3180  # where the site's login library cuts, so that a cookie with its name stays below 4096 bytes

_PREFIX = "base64-"
_NAME = rf"(?:{SESSION_COOKIE}(?:\.[0-9]{{1,2}})?|{CLEARANCE_COOKIE})"
# A cookie in a header, an assignment or a table row (TAB), or a name and its value on two lines.
_COOKIE = re.compile(
    rf"""(?<![\w.-])({_NAME})["']?(?:\t|[ \t]*[=:][ \t]*|[ ]*\r?\n)["']?(?!{_NAME}\b)([^\s;,"']*)["']?"""
)
_PIECE = re.compile(rf"{SESSION_COOKIE}\.([0-9]{{1,2}})")
_COOKIE_VALUE = re.compile(r"[!#-+\--:<-\[\]-~]*")  # RFC 6265, 4.1.1: cookie-octet
_USER_AGENT = re.compile(r"^[ \t]*user-agent(?::[ \t]*|[ \t]*\r?\n)(\S.*)$", re.IGNORECASE | re.MULTILINE)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_MAX_AGE = re.compile(r";\s*max-age\s*=\s*(-?[0-9]+)", re.IGNORECASE)
_EPOCH = re.compile(r";\s*expires\s*=[^;]*\b1970\b", re.IGNORECASE)
_URL_SAFE_TO_STANDARD = str.maketrans("-_", "+/")

_CURL = re.compile(r"(?:\$ )?curl(?:\.exe)?\s")
_SHELL = re.compile(
    r"""(?P<space>(?:\s|\\\r?\n)+)|\$'(?P<ansi>(?:[^'\\]|\\.)*)'|'(?P<single>[^']*)'"""
    r"""|"(?P<double>(?:[^"\\]|\\.)*)"|\\(?P<escaped>.)|(?P<plain>[^\s'"\\$]+|.)""",
    re.DOTALL,
)
_ANSI_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{1,4})|x([0-9a-fA-F]{1,2})|(.))", re.DOTALL)
_ANSI_LETTERS = {"n": "\n", "r": "\r", "t": "\t"}


class CookieError(ValueError):
    """A paste gives no session, or a value is no cookie's; the text says what is wrong and quotes none of it."""


@dataclass(frozen=True, slots=True)
class Session:
    """A session cookie's exact value and what stands in it; `expires_at` is in unix seconds."""

    value: str = field(repr=False)
    user_id: str
    email: str | None
    expires_at: float


@dataclass(frozen=True, slots=True)
class Pasted:
    """What a paste held. `session` is None only where a clearance came with its user agent: enough to renew these."""

    session: Session | None
    cf_clearance: str | None = field(repr=False)
    user_agent: str | None


def read_pasted(text: str) -> Pasted:
    """Read a cookie's value, its pieces, table rows, a `Cookie` header, a "copy as cURL" line or a JSON export.

    Raises CookieError when there is neither a session nor a clearance with its user agent.
    """
    lines = _as_lines(text.lstrip("\ufeff").strip())
    if _CONTROL.search(lines):
        raise CookieError("it holds control characters: copy it anew, as plain text")
    cookies = _named(lines)
    clearance = cookies.get(CLEARANCE_COOKIE)
    if clearance is not None:
        _check(CLEARANCE_COOKIE, clearance)
    agent = _USER_AGENT.search(lines)
    user_agent = agent[1].rstrip() if agent else None
    if user_agent is not None and not user_agent.isascii():
        raise CookieError("the user agent holds characters that no browser sends")
    if value := _combined(cookies) or _bare(_COOKIE.sub(" ", lines)):
        return Pasted(decode(value), clearance, user_agent)
    if clearance is None:
        raise CookieError(f"no session cookie in it: copy the value of {SESSION_COOKIE}, or all of its pieces")
    if user_agent is None:
        raise CookieError(f"this is {CLEARANCE_COOKIE} only: {SESSION_COOKIE} is missing")
    return Pasted(None, clearance, user_agent)


def decode(value: str) -> Session:
    """Read what a whole session cookie says. Raises CookieError with what is wrong with it."""
    _check(SESSION_COOKIE, value)
    if not value.startswith(_PREFIX):
        raise CookieError(f"the session cookie does not begin with {_PREFIX}: is piece 0 missing?")
    session = _json_object(value.removeprefix(_PREFIX))
    access_token = session.get("access_token")
    if not isinstance(access_token, str) or not access_token:
        raise CookieError("the session cookie has no access_token")
    claims = _claims(access_token)
    user = session.get("user")
    user = user if isinstance(user, dict) else {}
    user_id, email = user.get("id") or claims.get("sub"), user.get("email")
    if not isinstance(user_id, str) or not user_id:
        raise CookieError("the session cookie names no user")
    for expires_at in (session.get("expires_at"), claims.get("exp")):
        if isinstance(expires_at, int | float) and not isinstance(expires_at, bool) and math.isfinite(expires_at):
            return Session(value, user_id, email if isinstance(email, str) and email else None, float(expires_at))
    raise CookieError("the session cookie has no expires_at")


@lru_cache(maxsize=128)  # one header for all calls of an account: 3 KiB less for each open stream, and 30 µs
def cookie_header(session_value: str, cf_clearance: str) -> str:
    """The `Cookie` header of a call; an empty value leaves its cookie out, a long session goes in pieces.

    Raises CookieError when a value holds what no cookie may: a line end would begin a header of its own.
    """
    cookies = {CLEARANCE_COOKIE: cf_clearance} | _held(session_value)
    for name, value in cookies.items():
        _check(name, value)
    return "; ".join(f"{name}={value}" for name, value in cookies.items() if value)


def rotated(set_cookie_headers: Iterable[str], current: str) -> str | None:
    """The session that an answer's Set-Cookie headers put in the place of `current`, whole or piece by piece.

    None when they leave it as it is, only delete it, or make nothing of it that decodes.
    """
    changes: dict[str, str] = {}
    for header in set_cookie_headers:
        pair, _, attributes = header.partition(";")
        name, _, value = pair.partition("=")
        changes[name.strip()] = "" if _is_deletion(f";{attributes}") else value.strip().strip('"')
    if not changes:  # as in nearly every answer: decoding what is known costs 60 µs
        return None
    for cookies in (changes, _held(current) | changes):
        try:
            value = decode(_combined(cookies)).value
        except CookieError:
            continue
        return value if value != current else None
    return None


def _held(session_value: str) -> dict[str, str]:
    """The session as a browser holds it: in one cookie, or cut into pieces."""
    if len(session_value) <= PIECE_CHARS:
        return {SESSION_COOKIE: session_value}
    starts = range(0, len(session_value), PIECE_CHARS)
    return {f"{SESSION_COOKIE}.{n}": session_value[start : start + PIECE_CHARS] for n, start in enumerate(starts)}


def _combined(cookies: Mapping[str, str]) -> str:
    """The session's value, '' where there is none; a whole cookie goes before pieces, as in the site's library."""
    if whole := cookies.get(SESSION_COOKIE):
        return _unquoted(whole)
    pieces = {int(piece[1]): value for name, value in cookies.items() if value and (piece := _PIECE.fullmatch(name))}
    missing = next(index for index in count() if index not in pieces)
    if missing < len(pieces):
        raise CookieError(f"piece {missing} of the session cookie is missing")
    return _unquoted("".join(pieces[index] for index in range(missing)))


def _unquoted(value: str) -> str:
    return unquote(value).strip('"')  # pieces are joined first: a percent escape may be cut


def _check(name: str, value: str) -> None:
    if not _COOKIE_VALUE.fullmatch(value):
        raise CookieError(f"the value of {name} holds characters that no cookie has")


def _json_object(encoded: str) -> dict[str, object]:
    """Base64 of either alphabet, padded or not, of a JSON object."""
    stripped = encoded.rstrip("=").translate(_URL_SAFE_TO_STANDARD)
    try:
        value = orjson.loads(b64decode(stripped + "=" * (-len(stripped) % 4), validate=True))
    except orjson.JSONDecodeError as error:
        raise CookieError("the session cookie is cut short: copy it whole, with all of its pieces") from error
    except ValueError as error:
        raise CookieError("the session cookie is not base64, or is cut short") from error
    if not isinstance(value, dict):
        raise CookieError("the session cookie holds JSON, but no session")
    return value


def _claims(token: str) -> dict[str, object]:
    """What a JWT says about itself; nothing if it is no JWT, since only upstream can judge it."""
    _, _, rest = token.partition(".")
    try:
        return _json_object(rest.partition(".")[0])
    except CookieError:
        return {}


def _is_deletion(attributes: str) -> bool:
    max_age = _MAX_AGE.search(attributes)  # goes before Expires (RFC 6265, 5.3)
    return int(max_age[1]) <= 0 if max_age else _EPOCH.search(attributes) is not None


def _named(lines: str) -> dict[str, str]:
    cookies: dict[str, str] = {}
    for name, value in _COOKIE.findall(lines):
        # A browser may hold several clearances, one a partition; it sends the one that counts first.
        if value and cookies.setdefault(name, value) != value and name != CLEARANCE_COOKIE:
            raise CookieError(f"{name} stands in it twice with different values: paste one account at a time")
    return cookies


def _bare(text: str) -> str:
    """A value without its name, perhaps wrapped, or its pieces: only the first begins with the prefix."""
    words = [word.strip("\"'") for word in re.split(r"[\s;,]+", text)]
    first = {word for word in words if word.startswith(_PREFIX)}
    if len(first) > 1:
        raise CookieError("two session cookies in it: paste one account at a time")
    return _unquoted("".join([*first, *(word for word in words if word not in first)])) if first else ""


def _as_lines(text: str) -> str:
    """The headers of a cURL line or the cookies of a JSON export, one a line; any other text as it is."""
    if _CURL.match(text):
        return "\n".join(_curl_headers(text))
    if text.startswith(("[", "{")):
        try:
            return "\n".join(f"{name}={value}" for name, value in _exported(orjson.loads(text)))
        except orjson.JSONDecodeError:
            return text
    return text


def _exported(export: object) -> Iterator[tuple[object, object]]:
    match export:
        case list(entries) | {"cookies": list(entries)}:
            for entry in entries:
                match entry:
                    case {"name": str(name), "value": str(value)}:
                        yield name, value
        case dict():
            yield from export.items()


def _curl_headers(line: str) -> Iterator[str]:
    if '^"' in line:  # the form for the Windows prompt escapes with carets
        line = re.sub(r"\^(.)", r"\1", line, flags=re.DOTALL)
    for option, word in pairwise(_shell_words(line)):
        match option:
            case "-H" | "--header" | "-b" | "--cookie":
                yield word
            case "-A" | "--user-agent":
                yield f"user-agent: {word}"


def _shell_words(line: str) -> list[str]:
    """The words of a bash command, with its four ways of quoting; an unmatched quote stands for itself."""
    words = [""]
    for part in _SHELL.finditer(line):
        match part.lastgroup:
            case "space":
                words.append("")
            case "ansi":
                words[-1] += _ANSI_ESCAPE.sub(_ansi_character, part["ansi"])
            case "double":
                words[-1] += re.sub(r'\\(["\\$`])', r"\1", part["double"])
            case _:
                words[-1] += part[part.lastindex or 0]
    return words


def _ansi_character(escape: re.Match[str]) -> str:
    code = escape[1] or escape[2]
    return chr(int(code, 16)) if code else _ANSI_LETTERS.get(escape[3], escape[3])
