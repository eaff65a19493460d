"""Named tasks with an owner: all tasks are started here, so that none is lost or outlives its owner."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")

_logger = logging.getLogger(__name__)


class TaskOwner:
    """Owns the tasks that it spawns: keeps references to them, logs their failures, and cancels them in `aclose`."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[asyncio.Task[Any]]:
        return iter(tuple(self._tasks))

    def spawn(self, coro: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
        """Run `coro` as a task of this owner. Raises RuntimeError once the owner is closed."""
        if self._closed:
            coro.close()
            raise RuntimeError(f"task {name} was started after its owner was closed")
        task = asyncio.get_running_loop().create_task(coro, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def every(self, seconds: float, action: Callable[[], Awaitable[None]], *, name: str) -> asyncio.Task[None]:
        """Run `action` repeatedly, `seconds` after the start and after the end of each run, until it raises."""

        async def repeat() -> None:
            while True:
                await asyncio.sleep(seconds)
                await action()

        return self.spawn(repeat(), name=name)

    async def aclose(self) -> None:
        """Cancel all tasks and wait until each has ended, except the task that calls this."""
        self._closed = True
        tasks = self._tasks - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _logger.error("task %s failed", task.get_name(), exc_info=error)


async def set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait until an event is set, but no longer than `seconds`; return whether it was set."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
