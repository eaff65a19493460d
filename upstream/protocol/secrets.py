"""Redacts secrets in upstream's texts, recognised by their form, and by their value if it is known.

A site that refuses a call may quote it. Its text is shown to callers, who must not see the operator's cookie: neither
as a whole, nor a part of it, nor a token within it.
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

#: The shortest part of a secret that is redacted, in characters; a shorter secret is redacted as a whole.
MIN_SHARED_CHARS: Final = 12
#: Shorter values are not redacted: they may be ordinary words.
MIN_SECRET_CHARS: Final = 6
#: Any part long enough contains a whole window of this size at a multiple of this size.
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
    """The secrets that a call has sent or received, which must not reach the caller."""

    __slots__ = ("_clearance", "_sessions")

    def __init__(self, *sessions: str, clearance: str = "") -> None:
        self._sessions = frozenset(sessions)
        self._clearance = clearance

    def __repr__(self) -> str:
        return "Secrets()"

    def redacted(self, text: str) -> str:
        """`text` with `[secret]` in place of each secret, and of each sufficiently long part of one."""
        for value in _values(self._sessions, self._clearance):
            text = _without(text, value)
        return _FORM.sub(_hidden, text)

    def redact(self, error: UpstreamError) -> None:
        """Redact the texts of an error, in place."""
        error.message, error.detail = self.redacted(error.message), self.redacted(error.detail)
        error.args = (error.message,)
        if isinstance(error, Redirected):
            error.origin = self.redacted(error.origin)


def _hidden(found: re.Match[str]) -> str:
    return f"{found['label'] or ''}[secret]"


@lru_cache(maxsize=16)  # an account that is refused once is often refused again
def _values(sessions: frozenset[str], clearance: str) -> tuple[str, ...]:
    """All forms in which the secrets may be quoted, the longest first."""
    found = {clearance}
    for session in sessions:
        found |= {session, cookies.unquoted(session)}
        with suppress(CookieError):
            found.update(_tokens(cookies.contents(cookies.unquoted(session))))
    found |= {quote(value, safe="") for value in found}
    return tuple(sorted((value for value in found if len(value) >= MIN_SECRET_CHARS), key=len, reverse=True))


def _tokens(contents: dict[str, object]) -> Iterator[str]:
    """Yield the tokens within a session: the site's own, and the identity provider's."""
    for name, value in contents.items():
        if isinstance(value, str) and name.endswith("_token"):
            yield value


def _without(text: str, value: str) -> str:
    """`text` without `value`, and without any part of it of at least `MIN_SHARED_CHARS`."""
    text = text.replace(value, "[secret]")
    kept: list[str] = []
    done = start = 0
    while start + _WINDOW <= len(text):
        if text[start : start + _WINDOW] not in value:
            start += _WINDOW
            continue
        first, last = _common_part(text, value, done, start)
        if last - first >= MIN_SHARED_CHARS:
            kept += (text[done:first], "[secret]")
            done = last
        start = max(start + _WINDOW, done)
    return "".join((*kept, text[done:]))


def _common_part(text: str, value: str, done: int, start: int) -> tuple[int, int]:
    """The longest part of `text` around the window at `start` that is also in `value`."""
    first, last = start, start + _WINDOW
    while last < len(text) and text[first : last + 1] in value:
        last += 1
    while first > done and text[first - 1 : last] in value:
        first -= 1
    return first, last
