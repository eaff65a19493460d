"""Whether and when a failed call is made again: the only door to tenacity.

It is imported with the first call that fails, so that the daemon starts without it.

The attempt itself (account, prompt, fresh ids) is handed in; it must end where the answer begins, so that nothing is
ever repeated of which a caller has seen the start.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from upstream.protocol.errors import (
    NotRenewed,
    RateLimited,
    Repeat,
    ServerFailed,
    SessionExpired,
    Unavailable,
    Unreachable,
    UpstreamError,
)

if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")

#: First and longest wait before another attempt, in seconds; each is drawn at random below a doubling bound.
FIRST_WAIT_SECONDS: Final = 0.2
LONGEST_WAIT_SECONDS: Final = 2.0

#: Under a failing upstream all attempts together stay below 1.2 × the requests (+3), as in Envoy's retry budget.
BUDGET_SHARE: Final = 0.2
BUDGET_FLOOR: Final = 3.0
#: What a long calm may save up for a storm.
BUDGET_CEILING: Final = 20.0


@dataclass(slots=True)
class RetryBudget:
    """A purse that every request fills a little and every repetition empties by one."""

    balance: float = BUDGET_FLOOR

    def deposit(self) -> None:
        """A request has come."""
        self.balance = min(BUDGET_CEILING, self.balance + BUDGET_SHARE)

    def withdraw(self) -> bool:
        """Pay for one repetition, if there is enough."""
        if self.balance < 1:
            return False
        self.balance -= 1
        return True


@dataclass(slots=True)
class Retries:
    """Runs attempts by the class of their failures, at most `max_attempts` over all causes together.

    Corrections are no failures: they are made at once, and neither count as attempts nor take from the budget.
    """

    max_attempts: int
    budget: RetryBudget = field(default_factory=RetryBudget)

    async def run(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Make attempts until one succeeds or repeating is not allowed; raise the last one's error as it is."""
        self.budget.deposit()
        try:
            return await attempt()
        except UpstreamError as error:
            rule = _Rule(self.max_attempts, self.budget)
            return await _resume(attempt, error, rule.may_repeat, _wait, self.max_attempts)


@dataclass(slots=True)
class Steps:
    """Runs single steps that do no harm when they happen twice, such as a PUT of the same bytes to the same place.

    Repeated are trouble on the way, any 5xx, and a limit that is over at once. The purse starts full: the pictures of
    one request may well fail once each.
    """

    max_attempts: int = 3
    budget: RetryBudget = field(default_factory=lambda: RetryBudget(BUDGET_CEILING))

    async def run(self, step: Callable[[], Awaitable[T]]) -> T:
        """Take a step until it succeeds or repeating cannot help; raise the last error as it is.

        `step` is a coroutine function, bound or partial: what a lambda returns would not be awaited.
        """
        self.budget.deposit()
        try:
            return await step()
        except UpstreamError as error:
            return await _resume(step, error, self._may_repeat, _back_off, self.max_attempts)

    def _may_repeat(self, state: RetryCallState) -> bool:
        match state.outcome.exception() if state.outcome is not None else None:
            case Unreachable() | ServerFailed() | Unavailable() | RateLimited(retry_after=0):
                return state.attempt_number < self.max_attempts and self.budget.withdraw()
        return False


async def _resume(
    attempt: Callable[[], Awaitable[T]],
    error: UpstreamError,
    may_repeat: Callable[[RetryCallState], bool],
    wait: Callable[[RetryCallState], float],
    max_attempts: int,
) -> T:
    """Let tenacity judge an attempt that has failed, and go on; an attempt that succeeds does not pay for it.

    An attempt and its corrections are one to it.
    """
    from tenacity import AsyncRetrying, stop_after_attempt

    made: Counter[type[UpstreamError]] = Counter()
    failed: list[UpstreamError] = [error]

    async def resumed() -> T:
        while True:
            try:
                if failed:
                    raise failed.pop()
                return await attempt()
            except UpstreamError as error:
                if error.repeat is not Repeat.CORRECTED or made[type(error)] >= error.max_corrections:
                    raise
                made[type(error)] += 1

    retrying = AsyncRetrying(retry=may_repeat, wait=wait, stop=stop_after_attempt(max_attempts), reraise=True)
    return await retrying(resumed)


@dataclass(slots=True)
class _Rule:
    max_attempts: int
    budget: RetryBudget
    repeated_possibly_accepted: bool = False

    def may_repeat(self, state: RetryCallState) -> bool:
        """Judge one attempt's end. Nothing but our own errors is ever repeated, cancellation least of all."""
        error = state.outcome.exception() if state.outcome is not None else None
        if not isinstance(error, UpstreamError) or state.attempt_number >= self.max_attempts:
            return False
        match error.repeat:
            case Repeat.NEVER | Repeat.CORRECTED:  # a correction that did not help
                return False
            case Repeat.POSSIBLY_ACCEPTED:
                if self.repeated_possibly_accepted:
                    return False
                self.repeated_possibly_accepted = True
            case Repeat.REFUSED if isinstance(error, SessionExpired | NotRenewed):
                return True  # the trouble is one account's, which is avoided from now on
            case Repeat.NOT_SENT | Repeat.REFUSED:
                pass
        return self.budget.withdraw()


def _back_off(state: RetryCallState) -> float:
    """Wait longer each time, by chance."""
    from tenacity import wait_random_exponential

    return wait_random_exponential(multiplier=FIRST_WAIT_SECONDS, max=LONGEST_WAIT_SECONDS)(state)


def _wait(state: RetryCallState) -> float:
    """Wait as `_back_off` says; not at all where upstream said no to this account or evaluation: another may do."""
    error = state.outcome.exception() if state.outcome is not None else None
    if isinstance(error, UpstreamError) and error.repeat is Repeat.REFUSED and error.status != 503:
        return 0.0
    return _back_off(state)
