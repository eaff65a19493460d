"""Secrets in upstream's words: found by their form, and by their value where it is known.

A site that refuses a call may quote what it was sent. Its words are shown to callers, who must not read an operator's
cookie there: neither whole, nor a piece of it, nor one of the tokens inside.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Final
from urllib.parse import quote

from upstream.protocol import cookies
from upstream.protocol.cookies import CookieError
from upstream.protocol.errors import Redirected, UpstreamError

#: How much of a secret must stand somewhere to be hidden, in characters; a shorter secret is hidden as a whole.
MIN_SHARED_CHARS: Final = 12
#: Shorter values hide nothing: they may be words of any text.
MIN_SECRET_CHARS: Final = 6
#: Any stretch that is shared holds a whole window of this size, at a multiple of this size.
_WINDOW: Final = MIN_SHARED_CHARS // 2

_FORM: Final = re.compile(
    r"""
    (?P<label> (?i: \b bearer (?: \s | %20 )+
                  | (?: arena-auth-prod-v1 (?: \.\d+ )? | cf_clearance | (?: access | refresh ) _token )
                    \\* ["']? \s* (?: [=:,] | %3d ) \s* (?: b? \\* ["'] )? ) )
        (?! \[secret: ) [^\s"';,\\&]+
  | (?<! [A-Za-z0-9] ) sk- [\w-]{16,}
  | base64- [\w+/=%-]{8,}
  | eyJ [\w-]{8,} (?: \. [\w-]* )*
    """,
    re.VERBOSE,
)


class Secrets:
    """What a call has shown to upstream, or got from there, and must not come back to a caller."""

    __slots__ = ("_clearance", "_sessions")

    def __init__(self, *sessions: str, clearance: str = "") -> None:
        self._sessions = frozenset(sessions)
        self._clearance = clearance

    def __repr__(self) -> str:
        return "Secrets()"

    def redacted(self, text: str) -> str:
        """`text` with `[secret]` in the place of each secret, and of each part of one that is long enough to matter."""
        for value in _values(self._sessions, self._clearance):
            text = _without(text, value)
        return _FORM.sub(_hidden, text)

    def redact(self, error: UpstreamError) -> None:
        """Hide secrets in what an error says."""
        error.message, error.detail = self.redacted(error.message), self.redacted(error.detail)
        error.args = (error.message,)
        if isinstance(error, Redirected):
            error.origin = self.redacted(error.origin)


def _hidden(found: re.Match[str]) -> str:
    return f"{found['label'] or ''}[secret]"


@lru_cache(maxsize=16)  # an account that is refused is refused again
def _values(sessions: frozenset[str], clearance: str) -> tuple[str, ...]:
    """Every form in which they may be quoted, the longest first."""
    found = {clearance}
    for session in sessions:
        found |= {session, cookies.unquoted(session)}
        with suppress(CookieError):
            found.update(_tokens(cookies.contents(cookies.unquoted(session))))
    found |= {quote(value, safe="") for value in found}
    return tuple(sorted((value for value in found if len(value) >= MIN_SECRET_CHARS), key=len, reverse=True))


def _tokens(contents: dict[str, object]) -> Iterator[str]:
    """The tokens within a session: the site's own, and those of whoever signed its user in."""
    for name, value in contents.items():
        if isinstance(value, str) and name.endswith("_token"):
            yield value


def _without(text: str, value: str) -> str:
    """`text` without `value`, and without each stretch of it of `MIN_SHARED_CHARS` or more."""
    text = text.replace(value, "[secret]")
    kept: list[str] = []
    done = start = 0
    while start + _WINDOW <= len(text):
        if text[start : start + _WINDOW] not in value:
            start += _WINDOW
            continue
        first, last = _stretch(text, value, done, start)
        if last - first >= MIN_SHARED_CHARS:
            kept += (text[done:first], "[secret]")
            done = last
        start = max(start + _WINDOW, done)
    return "".join((*kept, text[done:]))


def _stretch(text: str, value: str, done: int, start: int) -> tuple[int, int]:
    """The longest stretch around a window at `start` that stands in `value` too."""
    first, last = start, start + _WINDOW
    while last < len(text) and text[first : last + 1] in value:
        last += 1
    while first > done and text[first - 1 : last] in value:
        first -= 1
    return first, last
