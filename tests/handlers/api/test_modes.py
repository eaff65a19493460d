"""New chats name the mode that the site accepts, which the bridge learns from its answers and remembers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from polling import until
from running import RunningBridge, running_bridge
from witness import Witness, ask, user

from upstream.arena import Arena, Session
from upstream.modes import MAX_PENDING

BATTLE, DIRECT = frozenset({"direct-battle"}), frozenset({"direct"})


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def stream(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def sessions(arena: Arena) -> tuple[Session, ...]:
    return tuple(arena.sign_in(f"{name}@example.org") for name in ("ada", "bob", "eve"))


@pytest.fixture
async def bridge(arena: Arena, sessions: tuple[Session, ...], tmp_path: Path) -> AsyncIterator[RunningBridge]:
    async with running_bridge(arena, tmp_path / "state", sessions=sessions) as bridge:
        yield bridge


def modes(arena: Arena) -> list[str]:
    """The modes that were tried, in order."""
    return [json.loads(call.body)["mode"] for call in arena.chats if call.kind == "create"]


def refused(arena: Arena) -> int:
    return sum(call.refusal is not None for call in arena.chats)


def assert_nobody_is_blamed(bridge: RunningBridge) -> None:
    assert not any(account.expired or account.cooldowns or account.bar for account in bridge.state.pool)
    assert bridge.calls_held == 0


async def test_the_sites_current_mode_is_tried_first(bridge: RunningBridge, arena: Arena, stream: bool) -> None:
    reply = await ask(bridge, (witness := Witness(arena)), [user(witness.text())], stream=stream)
    assert (reply.status, reply.place) == (200, ("new", "first"))
    assert modes(arena) == ["direct-battle"]


async def test_learning_another_mode_costs_a_single_refused_call(
    bridge: RunningBridge, arena: Arena, stream: bool
) -> None:
    arena.modes = DIRECT
    witness = Witness(arena)
    for _ in range(6):  # more chats than accounts
        reply = await ask(bridge, witness, [user(witness.text())], stream=stream)
        assert (reply.status, reply.code, reply.place) == (200, None, ("new", "first"))
    assert modes(arena) == ["direct-battle", *["direct"] * 6]
    assert_nobody_is_blamed(bridge)


async def test_the_mode_is_remembered_over_a_restart(arena: Arena, tmp_path: Path) -> None:
    arena.modes = DIRECT
    witness = Witness(arena)
    async with running_bridge(arena, tmp_path / "state") as bridge:
        await ask(bridge, witness, [user(witness.text())], stream=False)
        path = bridge.folder.path / "site.json"
        await until(path.exists)  # it is written after the answer
        assert '"direct"' in path.read_text()
    async with running_bridge(arena, tmp_path / "state") as bridge:
        assert (await ask(bridge, witness, [user(witness.text())], stream=False)).status == 200
    assert modes(arena) == ["direct-battle", "direct", "direct"]


async def test_the_mode_is_learned_for_each_account(
    bridge: RunningBridge, sessions: tuple[Session, ...], arena: Arena
) -> None:
    ada, *_ = sessions
    arena.account_modes = {ada.user_id: DIRECT}
    witness = Witness(arena)
    for _ in range(9):  # three for each account
        assert (await ask(bridge, witness, [user(witness.text())], stream=False)).status == 200
    learned = refused(arena)
    assert learned <= len(sessions)
    for _ in range(9):
        assert (await ask(bridge, witness, [user(witness.text())], stream=False)).status == 200
    assert refused(arena) == learned, "each account's mode is known"


async def test_a_site_that_accepts_neither_mode_is_reported_as_changed(
    bridge: RunningBridge, arena: Arena, stream: bool
) -> None:
    arena.modes = frozenset()
    answer = await bridge.post(bridge.chat("Hello", stream=stream))
    error = (await answer.json())["error"]
    assert (answer.status, error["code"]) == (502, "upstream_error")
    assert answer.headers["x-bridge-reason"] == "site_changed"
    assert "mode is not allowed" in error["message"]
    assert "may need an update" in error["message"]
    assert len(arena.chats) == 3, "the call, and two corrections"
    assert_nobody_is_blamed(bridge)


@pytest.mark.parametrize("accepted", [BATTLE, DIRECT], ids=["the mode of today", "the other mode"])
async def test_concurrent_first_chats_cost_few_refusals(
    bridge: RunningBridge, arena: Arena, accepted: frozenset[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty chats come while the mode is unknown; then the site changes it, and twenty more come."""
    monkeypatch.setattr("upstream.modes.PATIENCE_SECONDS", 60.0)  # a busy machine is slower than the real site
    witness = Witness(arena)

    async def twenty() -> None:
        asked = [ask(bridge, witness, [user(witness.text())], stream=at % 2 == 0) for at in range(20)]
        replies = await asyncio.gather(*asked)
        assert [(reply.status, reply.code) for reply in replies] == [(200, None)] * 20

    arena.modes = accepted
    await twenty()
    at_first = refused(arena)
    assert at_first <= (0 if accepted is BATTLE else MAX_PENDING)
    arena.modes = BATTLE | DIRECT - accepted if accepted is DIRECT else DIRECT
    await twenty()
    assert 1 <= refused(arena) - at_first <= MAX_PENDING
    assert_nobody_is_blamed(bridge)


async def test_slow_answers_do_not_hold_up_other_chats(bridge: RunningBridge, arena: Arena) -> None:
    """Chats wait only briefly for the first answers of others, and not at all for answers that have begun."""
    witness = Witness(arena)
    release = asyncio.Event()
    arena.faults.arm("no_headers", MAX_PENDING, release=release)
    async with asyncio.TaskGroup() as group:
        for _ in range(MAX_PENDING):
            group.create_task(ask(bridge, witness, [user(witness.text())], stream=False))
        await until(lambda: len(arena.chats) == MAX_PENDING)
        reply = await asyncio.wait_for(ask(bridge, witness, [user(witness.text())], stream=False), 5)
        assert reply.status == 200, "answered while the others still wait"
        release.set()
