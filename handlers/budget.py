"""A cap on what large request bodies take of memory, all of them together: who comes when it is full waits."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Self

from bridge.errors import overloaded

#: Bodies up to here are a chat's text; it takes pictures to fill the memory.
SMALL_BYTES: Final = 1024 * 1024
#: What large bodies, and the pictures decoded from them, may take together: some 60 requests of ten 300 KB pictures.
TOTAL_BYTES: Final = 256 * 1024 * 1024


class Hold:
    """A request's share of the budget, as a context that waits for it; it can be given back before the end."""

    def __init__(self, budget: ByteBudget, size: int, timeout: float) -> None:
        self._budget = budget
        self._timeout = timeout
        self._wanted = size
        self._size = 0

    async def __aenter__(self) -> Self:
        if self._wanted > SMALL_BYTES:
            await self.extend(self._wanted)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.shrink(0)

    @property
    def size(self) -> int:
        """How much of the budget it holds, in bytes."""
        return self._size

    async def extend(self, size: int) -> None:
        """Hold `size` bytes more. Raises ApiError (503) after `timeout` seconds of waiting."""
        self._size += await self._budget.take(size, self._timeout)

    def shrink(self, size: int) -> None:
        """Keep a share for `size` bytes, now that they are known, and give the rest back."""
        kept = min(self._size, size if size > SMALL_BYTES else 0)
        rest, self._size = self._size - kept, kept
        if rest:
            self._budget.give(rest)


class ByteBudget:
    """Bytes to be shared out, first come, first served."""

    def __init__(self, total: int = TOTAL_BYTES) -> None:
        self._total = total
        self._free = total
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def free(self) -> int:
        """Bytes that nobody holds."""
        return self._free

    def holding(self, size: int, *, timeout: float) -> Hold:
        """Hold `size` bytes, or all there are, for the length of a context; small ones count as none."""
        return Hold(self, size, timeout)

    async def take(self, size: int, timeout: float) -> int:
        """Take `size` bytes, or all there are; return how many. Raises ApiError (503) after `timeout` seconds."""
        size = min(size, self._total) if size > SMALL_BYTES else 0
        if size and (self._waiting or size > self._free):
            await self._wait(size, timeout)
        else:
            self._free -= size
        return size

    async def _wait(self, size: int, timeout: float) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        entered = False
        try:
            async with asyncio.timeout(timeout):
                await turn
                entered = True
        except TimeoutError:
            raise overloaded("The bridge holds as many pictures as it can: try again in a moment.") from None
        finally:
            if not entered:
                self._leave(size, turn)

    def _leave(self, size: int, turn: asyncio.Future[None]) -> None:
        if (size, turn) in self._waiting:
            self._waiting.remove((size, turn))
            size = 0  # nothing to give back, but who stands behind may fit
        self.give(size)

    def give(self, size: int) -> None:
        """Take back `size` bytes, and let in whom there is room for, in order."""
        self._free += size
        while self._waiting and self._waiting[0][0] <= self._free:
            wanted, turn = self._waiting.popleft()
            self._free -= wanted
            if not turn.done():  # else it was cancelled, and gives back by itself
                turn.set_result(None)
