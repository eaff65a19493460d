"""opencode, through each API: it edits a file with its own tools, and nothing is sent twice."""

from __future__ import annotations

import pytest
from clients import CLIENTS, Served
from coding_agents import compacts, edits_a_file, recovers
from installed_agents import OPENCODE

pytestmark = CLIENTS

newer_apis = pytest.mark.parametrize("api", ["Responses", "Messages"])


@pytest.mark.parametrize("api", OPENCODE)
async def test_the_agent_edits_a_file(served: Served, api: str) -> None:
    await edits_a_file(served, OPENCODE[api])


@newer_apis
async def test_the_agent_finishes_its_task_despite_failures_of_the_model(served: Served, api: str) -> None:
    await recovers(served, OPENCODE[api])


@newer_apis
async def test_the_agent_compacts_a_history_that_is_too_long(served: Served, api: str) -> None:
    await compacts(served, OPENCODE[api])
