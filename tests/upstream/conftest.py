"""Fixtures for the tests of the client."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from asking import Asker, connected
from eras import ERAS

from upstream.arena import Arena


@pytest.fixture(params=ERAS)
async def arena(request: pytest.FixtureRequest) -> AsyncIterator[Arena]:
    async with Arena(era=request.param) as arena:
        yield arena


@pytest.fixture
async def asker(arena: Arena) -> AsyncIterator[Asker]:
    async with connected(arena.origin, idle_timeout=60) as arena_client:
        yield Asker(arena, arena_client, arena.sign_in())


@pytest.fixture
async def impatient(arena: Arena) -> AsyncIterator[Asker]:
    """An asker with a short idle timeout, only for tests in which it must expire: a busy machine may exceed it too."""
    async with connected(arena.origin, idle_timeout=0.2) as arena_client:
        yield Asker(arena, arena_client, arena.sign_in())
