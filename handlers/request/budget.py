"""A memory budget for all request bodies together, with a fair share for each key.

Requests that do not fit wait. A key with several requests may hold at most as much as it leaves free, so that a key
that announces many large bodies and never sends them cannot lock out the others.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from typing import Final, NamedTuple, Self

from bridge.errors import overloaded

#: A chat's text fits into a body of this size; only pictures make bodies larger.
SMALL_BYTES: Final = 1024 * 1024
#: Bodies up to this size are not counted: 2,000 (`limits.streams`) take 128 MiB. Most chats' bodies are smaller.
UNCOUNTED_BYTES: Final = 64 * 1024
#: The limit for all other bodies and what is parsed from them: about 60 requests with ten pictures of 300 KB each.
TOTAL_BYTES: Final = 256 * 1024 * 1024


class Hold:
    """A reservation for one request, as a context: its entry waits for the memory. It can grow and shrink within."""

    def __init__(self, budget: ByteBudget, owner: str, size: int, timeout: float) -> None:
        self._budget = budget
        self._owner = owner
        self._timeout = timeout
        self._wanted = size
        self._size = 0

    async def __aenter__(self) -> Self:
        if self._wanted > UNCOUNTED_BYTES:
            await self.extend(self._wanted)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._size:
            self.shrink(0)

    @property
    def size(self) -> int:
        """The size of the reservation, in bytes."""
        return self._size

    async def extend(self, size: int) -> None:
        """Reserve `size` bytes more. Raises ApiError (503) after `timeout` seconds of waiting."""
        self._size += await self._budget.take(self._owner, size, self._timeout, held=self._size)

    def shrink(self, size: int) -> None:
        """Reduce the reservation to `size` bytes, once the real size is known."""
        kept = min(self._size, size if size > UNCOUNTED_BYTES else 0)
        rest, self._size = self._size - kept, kept
        if rest:
            self._budget.give_back(self._owner, rest)


class _Waiting(NamedTuple):
    """A reservation that waits; `admitted` is completed when it has its memory."""

    owner: str
    size: int
    held: int  # bytes that the same request holds already
    admitted: asyncio.Future[None]


class ByteBudget:
    """The budget: first come, first served, except that others overtake an owner that would exceed its share."""

    def __init__(self, total: int = TOTAL_BYTES) -> None:
        self._total = total
        self._free = total
        self._held: Counter[str] = Counter()
        self._waiting: deque[_Waiting] = deque()

    @property
    def free(self) -> int:
        """Bytes that are not reserved."""
        return self._free

    def hold(self, owner: str, size: int, *, timeout: float) -> Hold:
        """A context that reserves `size` bytes, at most the total; small sizes are not counted."""
        return Hold(self, owner, size, timeout)

    async def take(self, owner: str, size: int, timeout: float, *, held: int = 0) -> int:
        """Take `size` bytes, at most the total, for a request that already has `held` bytes; return how many.

        Raises ApiError (503) after `timeout` seconds.
        """
        size = min(size, self._total) if size > UNCOUNTED_BYTES else 0
        if size:
            waiting = _Waiting(owner, size, held, asyncio.get_running_loop().create_future())
            self._waiting.append(waiting)
            self._admit()
            await self._wait(waiting, timeout)
        return size

    async def _wait(self, waiting: _Waiting, timeout: float) -> None:
        if waiting.admitted.done():
            return
        entered = False
        try:
            async with asyncio.timeout(timeout):
                await waiting.admitted
                entered = True
        except TimeoutError:
            raise overloaded("The bridge holds as many large requests as it can: try again in a moment.") from None
        finally:
            if not entered:
                self._cancel(waiting)

    def _cancel(self, waiting: _Waiting) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)
            self._admit()  # those behind it may fit
        else:
            self.give_back(waiting.owner, waiting.size)

    def give_back(self, owner: str, size: int) -> None:
        """Return `size` bytes to the budget, and admit waiting reservations that fit now."""
        self._free += size
        self._held[owner] -= size
        if not self._held[owner]:
            del self._held[owner]
        self._admit()

    def _admit(self) -> None:
        """Admit what fits, in order. One that would exceed its owner's share does not hold up those of other owners."""
        over_share: set[str] = set()
        for waiting in tuple(self._waiting):
            owner, size, held, admitted = waiting
            if owner in over_share:
                continue
            others = self._held[owner] - held  # bytes of the owner's other requests
            if others and others + size > self._free - size:
                over_share.add(owner)
            elif size > self._free:
                return
            else:
                self._waiting.remove(waiting)
                self._free -= size
                self._held[owner] += size
                if not admitted.done():  # else it was cancelled, and `_cancel` gives them back
                    admitted.set_result(None)
