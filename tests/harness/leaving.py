"""A caller that leaves in the middle, at a moment that an event decides and not a clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from bridge.tasks import TaskOwner


async def leave_when(holds: Callable[[], bool], call: Coroutine[Any, Any, object]) -> None:
    """Make the call, and abandon it as soon as `holds` does. Raises TimeoutError if it never does."""
    async with TaskOwner() as tasks, asyncio.timeout(20):
        tasks.spawn(call, name="call")
        while not holds():  # noqa: ASYNC110 — what is waited for sets no event
            await asyncio.sleep(0.001)
