"""Bounded concurrency over several items, which fails as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


async def map_concurrently(
    function: Callable[[Item], Awaitable[Result]], items: Iterable[Item], limit: int
) -> list[Result]:
    """Apply `function` to at most `limit` items at a time; return the results in the items' order.

    The first failure cancels the others and is raised unchanged.
    """
    slots = asyncio.Semaphore(limit)
    failures: list[Exception] = []
    tasks: list[asyncio.Task[Result]] = []

    async def apply(item: Item) -> Result:
        async with slots:
            return await function(item)

    try:
        async with asyncio.TaskGroup() as group:
            tasks += [group.create_task(apply(item)) for item in items]
    except* Exception as failed:  # noqa: BLE001 — re-raised below
        failures += failed.exceptions
    if failures:
        raise failures[0]
    return [task.result() for task in tasks]
