"""Finds the session in a user's paste, and the clearance and user agent if it contains them.

A session is recognised by its form: a value that begins with `base64-` and decodes to JSON with an access token, under
any name. Only pieces need the site's own names. Parsing takes linear time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from upstream.protocol.cookies import (
    CLEARANCE_COOKIE,
    SESSION_COOKIE,
    SESSION_PREFIX,
    CookieError,
    Session,
    check_value,
    combined,
    contents,
    decode,
    unquoted,
)
from upstream.protocol.copied import curl_headers, powershell_headers
from upstream.protocol.exports import expand_json

# Characters that editors, chats and documents substitute for others, or insert.
_TYPOGRAPHY: Final = (
    dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff"))
    | dict.fromkeys(map(ord, "“”„‟«»"), '"')
    | dict.fromkeys(map(ord, "‘’‚‛"), "'")
    | dict.fromkeys(map(ord, "\u00a0\u2007\u202f"), " ")
)
_FENCE: Final = re.compile(r"^[ \t]*`{3,}[\w+-]*[ \t]*\r?$", re.MULTILINE)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")

_NAME: Final = rf"(?:{SESSION_COOKIE}(?:\.[0-9]{{1,2}})?|{CLEARANCE_COOKIE})"
# A cookie in a header, an assignment, a pair or a table row (TAB or spaces), or a name and its value on two lines.
_COOKIE: Final = re.compile(
    rf"""(?<![\w.-])({_NAME})(?:["'][ \t]*,[ \t]*(?=["'])|["']?(?:\t|[ ]{{2,}}|[ \t]*[=:][ \t]*|[ ]*\r?\n))"""
    rf"""["']?(?!{_NAME}\b)([^\s;,"'`]*)["']?"""
)
_CODE_VERIFIER: Final = re.compile(r"""-code-verifier["']?(?:\t|[ ]{2,}|[ \t]*[=:][ \t]*|[ ]*\r?\n)["']?[^\s;,"'`]*""")
_TOKEN: Final = re.compile(rf"{SESSION_PREFIX}[A-Za-z0-9+/_%=-]+")
_WORD: Final = re.compile(r"[A-Za-z0-9+/_%=-]+")
# A line break within a value: the next line continues with characters of a value, and is not a `name: value` itself.
_WRAP: Final = re.compile(
    rf"""(?<=[A-Za-z0-9+/_%=-])[ \t]*\r?\n[ \t]*(?=[A-Za-z0-9+/_%=-])"""
    rf"""(?!{_NAME}\b|[\w.-]++["']?[ \t]*(?:[:\t]|=[^=\s]))"""
)
_USER_AGENT: Final = re.compile(
    r"""(?:^[ \t]*["']?|[{,][ \t]*["'])user[-_]?agent["']?(?:[ \t]*[:=][ \t]*|[ \t]*\r?\n)(\S.*)$""",
    re.IGNORECASE | re.MULTILINE,
)
_COOKIE_HEADER: Final = re.compile(r"""^[ \t]*["']?cookie["']?[ \t]*[:=]""", re.IGNORECASE | re.MULTILINE)

_CURL: Final = re.compile(r"^[ \t]*(?:[$>][ \t])?curl(?:\.exe)?\s", re.MULTILINE)
_POWERSHELL: Final = re.compile(
    r"^[ \t]*(?:\$\w+ ?= ?New-Object |\$\w+\.Cookies\.Add|Invoke-(?:WebRequest|RestMethod) )", re.MULTILINE
)
_FETCH: Final = re.compile(r"^[ \t]*(?:await )?fetch\(", re.MULTILINE)
# How developer tools copy a request: how it begins, and the function that extracts its headers.
_REQUESTS: Final[tuple[tuple[re.Pattern[str], Callable[[str], Iterable[str]]], ...]] = (
    (_CURL, curl_headers),
    (_POWERSHELL, powershell_headers),
    (_FETCH, lambda text: [expand_json(text)]),
)

_NO_SESSION: Final = "no session cookie in it: "
_TWO_SESSIONS: Final = "two session cookies in it: paste one account at a time"


@dataclass(frozen=True, slots=True)
class Pasted:
    """The content of a paste. `session` is None only if there are a clearance and its user agent to renew."""

    session: Session | None
    cf_clearance: str | None = field(repr=False)
    user_agent: str | None


def read_pasted(text: str) -> Pasted:
    """Parse any form that a user can copy: a cookie, header, request as a command, table, export, local storage.

    Raises CookieError if there is neither a session nor a clearance with its user agent, or if there are two different
    sessions.
    """
    lines, is_request = _as_lines(_FENCE.sub("", text.translate(_TYPOGRAPHY)).strip())
    if _CONTROL.search(lines):
        raise CookieError("it contains control characters: copy it again, as plain text")
    clearance = _clearance(_named(lines))
    user_agent = _user_agent(lines)
    problems: list[CookieError] = []
    for reading in _readings(lines):
        cookies = _named(reading)
        candidates = list(_candidates(reading, cookies))
        sessions = [each for each in candidates if isinstance(each, Session)]
        problems += (each for each in candidates if isinstance(each, CookieError))
        if sessions:
            return Pasted(_only(sessions), _clearance(cookies) or clearance, user_agent)
    if problems:
        raise problems[0]
    if clearance is not None and user_agent is not None:
        return Pasted(None, clearance, user_agent)
    if clearance is not None:
        raise CookieError(f"this is {CLEARANCE_COOKIE} only: {SESSION_COOKIE} is missing")
    if is_request and not _COOKIE_HEADER.search(lines):
        raise CookieError(f"{_NO_SESSION}this request carried no cookie. Copy one that was made to arena.ai itself")
    raise CookieError(f"{_NO_SESSION}copy the value of {SESSION_COOKIE}, or all of its pieces")


def _as_lines(text: str) -> tuple[str, bool]:
    """The headers of a copied request, or the text with its JSON expanded, and whether it is a request."""
    for beginning, headers in _REQUESTS:
        if begun := beginning.search(text):
            return "\n".join(headers(text[begun.start() :])), True
    return expand_json(text), False


def _readings(lines: str) -> Iterator[str]:
    """Yield the text as it is, then with wrapped lines joined, then with possible pieces without names joined."""
    yield lines
    yield _WRAP.sub("", lines)
    yield _joined(_without_named(lines))


def _candidates(reading: str, cookies: Mapping[str, str]) -> Iterator[Session | CookieError]:
    """Yield each value that could be a session, decoded, or the error."""
    try:
        named = combined(cookies)
    except CookieError as error:
        named = ""
        yield error
    found = (unquoted(token) for token in _TOKEN.findall(_without_named(reading)))
    for value in dict.fromkeys(each for each in (named, *found) if each):
        try:
            yield decode(value)
        except CookieError as error:
            yield error


def _only(sessions: list[Session]) -> Session:
    """The only session, which may occur in several encodings. Raises CookieError if there are different ones."""
    first, *others = sessions
    content = contents(first.value)
    if any(contents(other.value) != content for other in others):
        raise CookieError(_TWO_SESSIONS)
    return first


def _named(lines: str) -> dict[str, str]:
    cookies: dict[str, str] = {}
    for name, value in _COOKIE.findall(lines):
        # A browser may have several clearances, one for each partition; it sends the valid one first.
        if value and cookies.setdefault(name, value) != value and name != CLEARANCE_COOKIE:
            raise CookieError(f"{name} occurs twice with different values: paste one account at a time")
    return cookies


def _without_named(lines: str) -> str:
    return _CODE_VERIFIER.sub(" ", _COOKIE.sub(" ", lines))


def _joined(text: str) -> str:
    """Join a value's pieces without names: the first is recognised by its prefix, the others keep their order."""
    words = _WORD.findall(text)
    heads = {word for word in words if _TOKEN.search(word)}
    if len(heads) > 1:
        raise CookieError(_TWO_SESSIONS)
    return "".join([*heads, *(word for word in words if word not in heads)]) if heads else ""


def _clearance(cookies: Mapping[str, str]) -> str | None:
    clearance = cookies.get(CLEARANCE_COOKIE)
    if clearance is not None:
        check_value(CLEARANCE_COOKIE, clearance)
    return clearance


def _user_agent(lines: str) -> str | None:
    found = _USER_AGENT.search(lines)
    if not found:
        return None
    agent = found[1].rstrip()
    if agent[0] in "\"'":
        agent = agent[1:].partition(agent[0])[0]
    if not agent.isascii():
        raise CookieError("the user agent contains characters that no browser sends")
    return agent or None
