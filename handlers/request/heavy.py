"""Heavy work on large bodies (parsing, decoding, counting) in one thread, with the keys taking turns.

Most of it holds the GIL: several threads would leave the event loop a small share of the processor. In the default
executor it would delay logins and state files.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from upstream.loop.threads import Threads

P = ParamSpec("P")
T = TypeVar("T")

#: A second one would halve the event loop's share of the processor.
_THREADS: Final = 1


class HeavyWork:
    """Runs functions in a thread, one at a time for each owner: an owner with many delays another by one at most."""

    def __init__(self) -> None:
        self._threads = Threads("large bodies", _THREADS)
        self._turns: dict[str, asyncio.Lock] = {}
        self._calls: Counter[str] = Counter()  # by owner, running and waiting

    async def run(self, owner: str, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `function` in the thread, and return its result."""
        turn = self._turns.setdefault(owner, asyncio.Lock())
        self._calls[owner] += 1
        try:
            async with turn:
                return await self._threads.run(function, *args, **kwargs)
        finally:
            self._calls[owner] -= 1
            if not self._calls[owner]:
                del self._calls[owner], self._turns[owner]

    def close(self) -> None:
        """Accept no more work; does not wait for what is running."""
        self._threads.shutdown(cancel_futures=True)
