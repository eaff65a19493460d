"""Login sessions of the dashboard, and the setup code for its first use.

They are kept in memory only, so they end with the daemon. Times are seconds of a monotonic clock.

Session ids and codes are untrusted: they may be any text, including lone surrogates from a broken header.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

#: A login ends when it has not been used for this time, and this long after its beginning at the latest.
IDLE_SECONDS: Final = 1800.0
LONGEST_SECONDS: Final = 12 * 3600.0
#: The most logins; one more ends the one that has been idle longest.
MAX_LOGINS: Final = 100


@dataclass(slots=True)
class Login:
    """One login: the CSRF token that each changing request must carry, when it began, and when it was last used."""

    csrf: str = field(repr=False)
    began: float
    last_used: float
    #: Of the API key that this login created or rotated last: its id, its secret, and until when that may be shown.
    created_key: tuple[str, str, float] | None = field(default=None, repr=False)


class Logins:
    """All logins, found by session id, of which only the SHA-256 is kept."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._logins: dict[bytes, Login] = {}  # the least recently used first

    def __len__(self) -> int:
        self._forget_ended()
        return len(self._logins)

    def begin(self) -> tuple[str, Login]:
        """Start a login: return a new session id, to be sent once as a cookie, and the login."""
        self._forget_ended()
        if len(self._logins) >= MAX_LOGINS:
            del self._logins[next(iter(self._logins))]
        session_id, now = secrets.token_urlsafe(32), self._clock()
        login = self._logins[_digest(session_id)] = Login(secrets.token_urlsafe(32), now, now)
        return session_id, login

    def adopt(self, session_id: str, login: Login) -> None:
        """Add a login that began in another process."""
        self._logins[_digest(session_id)] = login

    def find(self, session_id: str, *, used: bool = True) -> Login | None:
        """The login with this session id; None if there is none or it has ended. `used` marks it as used now."""
        self._forget_ended()
        digest = _digest(session_id)
        login = self._logins.get(digest)
        if login is not None and used:
            login.last_used = self._clock()
            self._logins[digest] = self._logins.pop(digest)
        return login

    def end(self, session_id: str) -> None:
        """Log out; does nothing if the session id is unknown."""
        self._logins.pop(_digest(session_id), None)

    def end_all(self) -> None:
        """End all logins, because the password has changed."""
        self._logins.clear()

    def _forget_ended(self) -> None:
        now = self._clock()
        self._logins = {
            digest: login
            for digest, login in self._logins.items()
            if now - login.last_used < IDLE_SECONDS and now - login.began < LONGEST_SECONDS
        }


def csrf_matches(login: Login, sent: str) -> bool:
    """Whether `sent` is the login's CSRF token, compared in constant time."""
    return hmac.compare_digest(_bytes(login.csrf), _bytes(sent))


class SetupCode:
    """Authorizes setting the first password: generated at the start, shown in the log, valid until it is spent.

    Several processes of one daemon are given the same `code`.
    """

    def __init__(self, code: str | None = None) -> None:
        self.code = code or secrets.token_urlsafe(16)
        self._spent = False

    def matches(self, code: str) -> bool:
        """Whether this is the code, compared in constant time, and it is not spent."""
        return hmac.compare_digest(_bytes(self.code), _bytes(code)) and not self._spent

    def spend(self) -> None:
        """Invalidate the code: there is a password now."""
        self._spent = True


def _digest(session_id: str) -> bytes:
    return sha256(_bytes(session_id)).digest()


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")
