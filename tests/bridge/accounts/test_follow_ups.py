"""An account whose follow-ups are refused three times in a row is given none for an hour."""

from __future__ import annotations

from manual_clock import Clock

from bridge.accounts.follow_ups import FollowUps


def refuse(follow_ups: FollowUps, times: int) -> None:
    for _ in range(times):
        assert follow_ups.are_allowed("ada")
        follow_ups.refused("ada")


def test_three_refused_follow_ups_in_a_row_suspend_an_account_s_follow_ups_for_an_hour() -> None:
    clock = Clock()
    follow_ups = FollowUps(clock)
    refuse(follow_ups, 3)
    assert not follow_ups.are_allowed("ada")
    assert follow_ups.are_allowed("bob")
    clock.now += 3599
    assert not follow_ups.are_allowed("ada")
    clock.now += 1
    refuse(follow_ups, 3)
    assert not follow_ups.are_allowed("ada")


def test_an_accepted_follow_up_resets_the_count_of_refusals() -> None:
    follow_ups = FollowUps(Clock())
    for _ in range(3):
        refuse(follow_ups, 2)
        follow_ups.accepted("ada")
    assert follow_ups.are_allowed("ada")
