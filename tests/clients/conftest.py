"""One bridge for all tests of clients in a process: `lmarena-bridge serve`, against an arena on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from clients import ALIASES, Programs, Served
from process import Home

from upstream.arena import Arena, builtin_models, tool_models

pytest.register_assert_rewrite("coding_agents", "talks")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """The bridge and its arena."""
    folder = tmp_path_factory.mktemp("clients")
    async with Arena(models=(*builtin_models(), *tool_models())) as arena:
        home = Home(arena, folder)
        await home.prepare()
        home.configure({"models": {"aliases": ALIASES}})
        programs = Programs(folder)
        try:
            async with home.serve() as daemon:
                yield Served(daemon.origin, home.secret, arena, programs, folder)
        finally:
            await programs.stop()


@pytest.fixture
def served(running: Served, tmp_path: Path) -> Iterator[Served]:
    """The same bridge for one test, with an arena that has forgotten the calls of other tests."""
    running.arena.calls.clear()
    yield Served(running.origin, running.key, running.arena, running.programs, tmp_path)
    running.arena.faults.clear()
    running.arena.script = None
