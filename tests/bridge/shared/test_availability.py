"""The states of the link to Redis, by the table in `bridge.shared.availability`."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.shared.availability import Availability, Phase

TABLE = [
    (Phase.STARTING, "connected", Phase.BACK),
    (Phase.STARTING, "failed", Phase.STARTING),
    (Phase.STARTING, "late", Phase.DEGRADED),
    (Phase.STARTING, "caught_up", Phase.STARTING),
    (Phase.BACK, "caught_up", Phase.UP),
    (Phase.BACK, "failed", Phase.DEGRADED),
    (Phase.BACK, "connected", Phase.BACK),
    (Phase.BACK, "late", Phase.BACK),
    (Phase.UP, "failed", Phase.DEGRADED),
    (Phase.UP, "connected", Phase.UP),
    (Phase.UP, "caught_up", Phase.UP),
    (Phase.UP, "late", Phase.UP),
    (Phase.DEGRADED, "connected", Phase.BACK),
    (Phase.DEGRADED, "failed", Phase.DEGRADED),
    (Phase.DEGRADED, "caught_up", Phase.DEGRADED),
    (Phase.DEGRADED, "late", Phase.DEGRADED),
]


def after(state: Availability, event: str, now: float) -> Availability:
    match event:
        case "connected":
            return state.connected(now)
        case "failed":
            return state.failed("it is gone", now)
        case "late":
            return state.late(now)
    return state.caught_up(now)


@pytest.mark.parametrize(("before", "event", "expected"), TABLE)
def test_every_event_in_every_phase(before: Phase, event: str, expected: Phase) -> None:
    assert after(Availability(before), event, 1.0).phase is expected


def test_the_table_is_whole() -> None:
    assert {(before, event) for before, event, _ in TABLE} == {
        (phase, event) for phase in Phase for event in ("connected", "failed", "late", "caught_up")
    }


def test_an_outage_keeps_its_beginning_and_says_the_latest_reason() -> None:
    lost = Availability(Phase.UP).failed("one", 5.0).failed("two", 9.0)
    assert (lost.since, lost.why) == (5.0, "two")


@given(st.lists(st.sampled_from(["connected", "failed", "late", "caught_up"]), max_size=12))
def test_it_is_usable_just_where_the_last_word_of_the_connection_was_good(events: list[str]) -> None:
    states = [Availability()]
    for now, event in enumerate(events):
        states.append(after(states[-1], event, float(now)))
    said = [event for event in events if event in ("connected", "failed")]
    assert states[-1].usable == (said[-1:] == ["connected"])
    assert all(later.since >= earlier.since for earlier, later in pairwise(states))
