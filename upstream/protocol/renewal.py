"""When an account's login is to be renewed: pure decisions over times. `bridge.accounts.renewals` acts on them.

The site's access tokens live for an hour, and an authenticated GET near or past the end of one brings a new pair of
tokens (docs/protocol.md, "Renewal and rotation"). How near it must be is not known, so the bridge asks at two
thirds of a token's life, and again at two thirds of what is then left, until the site has renewed it.

Times are unix seconds by the site's clock, which may turn out to be another one from one moment to the next.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from upstream.protocol.cookies import Session
from upstream.protocol.errors import PromptDoubted, RateLimited, UpstreamError

#: The share of a token's life, or of what is left of it, after which a renewal is asked for.
SHARE_OF_LIFE: Final = 2 / 3
#: Least distance between two calls that went well and renewed nothing, in seconds.
LEAST_WAIT_SECONDS: Final = 30.0
#: A token that ends sooner is not used before its renewal has been tried, in seconds.
MARGIN_SECONDS: Final = 60.0
#: The first and the longest wait after a renewal that failed, doubling, in seconds.
FIRST_REPEAT_SECONDS: Final = 5.0
LONGEST_REPEAT_SECONDS: Final = 300.0
#: A longer `Retry-After` is not believed, in seconds.
LONGEST_RETRY_AFTER_SECONDS: Final = 3600.0
#: How soon an account is looked at again whose chats are refused although the last look went well, in seconds.
CONTRADICTED_SECONDS: Final = 60.0
#: A clock that is set back by more than this makes everything due, in seconds: a wait may end hours away.
CLOCK_SLACK_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class RenewalState:
    """What the calls so far have shown of the renewal of one login; nothing yet, by default. Durations are in seconds.

    `wait` is the time from `asked_at` to the next call, `wait_on_demand` the same where a request needs the account.
    `failing_since` and `failure` are None after a call that went well; `failures` counts those in a row.
    """

    asked_at: float = 0.0
    wait: float = 0.0
    wait_on_demand: float = 0.0
    failing_since: float | None = None
    failure: UpstreamError | None = None
    failures: int = 0

    def due_in(self, now: float, *, expired: bool = False) -> float:
        """Seconds until the next call; 0 where it is due. `expired`: the account is marked so."""
        wait = self.wait
        if expired and self.failure is None:  # a chat was refused, although the last call went well
            wait = min(wait, CONTRADICTED_SECONDS)
        return self._left(wait, now)

    def may_ask(self, now: float) -> bool:
        """Whether a call may be made for a request that needs the account."""
        return self._left(self.wait_on_demand, now) == 0.0

    def _left(self, wait: float, now: float) -> float:
        if now < self.asked_at - CLOCK_SLACK_SECONDS:
            return 0.0
        return max(0.0, self.asked_at + wait - now)

    def asked(self, now: float) -> RenewalState:
        """The state while a call is under way, and after one that came to no end that is known."""
        return replace(self, asked_at=now, wait=LEAST_WAIT_SECONDS)

    def failed(self, error: UpstreamError, now: float, *, longest: float = LONGEST_REPEAT_SECONDS) -> RenewalState:
        """The state after a call that failed: the wait doubles with each, up to `longest` seconds.

        It is never shorter than the site's own `Retry-After`, within reason.
        """
        told = 0.0
        if isinstance(error, RateLimited | PromptDoubted):
            told = min(error.retry_after or 0.0, LONGEST_RETRY_AFTER_SECONDS)
        return RenewalState(
            now,
            max(told, min(longest, FIRST_REPEAT_SECONDS * 2 ** min(self.failures, 20))),
            max(told, FIRST_REPEAT_SECONDS),
            now if self.failing_since is None else self.failing_since,
            error,
            self.failures + 1,
        )


def renewed(session: Session, now: float, every: float) -> RenewalState:
    """The state after a call that went well. `every` is the longest time in seconds between two looks at a login."""
    return RenewalState(now, min(every, _due_in(session, now, every)), LEAST_WAIT_SECONDS)


def must_renew(session: Session, now: float) -> bool:
    """Whether a token is so near its end, or past it, that it should be renewed before it is used."""
    return session.renewable and session.expires_at - now < MARGIN_SECONDS


def may_renew(session: Session, now: float) -> bool:
    """Whether the site may renew the session at an authenticated GET: the last third of its token's life has begun.

    Only one process may make such a call then, since a refresh token that is used twice ends the login.
    """
    return session.renewable and now >= _due_at(session)


def _due_in(session: Session, now: float, every: float) -> float:
    due = _due_at(session)
    if now < due:
        return due - now
    left = session.expires_at - now
    return max(LEAST_WAIT_SECONDS, left * SHARE_OF_LIFE) if left > 0 else every


def _due_at(session: Session) -> float:
    return session.issued_at + (session.expires_at - session.issued_at) * SHARE_OF_LIFE
