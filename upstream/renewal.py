"""When an account's login is to be renewed: pure decisions over times. `bridge.renewals` acts on them.

The site's access tokens live for an hour, and an authenticated GET near or past the end of one brings a new pair of
tokens (docs/protocol.md, "Sessions and their renewal"). How near it must be is not known, so the bridge asks at two
thirds of a token's life, and again at two thirds of what is then left, until the site has renewed it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from upstream.cookies import Session
from upstream.errors import PromptDoubted, RateLimited, UpstreamError

#: The share of a token's life, or of what is left of it, after which a renewal is asked for.
SHARE_OF_LIFE: Final = 2 / 3
#: Least distance between two calls that renewed nothing, in seconds.
LEAST_WAIT_SECONDS: Final = 30.0
#: A token that ends sooner is not used before its renewal has been tried, in seconds.
MARGIN_SECONDS: Final = 60.0
#: The first and the longest wait after a renewal that failed, doubling, in seconds.
FIRST_REPEAT_SECONDS: Final = 5.0
LONGEST_REPEAT_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of one account's login. Times are unix seconds by the site's clock.

    `failing_since` and `failure` are None after a call that went well; `failures` counts those in a row.
    """

    session: str  # the cookie's value that this is about
    next_at: float
    failing_since: float | None = None
    failure: UpstreamError | None = None
    failures: int = 0

    def failed(self, error: UpstreamError, now: float, *, longest: float = LONGEST_REPEAT_SECONDS) -> Standing:
        """The standing after a call that failed: the wait doubles with each, up to `longest` seconds.

        It is never shorter than the site's own `Retry-After`.
        """
        wait = min(longest, FIRST_REPEAT_SECONDS * 2 ** min(self.failures, 20))
        if isinstance(error, RateLimited | PromptDoubted):
            wait = max(wait, error.retry_after or 0.0)
        since = now if self.failing_since is None else self.failing_since
        return replace(self, next_at=now + wait, failing_since=since, failure=error, failures=self.failures + 1)


def renewed(session: Session, now: float, every: float) -> Standing:
    """The standing after a call that went well. `every` is the longest time in seconds between two looks at a login."""
    return Standing(session.value, min(now + every, _due(session, now, every)))


def must_renew(session: Session, now: float) -> bool:
    """Whether a token is so near its end, or past it, that it should be renewed before it is used."""
    return session.renewable and session.expires_at - now < MARGIN_SECONDS


def may_renew(session: Session, now: float) -> bool:
    """Whether the site may renew the session at an authenticated GET: the last third of its token's life has begun.

    Only one process may make such a call then, since a refresh token that is used twice ends the login.
    """
    return session.renewable and now >= _late(session)


def _late(session: Session) -> float:
    """When two thirds of the token's life are over."""
    return session.issued_at + (session.expires_at - session.issued_at) * SHARE_OF_LIFE


def _due(session: Session, now: float, every: float) -> float:
    late = _late(session)
    if now < late:
        return late
    left = session.expires_at - now
    return now + (max(LEAST_WAIT_SECONDS, left * SHARE_OF_LIFE) if left > 0 else every)
