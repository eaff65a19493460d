"""Several answers to one request, side by side: all of them begin, or none; when one breaks, the others stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

from bridge.answering.answer import Answer
from bridge.answering.chat import Usage
from bridge.answering.stages import ToolsOutcome

T = TypeVar("T")


@asynccontextmanager
async def begun(asks: Sequence[Callable[[], Awaitable[Answer]]]) -> AsyncIterator[Sequence[Answer]]:
    """Ask all of these at once, and wait until all answers have begun; let go of all of them on the way out.

    Raises what the first of them raises that does not begin.
    """
    async with AsyncExitStack() as stack:

        async def begin(ask: Callable[[], Awaitable[Answer]]) -> Answer:
            return await stack.enter_async_context(await ask())

        yield await side_by_side([begin(ask) for ask in asks])


async def side_by_side(coroutines: Sequence[Coroutine[Any, Any, T]]) -> Sequence[T]:
    """Run these at once. Where one fails, cancel the others and raise its error as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in coroutines]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


def usage_of(answers: Sequence[Answer]) -> Usage:
    """The usage of all answers together; each has been shown the prompt."""
    usages = [answer.usage() for answer in answers]
    return Usage(
        sum([usage.prompt for usage in usages]),
        sum([usage.completion for usage in usages]),
        sum([usage.reasoning for usage in usages]),
        sum([usage.cached for usage in usages]),
    )


def worst_of(answers: Sequence[Answer]) -> ToolsOutcome | None:
    """The worst of what became of the tools; None without tools."""
    outcomes = [outcome for answer in answers if (outcome := answer.tools_outcome) is not None]
    return max(outcomes, key=list(ToolsOutcome).index) if outcomes else None
