"""Like test_pi.py, with agents that are too large for `make test-clients`; more_agents.sh installs them."""

from __future__ import annotations

import pytest
from clients import CLIENTS, Served
from coding_agents import edits_a_file
from larger_agents import MORE_AGENTS

pytestmark = CLIENTS


@pytest.mark.parametrize("name", MORE_AGENTS)
async def test_the_agent_edits_a_file(served: Served, name: str) -> None:
    await edits_a_file(served, MORE_AGENTS[name])
