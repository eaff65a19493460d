"""Codex, through the Responses API."""

from __future__ import annotations

import pytest
from clients import CLIENTS, Served
from codex import CODEX
from coding_agents import compacts, edits_a_file, recovers

pytestmark = [*CLIENTS, pytest.mark.parametrize("name", CODEX)]


async def test_the_agent_edits_a_file(served: Served, name: str) -> None:
    await edits_a_file(served, CODEX[name])
    results = [message.content for message in served.last_evaluation.messages if message.role == "user"]
    assert not any("unsupported call" in result for result in results)


async def test_the_agent_finishes_its_task_despite_failures_of_the_model(served: Served, name: str) -> None:
    await recovers(served, CODEX[name])


async def test_the_agent_compacts_a_history_that_is_too_long(served: Served, name: str) -> None:
    await compacts(served, CODEX[name])
