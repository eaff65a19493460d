"""Retries: by kind of failure, bounded, within a budget, and never after a cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from upstream.protocol.errors import (
    AllOnCooldown,
    Challenge,
    EmptyAnswer,
    ModelFailed,
    NoneRenewed,
    NotRenewed,
    RateLimited,
    Rejected,
    ServerFailed,
    SessionExpired,
    SilentAnswer,
    TimedOut,
    Truncated,
    Unavailable,
    Unreachable,
    UpstreamError,
)
from upstream.retry import BUDGET_CEILING, IdempotentRetries, Retries, RetryBudget


class Attempts:
    """Fails with the given errors, one in each attempt, then succeeds."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.made = 0

    async def __call__(self) -> str:
        self.made += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


def retries(max_attempts: int = 3, balance: float = 100.0) -> Retries:
    return Retries(max_attempts, RetryBudget(balance))


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record tenacity's waits instead of waiting."""
    waits: list[float] = []
    real_sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await real_sleep(0)

    monkeypatch.setattr("asyncio.sleep", sleep)
    return waits


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (Unreachable("refused"), 3),
        (SessionExpired("401"), 3),
        (NotRenewed("401"), 3),
        (NoneRenewed("401"), 1),
        (RateLimited("429", retry_after=0), 3),
        (Unavailable("503", status=503), 3),
        (ServerFailed("500", status=500), 2),
        (ModelFailed("a3"), 2),
        (EmptyAnswer("nothing"), 2),
        (Truncated("reset"), 2),
        (SilentAnswer("200, then silence"), 2),
        (TimedOut("silence"), 1),
        (Rejected("400"), 1),
        (Challenge("403"), 1),
        (AllOnCooldown("all", retry_after=9), 1),
        (KeyError("a mistake of ours"), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_the_kind_of_failure_determines_how_often_a_call_is_attempted(error: Exception, attempts: int) -> None:
    made = Attempts(*[error] * 9)
    with pytest.raises(type(error)):
        await retries().run(made)
    assert made.made == attempts


async def test_a_call_that_the_site_may_have_accepted_is_repeated_only_once() -> None:
    made = Attempts(ServerFailed("500"), Unreachable("refused"), ModelFailed("a3"), Unreachable("refused"))
    with pytest.raises(ModelFailed):
        await retries(max_attempts=9).run(made)
    assert made.made == 3


async def test_a_success_after_two_failures_ends_the_retries() -> None:
    made = Attempts(Unreachable("refused"), SessionExpired("401"))
    assert await retries().run(made) == "answer"


async def test_a_cancelled_call_is_never_repeated() -> None:
    made = Attempts(asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        await retries().run(made)
    assert made.made == 1


async def test_retries_try_another_account_at_once_and_a_failing_site_after_a_backoff(no_waiting: list[float]) -> None:
    await retries().run(Attempts(SessionExpired("401", status=401)))
    assert no_waiting == [0.0]
    no_waiting.clear()
    await retries().run(Attempts(Unreachable("refused"), Unavailable("503", status=503)))
    assert all(0 <= wait <= 2 for wait in no_waiting)
    assert len(no_waiting) == 2


async def test_attempts_at_a_failing_upstream_exceed_the_requests_by_less_than_a_fifth() -> None:
    made = Attempts(*[Unavailable("503", status=503)] * 10_000)
    shared = retries(balance=3.0)
    requests = 500
    for _ in range(requests):
        with pytest.raises(UpstreamError):
            await shared.run(made)
    assert made.made <= 1.2 * requests + 3
    assert made.made > requests


@pytest.mark.parametrize("error", [SessionExpired("401"), NotRenewed("401")], ids=type)
async def test_a_refused_account_takes_nothing_from_the_retry_budget(error: UpstreamError) -> None:
    shared = retries(balance=0.0)
    for _ in range(3):
        assert await shared.run(Attempts(error)) == "answer"


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (Unreachable("refused"), 3),
        (ServerFailed("500", status=500), 3),
        (Unavailable("503", status=503), 3),
        (TimedOut("504", status=504), 3),
        (RateLimited("429", retry_after=0), 3),
        (RateLimited("429", retry_after=1), 1),
        (RateLimited("429", retry_after=None), 1),
        (SessionExpired("401"), 1),
        (SilentAnswer("200, then silence"), 1),
        (TimedOut("silence"), 1),
        (Rejected("400"), 1),
        (asyncio.CancelledError(), 1),
        (KeyError("a mistake of ours"), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
async def test_the_kind_of_failure_determines_how_often_an_idempotent_request_is_attempted(
    error: BaseException, attempts: int
) -> None:
    made = Attempts(*[error] * 9)
    with pytest.raises(type(error)):
        await IdempotentRetries().run(made)
    assert made.made == attempts


async def test_retries_of_idempotent_requests_are_limited_by_a_budget() -> None:
    made = Attempts(*[Unavailable("503", status=503)] * 10_000)
    steps = IdempotentRetries()
    for _ in range(500):
        with pytest.raises(Unavailable):
            await steps.run(made)
    assert made.made <= 1.2 * 500 + BUDGET_CEILING
