"""Bounded concurrent work on several items, which fails as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


async def side_by_side(work: Callable[[Item], Awaitable[Result]], items: Iterable[Item], width: int) -> list[Result]:
    """Run `work` on at most `width` items at a time; return the results in order.

    The first failure cancels the others and is raised unchanged.
    """
    places = asyncio.Semaphore(width)
    failures: list[Exception] = []
    tasks: list[asyncio.Task[Result]] = []

    async def do(item: Item) -> Result:
        async with places:
            return await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            tasks += [group.create_task(do(item)) for item in items]
    except* Exception as failed:  # noqa: BLE001 — re-raised below
        failures += failed.exceptions
    if failures:
        raise failures[0]
    return [task.result() for task in tasks]
