"""Garbage in cycles is collected from time to time while few answers run; `test_connection_limits.py` has the rest."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest
from manual_clock import Clock

from handlers.daemon.memory import QUIET_ANSWERS, QUIET_SECONDS, GarbageCollector


class Node:
    """A cycle by itself."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def garbage() -> Iterator[weakref.ref[Node]]:
    """A cycle that nobody needs, and that nothing else collects."""
    gc.disable()
    yield weakref.ref(Node())
    gc.enable()


@pytest.mark.parametrize(
    ("seconds", "running", "collected"),
    [
        (QUIET_SECONDS - 1, 0, False),
        (QUIET_SECONDS, QUIET_ANSWERS, True),
        (QUIET_SECONDS, QUIET_ANSWERS + 1, False),
    ],
)
async def test_garbage_goes_once_in_a_while(
    seconds: float, running: int, collected: bool, garbage: weakref.ref[Node]
) -> None:
    clock = Clock()
    collector = GarbageCollector(lambda: 80 * 2**20, lambda: running, clock)
    clock.now += seconds
    await collector()
    assert (garbage() is None) is collected
    if collected:
        again = weakref.ref(Node())
        await collector()
        assert again() is not None  # not again before as much time has passed


@pytest.mark.parametrize(("running", "collected"), [(0, True), (2_000, False)])
async def test_what_running_answers_take_is_not_gone_through(
    running: int, collected: bool, garbage: weakref.ref[Node]
) -> None:
    """With 2,000 open streams a collection holds the loop for 0.16 s."""
    resident = 60 * 2**20
    collector = GarbageCollector(lambda: resident, lambda: running, Clock())
    resident += 2_000 * 48 * 1024
    await collector()
    assert (garbage() is None) is collected
