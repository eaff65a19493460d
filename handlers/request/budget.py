"""A cap on what request bodies take of memory, all of them together, with a share for each key.

What does not fit waits. A key may hold as much as it leaves free for the others, so that no key, however many large
bodies it announces and never sends, shuts out another one.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from typing import Final, NamedTuple, Self

from bridge.errors import overloaded

#: Bodies up to here are a chat's text, and parsed at once; it takes pictures to be larger.
SMALL_BYTES: Final = 1024 * 1024
#: Bodies up to here count as nothing: `limits.streams` of them are 128 MiB. A request of most chats has less.
UNCOUNTED_BYTES: Final = 64 * 1024
#: What all others, and the texts and files read from them, may take together: some 60 requests of ten 300 KB pictures.
TOTAL_BYTES: Final = 256 * 1024 * 1024


class Hold:
    """A request's part of the budget, as a context that waits for it; it can be given back before the end."""

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
        self.shrink(0)

    @property
    def size(self) -> int:
        """How much of the budget it holds, in bytes."""
        return self._size

    async def extend(self, size: int) -> None:
        """Hold `size` bytes more. Raises ApiError (503) after `timeout` seconds of waiting."""
        self._size += await self._budget.take(self._owner, size, self._timeout, mine=self._size)

    def shrink(self, size: int) -> None:
        """Keep a part for `size` bytes, now that they are known, and give the rest back."""
        kept = min(self._size, size if size > UNCOUNTED_BYTES else 0)
        rest, self._size = self._size - kept, kept
        if rest:
            self._budget.give(self._owner, rest)


class _Turn(NamedTuple):
    """Somebody who waits."""

    owner: str
    size: int
    mine: int  # what its request holds already
    come: asyncio.Future[None]


class ByteBudget:
    """Bytes to be shared out, first come, first served, except that who exceeds its share is overtaken by others."""

    def __init__(self, total: int = TOTAL_BYTES) -> None:
        self._total = total
        self._free = total
        self._held: Counter[str] = Counter()
        self._waiting: deque[_Turn] = deque()

    @property
    def free(self) -> int:
        """Bytes that nobody holds."""
        return self._free

    def holding(self, owner: str, size: int, *, timeout: float) -> Hold:
        """Hold `size` bytes, or all there are, for the length of a context; small ones count as none."""
        return Hold(self, owner, size, timeout)

    async def take(self, owner: str, size: int, timeout: float, *, mine: int = 0) -> int:
        """Take `size` bytes, or all there are, for a request that holds `mine`; return how many.

        Raises ApiError (503) after `timeout` seconds.
        """
        size = min(size, self._total) if size > UNCOUNTED_BYTES else 0
        if size:
            turn = _Turn(owner, size, mine, asyncio.get_running_loop().create_future())
            self._waiting.append(turn)
            self._admit()
            await self._wait(turn, timeout)
        return size

    async def _wait(self, turn: _Turn, timeout: float) -> None:
        if turn.come.done():
            return
        entered = False
        try:
            async with asyncio.timeout(timeout):
                await turn.come
                entered = True
        except TimeoutError:
            raise overloaded("The bridge holds as many large requests as it can: try again in a moment.") from None
        finally:
            if not entered:
                self._leave(turn)

    def _leave(self, turn: _Turn) -> None:
        if turn in self._waiting:
            self._waiting.remove(turn)
            self._admit()  # who stands behind may fit
        else:
            self.give(turn.owner, turn.size)

    def give(self, owner: str, size: int) -> None:
        """Take back `size` bytes, and let in whom there is room for, in order."""
        self._free += size
        self._held[owner] -= size
        if not self._held[owner]:
            del self._held[owner]
        self._admit()

    def _admit(self) -> None:
        """Let in who fits, in order. Who waits for its own share alone lets others pass, but nobody of its own."""
        sated: set[str] = set()
        for turn in tuple(self._waiting):
            owner, size, mine, come = turn
            if owner in sated:
                continue
            others = self._held[owner] - mine  # what other requests of its owner hold
            if others and others + size > self._free - size:
                sated.add(owner)
            elif size > self._free:
                return
            else:
                self._waiting.remove(turn)
                self._free -= size
                self._held[owner] += size
                if not come.done():  # else it was cancelled, and gives back by itself
                    come.set_result(None)
