"""This machine's clock is wrong, or is corrected while the bridge runs: ids are made with the site's clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from answered import ask
from running import RunningBridge, running_bridge

from handlers.request.appkeys import CLIENT, MODELS
from upstream.arena import Arena
from upstream.site_clock import SiteClock

PROMPT = "/say hello"
HOURS = 3600.0

streamed_and_not = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
two_hours_off = pytest.mark.parametrize("offset", [2 * HOURS, -2 * HOURS], ids=["ahead", "behind"])


@dataclass
class Machine:
    """The wall clock of this machine, which is right where `offset` (seconds) is 0."""

    offset: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.offset


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr("upstream.client.SiteClock", lambda: SiteClock(machine))
    return machine


@pytest.fixture
async def bridge(machine: Machine, arena: Arena, tmp_path: Path) -> AsyncIterator[RunningBridge]:
    """A bridge with two accounts that has read the list of models, and with it the site's clock."""
    machine.offset = 0.0
    sessions = (arena.sign_in("ada@example.org"), arena.sign_in("bob@example.org"))
    async with running_bridge(arena, tmp_path / "state", sessions=sessions) as bridge:
        await bridge.app[MODELS].available()
        await bridge.logins_checked()
        yield bridge


def refused(arena: Arena) -> int:
    return sum(call.refusal is not None for call in arena.chats)


def assert_no_account_marked(bridge: RunningBridge) -> None:
    assert not any(account.expired or account.cooldowns or account.bar for account in bridge.state.pool)
    assert bridge.calls_held == 0


@streamed_and_not
@two_hours_off
async def test_a_wrong_local_clock_at_the_start_causes_no_refusal(
    offset: float, stream: bool, machine: Machine, arena: Arena, tmp_path: Path
) -> None:
    machine.offset = offset
    async with running_bridge(arena, tmp_path / "state") as bridge:
        first = await ask(bridge, "Who are you?", stream=stream)
        assert first.is_good
        second = await ask(bridge, "Who are you?", first.text, "And I?", stream=stream)
        assert (second.is_good, second.place) == (True, "follow-up; why=known")
        assert refused(arena) == 0  # the list of models came with the site's time
        assert abs(bridge.app[CLIENT].clock.skew + offset) < 5
        assert_no_account_marked(bridge)


@streamed_and_not
@two_hours_off
async def test_a_conversation_continues_while_the_local_clock_jumps(
    offset: float, stream: bool, machine: Machine, arena: Arena, bridge: RunningBridge
) -> None:
    history = ["Who are you?"]
    for turn, wrong_by in enumerate((0.0, offset, 0.0, -offset, 0.0)):
        machine.offset = wrong_by
        before = refused(arena)
        for _ in range(2):
            answer = await ask(bridge, *history, stream=stream)
            assert (answer.is_good, answer.place.partition(";")[0]) == (True, "follow-up" if history[1:] else "new")
            history += [answer.text, f"And then, in turn {turn}?"]
        assert refused(arena) - before <= 1
    assert len(arena.evaluations) == 1
    assert_no_account_marked(bridge)


@two_hours_off
async def test_concurrent_chats_are_answered_after_the_local_clock_jumps(
    offset: float, machine: Machine, arena: Arena, bridge: RunningBridge
) -> None:
    for wrong_by in (offset, 0.0):
        machine.offset = wrong_by
        answers = await asyncio.gather(*(ask(bridge, f"/say {n} at {wrong_by}") for n in range(20)))
        assert all(answer.is_good for answer in answers)
    assert refused(arena) <= 20  # those already sent; once corrected, ids continue where they were
    assert_no_account_marked(bridge)


@streamed_and_not
async def test_ids_refused_despite_corrections_are_reported_as_a_clock_error(
    stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    arena.faults.arm("clock_offset", None)
    answer = await ask(bridge, PROMPT, stream=stream)
    assert answer.said == (502, "upstream_error", "rejected")
    assert answer.error is not None
    assert "must correct the clock of the bridge's machine" in answer.error["message"]
    assert len(arena.chats) == 3
    assert_no_account_marked(bridge)
    arena.faults.clear()
    assert (await ask(bridge, PROMPT, stream=stream)).is_good


@two_hours_off
async def test_a_site_of_2025_accepts_ids_made_with_a_wrong_clock(
    offset: float, machine: Machine, tmp_path: Path
) -> None:
    machine.offset = offset
    async with Arena(era=2025) as arena, running_bridge(arena, tmp_path / "state") as bridge:
        first = await ask(bridge, "Who are you?")
        second = await ask(bridge, "Who are you?", first.text, "And I?")
        assert (second.is_good, second.place, refused(arena)) == (True, "follow-up; why=known", 1)  # for the mode
