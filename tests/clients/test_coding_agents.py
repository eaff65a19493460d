"""Agents that work on files: each reads one and edits it by its own tools, and nothing is sent twice meanwhile."""

from __future__ import annotations

import pytest
from clients import CLIENTS, Served
from coding_agents import edits_a_file
from installed_agents import AGENTS

pytestmark = CLIENTS


@pytest.mark.parametrize("name", AGENTS)
async def test_it_edits_a_file(served: Served, name: str) -> None:
    await edits_a_file(served, AGENTS[name])
