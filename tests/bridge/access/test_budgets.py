"""Budgets: exact within a day, reset at midnight UTC, and shared by processes that save to one document."""

from __future__ import annotations

from pathlib import Path

import pytest
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st

from bridge.access.budgets import DAY_SECONDS, BudgetExceeded, Budgets, DailyUsage, Usage
from bridge.access.keys import ApiKey, generate
from bridge.state.budgets import kept_budgets
from bridge.state.documents import StateFolder

NOON = 20_000.5 * DAY_SECONDS


def key(day_requests: int | None = None, day_tokens: int | None = None) -> ApiKey:
    return generate("k", now=0.0, day_requests=day_requests, day_tokens=day_tokens)[1]


class Clock:
    now = NOON

    def __call__(self) -> float:
        return self.now


def test_a_daily_request_budget_is_exact_and_resets_at_midnight() -> None:
    clock = Clock()
    budgets, limited = Budgets(clock), key(day_requests=2)
    for _ in range(2):
        budgets.check(limited)
        budgets.count(limited)
    with pytest.raises(BudgetExceeded) as refused:
        budgets.check(limited)
    assert (refused.value.kind, refused.value.limit, refused.value.retry_after) == ("requests", 2, DAY_SECONDS / 2)
    clock.now += refused.value.retry_after
    budgets.check(limited)
    assert budgets.used(limited.id) == Usage()


def test_a_request_s_tokens_count_against_the_budget_once_it_has_ended() -> None:
    budgets, limited = Budgets(Clock()), key(day_tokens=10)
    spend = budgets.count(limited)
    budgets.check(limited)
    spend(10)
    assert budgets.used(limited.id) == Usage(1, 10)
    with pytest.raises(BudgetExceeded):
        budgets.check(limited)


def test_daily_usage_survives_a_json_round_trip_and_malformed_usage_is_rejected() -> None:
    use = DailyUsage(20_000, {"ab": Usage(3, 400)})
    assert DailyUsage.from_json(use.to_json()) == use
    wrong_ones: tuple[object, ...] = ({}, {"day": 1}, [], {"day": "x", "keys": {}})
    for wrong in wrong_ones:
        with pytest.raises(ValueError, match="must have"):
            DailyUsage.from_json(wrong)


@a_share(of=10)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=40))
def test_two_processes_saving_to_one_document_count_each_request_exactly_once(steps: list[tuple[bool, bool]]) -> None:
    limited, document, clock = key(day_requests=1000), DailyUsage(), Clock()
    both = Budgets(clock), Budgets(clock)
    counted = 0
    for first, saves in steps:
        one = both[0 if first else 1]
        if saves:
            part = one.unsaved
            document = part.plus(document)
            one.mark_saved(part, document)
        else:
            one.count(limited)
            counted += 1
    for one in both:
        part = one.unsaved
        document = part.plus(document)
        one.mark_saved(part, document)
    assert document.keys.get(limited.id, Usage()).requests == counted
    assert both[1].used(limited.id).requests == counted


async def test_the_usage_of_a_day_survives_a_restart(tmp_path: Path) -> None:
    folder, limited = StateFolder(tmp_path / "state"), key(day_requests=5)
    folder.prepare()
    clock = Clock()
    async with kept_budgets(folder, clock) as budgets:
        budgets.count(limited)(7)
    async with kept_budgets(folder, clock) as budgets:
        assert budgets.used(limited.id) == Usage(1, 7)
        clock.now += DAY_SECONDS
        assert budgets.used(limited.id) == Usage()
