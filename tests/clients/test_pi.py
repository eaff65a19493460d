"""pi, through each API: it edits a file with its own tools, and nothing is sent twice."""

from __future__ import annotations

import pytest
from clients import CLIENTS, Served
from coding_agents import compacts, edits_a_file, recovers
from installed_agents import PI

pytestmark = CLIENTS

every_api = pytest.mark.parametrize("api", PI)


@every_api
async def test_it_edits_a_file(served: Served, api: str) -> None:
    await edits_a_file(served, PI[api])


@every_api
async def test_it_goes_on_after_failures(served: Served, api: str) -> None:
    await recovers(served, PI[api])


@every_api
async def test_it_compacts_what_has_become_too_long(served: Served, api: str) -> None:
    await compacts(served, PI[api])
