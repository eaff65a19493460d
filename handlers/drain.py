"""The end of the daemon as its answers see it: no new ones, a while for those that run, then a word and the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bridge.errors import from_upstream, overloaded
from upstream.errors import TimedOut


class Drain:
    """Bounds every answer's life: by its own limit, and by the daemon's end."""

    def __init__(self) -> None:
        self._answers: set[asyncio.Timeout] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._cut = False
        #: The daemon takes no further requests.
        self.draining = False

    @property
    def running(self) -> int:
        """Answers under way."""
        return len(self._answers)

    @asynccontextmanager
    async def bounded(self, seconds: float) -> AsyncIterator[None]:
        """Let an answer live for `seconds`. Raises ApiError when they, or the daemon's, are over."""
        scope = asyncio.timeout(seconds)
        try:
            async with scope:
                self._answers.add(scope)
                self._idle.clear()
                yield
        except TimeoutError:
            if not scope.expired():
                raise
            if self._cut:
                raise overloaded("The bridge is shutting down and could not wait for the answer's end.") from None
            raise from_upstream(TimedOut(f"The answer took longer than {seconds:g} s.")) from None
        finally:
            self._answers.discard(scope)
            if not self._answers:
                self._idle.set()

    async def drain(self, seconds: float) -> None:
        """Wait for running answers, `seconds` at most; then end those that are left."""
        self.draining = True
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            self.cut()

    def cut(self) -> None:
        """End every running answer now, with an error that says why."""
        self.draining = self._cut = True
        now = asyncio.get_running_loop().time()
        for scope in self._answers:
            scope.reschedule(now)
