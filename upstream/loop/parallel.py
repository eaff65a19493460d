"""Concurrent work that fails as a whole. A `TaskGroup` would leave reference cycles where it fails or is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


async def run_all(coroutines: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Run the coroutines concurrently, and return their results in order.

    The first failure cancels the others, and is raised unchanged once they have ended.
    """
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(coroutine) for coroutine in coroutines]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        del tasks  # an error's traceback refers to this frame, and a task to its error


async def map_concurrently(
    function: Callable[[Item], Awaitable[Result]], items: Iterable[Item], limit: int
) -> list[Result]:
    """Apply `function` to at most `limit` items at a time; return the results in the items' order.

    The first failure cancels the others and is raised unchanged.
    """
    slots = asyncio.Semaphore(limit)

    async def apply(item: Item) -> Result:
        async with slots:
            return await function(item)

    return await run_all([apply(item) for item in items])
