"""Heavy work on requests' bodies: parsing, decoding and counting what is large, in one thread, key by key.

Most of it holds Python's lock: several threads would leave the event loop a small share of the processor. And in the
default executor it would delay logins and state files.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from upstream.loop.threads import Threads

P = ParamSpec("P")
T = TypeVar("T")

#: One more would halve what the event loop gets.
_THREADS: Final = 1


class HeavyWork:
    """Runs functions in a thread, for each owner one after the other, so that one with many delays another by one."""

    def __init__(self) -> None:
        self._threads = Threads("large bodies", _THREADS)
        self._turns: dict[str, asyncio.Lock] = {}
        self._running: Counter[str] = Counter()  # and waiting, by owner

    async def run(self, owner: str, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `function` in the thread, and return its result."""
        turn = self._turns.setdefault(owner, asyncio.Lock())
        self._running[owner] += 1
        try:
            async with turn:
                return await self._threads.run(function, *args, **kwargs)
        finally:
            self._running[owner] -= 1
            if not self._running[owner]:
                del self._running[owner], self._turns[owner]

    def close(self) -> None:
        """Accept no more work; what runs is not waited for."""
        self._threads.shutdown(cancel_futures=True)
