"""Callers that disconnect before the end of an answer, on a condition instead of after a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from polling import until
from running import RunningBridge

from bridge.tasks import TaskOwner
from handlers.request.appkeys import JOINABLE


async def leave_when(holds: Callable[[], bool], call: Coroutine[Any, Any, object]) -> None:
    """Make the call, and cancel it as soon as `holds` is true. Raises TimeoutError if it never is."""
    async with TaskOwner() as tasks:
        tasks.spawn(call, name="call")
        await until(holds)


async def nobody_returns(bridge: RunningBridge) -> None:
    """Wait until a caller has left, and skip the ten seconds in which a repeated request could join its answer."""
    answers = bridge.app[JOINABLE]
    async with asyncio.timeout(20):
        while not (left := [each for each in answers if not (each.attended or each.joined or each.ended)]):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    for answer in left:
        answer.on_timer()
