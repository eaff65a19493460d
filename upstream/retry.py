"""Decides whether and when a failed call is retried. The only module that uses tenacity.

tenacity is imported on the first failure, so that the daemon starts faster.

The attempt (account, prompt, fresh ids) is a parameter; it must end where the answer begins, so that an answer is never
retried after the caller has seen part of it.
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
    TimedOut,
    Unavailable,
    Unreachable,
    UpstreamError,
)

if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")

#: First and longest wait before a retry, in seconds; each wait is random, below a bound that doubles.
FIRST_WAIT_SECONDS: Final = 0.2
LONGEST_WAIT_SECONDS: Final = 2.0

#: While upstream fails, all attempts together stay below 1.2 × the requests (+3), as in Envoy's retry budget.
BUDGET_SHARE: Final = 0.2
BUDGET_FLOOR: Final = 3.0
#: The largest balance that can accumulate.
BUDGET_CEILING: Final = 20.0


@dataclass(slots=True)
class RetryBudget:
    """A balance to which every request adds `BUDGET_SHARE`, and from which every retry takes 1."""

    balance: float = BUDGET_FLOOR

    def deposit(self) -> None:
        """Count a new request."""
        self.balance = min(BUDGET_CEILING, self.balance + BUDGET_SHARE)

    def withdraw(self) -> bool:
        """Take 1 for a retry; False if the budget is exhausted."""
        if self.balance < 1:
            return False
        self.balance -= 1
        return True


@dataclass(slots=True)
class Retries:
    """Retries by the kind of failure, with at most `max_attempts` attempts in total.

    Corrections are not failures: they are made immediately, and count neither as attempts nor against the budget.
    """

    max_attempts: int
    budget: RetryBudget = field(default_factory=RetryBudget)

    async def run(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Make attempts until one succeeds or no retry is allowed; raise the last error unchanged."""
        self.budget.deposit()
        try:
            return await attempt()
        except UpstreamError as error:
            rule = _Rule(self.max_attempts, self.budget)
            return await _resume(attempt, error, rule.may_repeat, _wait, self.max_attempts)


@dataclass(slots=True)
class IdempotentRetries:
    """Retries idempotent requests, such as a PUT of the same bytes to the same URL.

    Network errors, any 5xx, and rate limits that are over at once are retried. The budget starts full, since each
    picture of one request may fail once.
    """

    max_attempts: int = 3
    budget: RetryBudget = field(default_factory=lambda: RetryBudget(BUDGET_CEILING))

    async def run(self, request: Callable[[], Awaitable[T]]) -> T:
        """Make the request until it succeeds or a retry cannot help; raise the last error unchanged.

        `request` is a coroutine function, bound or partial: the coroutine of a lambda would not be awaited.
        """
        self.budget.deposit()
        try:
            return await request()
        except UpstreamError as error:
            return await _resume(request, error, self._may_repeat, _back_off, self.max_attempts)

    def _may_repeat(self, state: RetryCallState) -> bool:
        match _error_of(state):
            case Unreachable() | ServerFailed() | Unavailable() | TimedOut(status=504) | RateLimited(retry_after=0):
                return state.attempt_number < self.max_attempts and self.budget.withdraw()
        return False


async def _resume(
    attempt: Callable[[], Awaitable[T]],
    error: UpstreamError,
    may_repeat: Callable[[RetryCallState], bool],
    wait: Callable[[RetryCallState], float],
    max_attempts: int,
) -> T:
    """Continue with tenacity after the first failure; attempts that succeed at once do without it.

    To tenacity, an attempt and its corrections are one attempt. It gets errors as results, since its frames would keep
    a raised error in a reference cycle.
    """
    from tenacity import AsyncRetrying, stop_after_attempt

    corrections: Counter[type[UpstreamError]] = Counter()
    failed: list[UpstreamError] = [error]
    del error  # for the same reason as `outcome` below

    async def resumed() -> T | UpstreamError:
        while True:
            outcome = failed.pop() if failed else await _outcome(attempt)
            if not isinstance(outcome, UpstreamError) or outcome.repeat is not Repeat.CORRECTED:
                return outcome
            if corrections[type(outcome)] >= outcome.max_corrections:
                return outcome
            corrections[type(outcome)] += 1

    retrying = AsyncRetrying(
        retry=may_repeat, wait=wait, stop=stop_after_attempt(max_attempts), retry_error_callback=_last_outcome
    )
    try:
        outcome: T | UpstreamError = await retrying(resumed)
    finally:
        retrying.iter_state.reset()  # its actions refer to `retrying`
    try:
        if isinstance(outcome, UpstreamError):
            raise outcome
        return outcome
    finally:
        del outcome  # the error's traceback refers to this frame, which must not refer to the error


async def _outcome(attempt: Callable[[], Awaitable[T]]) -> T | UpstreamError:
    try:
        return await attempt()
    except UpstreamError as error:
        return error


def _error_of(state: RetryCallState) -> UpstreamError | None:
    """The upstream error of an attempt; None if it succeeded or raised something else, such as a cancellation."""
    if state.outcome is None or state.outcome.failed:
        return None
    result = state.outcome.result()
    return result if isinstance(result, UpstreamError) else None


def _last_outcome(state: RetryCallState) -> object:
    return state.outcome.result() if state.outcome is not None else None


@dataclass(slots=True)
class _Rule:
    max_attempts: int
    budget: RetryBudget
    repeated_possibly_accepted: bool = False

    def may_repeat(self, state: RetryCallState) -> bool:
        """Decide after one attempt. Only our own errors are retried; cancellation never is."""
        error = _error_of(state)
        if error is None or state.attempt_number >= self.max_attempts:
            return False
        match error.repeat:
            case Repeat.NEVER | Repeat.CORRECTED:  # CORRECTED: the corrections are exhausted
                return False
            case Repeat.POSSIBLY_ACCEPTED:
                if self.repeated_possibly_accepted:
                    return False
                self.repeated_possibly_accepted = True
            case Repeat.REFUSED if isinstance(error, SessionExpired | NotRenewed):
                return True  # only this account is affected, and it is avoided from now on
            case Repeat.NOT_SENT | Repeat.REFUSED:
                pass
        return self.budget.withdraw()


def _back_off(state: RetryCallState) -> float:
    """Random exponential backoff."""
    from tenacity import wait_random_exponential

    return wait_random_exponential(multiplier=FIRST_WAIT_SECONDS, max=LONGEST_WAIT_SECONDS)(state)


def _wait(state: RetryCallState) -> float:
    """Back off, but not if upstream refused this account or evaluation: another one may work."""
    error = _error_of(state)
    if error is not None and error.repeat is Repeat.REFUSED and error.status != 503:
        return 0.0
    return _back_off(state)
