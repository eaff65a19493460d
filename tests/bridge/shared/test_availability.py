"""The states of the link to Redis, as in the table in `bridge.shared.availability`."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.shared.availability import Availability, Phase

TABLE = [
    (Phase.STARTING, "connected", Phase.CATCHING_UP),
    (Phase.STARTING, "failed", Phase.STARTING),
    (Phase.STARTING, "timed_out", Phase.DEGRADED),
    (Phase.STARTING, "caught_up", Phase.STARTING),
    (Phase.CATCHING_UP, "caught_up", Phase.UP),
    (Phase.CATCHING_UP, "failed", Phase.DEGRADED),
    (Phase.CATCHING_UP, "connected", Phase.CATCHING_UP),
    (Phase.CATCHING_UP, "timed_out", Phase.CATCHING_UP),
    (Phase.UP, "failed", Phase.DEGRADED),
    (Phase.UP, "connected", Phase.UP),
    (Phase.UP, "caught_up", Phase.UP),
    (Phase.UP, "timed_out", Phase.UP),
    (Phase.DEGRADED, "connected", Phase.CATCHING_UP),
    (Phase.DEGRADED, "failed", Phase.DEGRADED),
    (Phase.DEGRADED, "caught_up", Phase.DEGRADED),
    (Phase.DEGRADED, "timed_out", Phase.DEGRADED),
]


def after(state: Availability, event: str, now: float) -> Availability:
    match event:
        case "connected":
            return state.connected(now)
        case "failed":
            return state.failed("it is gone", now)
        case "timed_out":
            return state.timed_out(now)
    return state.caught_up(now)


@pytest.mark.parametrize(("before", "event", "expected"), TABLE)
def test_every_event_leads_from_every_phase_to_the_phase_in_the_table(
    before: Phase, event: str, expected: Phase
) -> None:
    assert after(Availability(before), event, 1.0).phase is expected


def test_the_table_covers_every_event_in_every_phase() -> None:
    assert {(before, event) for before, event, _ in TABLE} == {
        (phase, event) for phase in Phase for event in ("connected", "failed", "timed_out", "caught_up")
    }


def test_an_outage_keeps_its_start_time_and_takes_the_latest_reason() -> None:
    lost = Availability(Phase.UP).failed("one", 5.0).failed("two", 9.0)
    assert (lost.since, lost.why) == (5.0, "two")


@given(st.lists(st.sampled_from(["connected", "failed", "timed_out", "caught_up"]), max_size=12))
def test_redis_is_usable_exactly_if_the_last_connection_event_was_a_success(events: list[str]) -> None:
    states = [Availability()]
    for now, event in enumerate(events):
        states.append(after(states[-1], event, float(now)))
    said = [event for event in events if event in ("connected", "failed")]
    assert states[-1].usable == (said[-1:] == ["connected"])
    assert all(later.since >= earlier.since for earlier, later in pairwise(states))
