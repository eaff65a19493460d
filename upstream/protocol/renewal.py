"""Decides when an account's login must be renewed; `bridge.accounts.renewals` acts on it.

The site's access tokens are valid for an hour, and an authenticated GET shortly before or after the expiry returns new
tokens (docs/protocol.md, "Renewal and rotation"). How long before is unknown, so the bridge makes such a call after two
thirds of a token's lifetime, and again after two thirds of what is left then, until the site has renewed it.

Times are unix seconds by the site's clock, which may jump when the known difference to it changes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from upstream.protocol.cookies import Session
from upstream.protocol.errors import PromptFailed, RateLimited, UpstreamError

#: The share of a token's lifetime, or of what is left of it, after which a renewal is attempted.
SHARE_OF_LIFE: Final = 2 / 3
#: The shortest time between two successful calls without a renewal, in seconds.
LEAST_WAIT_SECONDS: Final = 30.0
#: A token that expires sooner than this, in seconds, is not used before a renewal has been attempted.
MARGIN_SECONDS: Final = 60.0
#: The first and the longest wait after a failed renewal, in seconds; it doubles each time.
FIRST_REPEAT_SECONDS: Final = 5.0
LONGEST_REPEAT_SECONDS: Final = 300.0
#: The longest `Retry-After` that is respected, in seconds.
LONGEST_RETRY_AFTER_SECONDS: Final = 3600.0
#: How soon to check an account again if its chats are refused although the last check succeeded, in seconds.
CONTRADICTED_SECONDS: Final = 60.0
#: If the clock is set back by more than this, in seconds, everything is due: a wait might otherwise take hours.
CLOCK_SLACK_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class RenewalState:
    """The renewal state of one login after the calls so far; the default is before any call. Durations are in seconds.

    `wait` is the time from `called_at` to the next call, `wait_on_demand` the same if a request needs the account.
    `failing_since` and `failure` are None after a successful call; `failures` counts consecutive failures.
    """

    called_at: float = 0.0
    wait: float = 0.0
    wait_on_demand: float = 0.0
    failing_since: float | None = None
    failure: UpstreamError | None = None
    failures: int = 0

    def due_in(self, now: float, *, expired: bool = False) -> float:
        """Seconds until the next call; 0 if it is due. `expired`: whether the account is marked as expired."""
        wait = self.wait
        if expired and self.failure is None:  # a chat was refused, although the last call went well
            wait = min(wait, CONTRADICTED_SECONDS)
        return self._left(wait, now)

    def may_call(self, now: float) -> bool:
        """Whether a call may be made for a request that needs the account."""
        return self._left(self.wait_on_demand, now) == 0.0

    def _left(self, wait: float, now: float) -> float:
        if now < self.called_at - CLOCK_SLACK_SECONDS:
            return 0.0
        return max(0.0, self.called_at + wait - now)

    def pending(self, now: float) -> RenewalState:
        """The state while a call is pending, and after one whose outcome is unknown."""
        return replace(self, called_at=now, wait=LEAST_WAIT_SECONDS)

    def failed(self, error: UpstreamError, now: float, *, longest: float = LONGEST_REPEAT_SECONDS) -> RenewalState:
        """The state after a failed call: the wait doubles with each, up to `longest` seconds.

        It is at least the site's own `Retry-After`, up to `LONGEST_RETRY_AFTER_SECONDS`.
        """
        retry_after = 0.0
        if isinstance(error, RateLimited | PromptFailed):
            retry_after = min(error.retry_after or 0.0, LONGEST_RETRY_AFTER_SECONDS)
        return RenewalState(
            now,
            max(retry_after, min(longest, FIRST_REPEAT_SECONDS * 2 ** min(self.failures, 20))),
            max(retry_after, FIRST_REPEAT_SECONDS),
            now if self.failing_since is None else self.failing_since,
            error,
            self.failures + 1,
        )


def renewed(session: Session, now: float, every: float) -> RenewalState:
    """The state after a successful call. `every` is the longest time in seconds between two checks of a login."""
    return RenewalState(now, min(every, _due_in(session, now, every)), LEAST_WAIT_SECONDS)


def must_renew(session: Session, now: float) -> bool:
    """Whether a token has expired or will so soon that it should be renewed before it is used."""
    return session.renewable and session.expires_at - now < MARGIN_SECONDS


def may_renew(session: Session, now: float) -> bool:
    """Whether an authenticated GET may renew the session: the last third of its token's lifetime has begun.

    Only one process may make such a call then, since using a refresh token twice ends the login.
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
