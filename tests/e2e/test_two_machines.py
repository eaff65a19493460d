"""Two machines with two workers each, one Redis, nginx in front: for callers, they are one bridge."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from machines import Machines, machines
from witness import JsonMessage, Witness, ask, user

from upstream.arena import Arena

TURNS = 12


@pytest.fixture
async def both(arena: Arena, tmp_path: Path) -> AsyncIterator[Machines]:
    async with machines(arena, tmp_path, arena.sign_in("ada@example.org"), arena.sign_in("bob@example.org")) as both:
        yield both


async def test_any_turn_of_a_conversation_may_land_on_any_process(both: Machines, arena: Arena) -> None:
    witness = Witness(arena)
    messages: list[JsonMessage] = []
    places = []
    for _ in range(TURNS):
        messages.append(user(witness.text()))
        reply = await ask(both, witness, messages, stream=True)
        messages.append(reply.message)
        places.append(reply.place)
    assert places == [("new", "first"), *[("follow-up", "known")] * (TURNS - 1)]
    assert len(arena.evaluations) == 1
