"""Waits for calls to an arena."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from upstream.arena import Arena, Call


class Arrivals:
    """Observes the calls to an arena from now on."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._news = asyncio.Event()
        receive = arena.receive

        def noting(call: Call) -> object:
            try:
                return receive(call)
            finally:
                self._news.set()

        arena.receive = noting  # type: ignore[method-assign, assignment]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a call after which `condition` holds. Raises TimeoutError."""
        async with asyncio.timeout(10):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def calls(self, number: int, *kinds: str) -> None:
        """Wait until this many calls of these kinds have arrived in total."""
        await self.until(lambda: sum(call.kind in kinds for call in self._arena.calls) >= number)

    async def answered(self, number: int) -> None:
        """Wait until this many chats in total have been answered."""
        await self.until(lambda: len(self._arena.chats) >= number)
        for call in self._arena.chats[:number]:
            await call.done.wait()
