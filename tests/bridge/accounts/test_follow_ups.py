"""An account whose follow-ups are refused three times in a row is given none for an hour."""

from __future__ import annotations

from manual_clock import Clock

from bridge.accounts.follow_ups import FollowUps


def refuse(follow_ups: FollowUps, times: int) -> None:
    for _ in range(times):
        assert follow_ups.are_allowed("ada")
        follow_ups.refused("ada")


def test_follow_ups_are_tried_until_three_in_a_row_were_refused() -> None:
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


def test_one_that_is_taken_begins_the_count_again() -> None:
    follow_ups = FollowUps(Clock())
    for _ in range(3):
        refuse(follow_ups, 2)
        follow_ups.accepted("ada")
    assert follow_ups.are_allowed("ada")
