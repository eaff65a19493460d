"""An arena and a bridge for whoever asks; and how much Hypothesis tries.

`make test` runs a hundred examples a property, `make test-slow` ten thousand.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import is_hypothesis_test, settings
from running import RunningBridge, running_bridge

from upstream.arena import Arena

settings.register_profile("default", max_examples=100, deadline=None, derandomize=False, print_blob=True)
settings.register_profile("slow", settings.get_profile("default"), max_examples=10_000)
settings.load_profile("default")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Count every property among the slow tests when the slow profile is asked for, before `-m slow` chooses."""
    if config.getoption("--hypothesis-profile") == "slow":
        for item in items:
            if is_hypothesis_test(getattr(item, "obj", None)):
                item.add_marker(pytest.mark.slow)


@pytest.fixture
async def arena() -> AsyncIterator[Arena]:
    """LMArena, played on a port of its own."""
    async with Arena() as arena:
        yield arena


@pytest.fixture
async def bridge(arena: Arena, tmp_path: Path) -> AsyncIterator[RunningBridge]:
    """A bridge with one account and one key, ready to be called."""
    async with running_bridge(arena, tmp_path / "state") as bridge:
        yield bridge
