"""Several concurrent answers to one request: all of them begin, or none; if one fails, the others are cancelled."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from bridge.answering.answer import Answer
from bridge.answering.chat import Usage
from bridge.answering.stages import ToolsOutcome
from upstream.loop.parallel import run_all


@asynccontextmanager
async def start_all(asks: Sequence[Callable[[], Awaitable[Answer]]]) -> AsyncIterator[Sequence[Answer]]:
    """Start all answers concurrently and wait until each has begun; close all of them on exit.

    Raises the error of the first that fails to begin.
    """
    async with AsyncExitStack() as stack:

        async def begin(ask: Callable[[], Awaitable[Answer]]) -> Answer:
            return await stack.enter_async_context(await ask())

        yield await run_all([begin(ask) for ask in asks])


def usage_of(answers: Sequence[Answer]) -> Usage:
    """Add up the usage of all answers; the prompt counts once for each."""
    usages = [answer.usage() for answer in answers]
    return Usage(
        sum([usage.prompt for usage in usages]),
        sum([usage.completion for usage in usages]),
        sum([usage.reasoning for usage in usages]),
        sum([usage.cached for usage in usages]),
    )


def worst_of(answers: Sequence[Answer]) -> ToolsOutcome | None:
    """Return the worst tool outcome of the answers; None without tools."""
    outcomes = [outcome for answer in answers if (outcome := answer.tools_outcome) is not None]
    return max(outcomes, key=list(ToolsOutcome).index) if outcomes else None
