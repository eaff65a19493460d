"""Fixtures for the renewal tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from manual_clock import Clock

from bridge.state.documents import StateFolder
from upstream.arena import Arena


@pytest.fixture
def clock(arena: Arena) -> Clock:
    """The site's clock, which the test moves."""
    clock = arena.clock = Clock()
    clock.now = 1_800_000_000.0
    return clock


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path / "state")
