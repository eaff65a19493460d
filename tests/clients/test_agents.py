"""Agents that work on files: each reads one and edits it by its own tools, and nothing is sent twice meanwhile."""

from __future__ import annotations

import pytest
from clients import CLIENTS, Served
from coding_agents import AFTER, AGENTS, DONE, FILE

pytestmark = CLIENTS


@pytest.mark.parametrize("name", ["opencode", "pi"])
async def test_it_edits_a_file(served: Served, name: str) -> None:
    ended = await AGENTS[name].works(served)
    assert (served.folder / "work" / FILE).read_text() == AFTER, ended.text
    assert DONE in ended.out, ended.text
    working = served.last_evaluation.id
    calls = [call.kind for call in served.arena.calls if call.evaluation_id == working]
    assert calls == ["create", "follow-up", "follow-up"]
