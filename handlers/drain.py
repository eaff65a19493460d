"""The end of the daemon as its requests see it: no new ones, a while for those that run, then a word and the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from bridge.errors import ApiError, from_upstream, overloaded
from upstream.errors import TimedOut


class Life:
    """The time that one answer has: it can be shortened to nothing, with an error that says why."""

    def __init__(self, scope: asyncio.Timeout) -> None:
        self._scope = scope
        self.error: ApiError | None = None

    def end(self, error: ApiError) -> None:
        """Let the answer end now, and raise `error`."""
        if not self._scope.expired():  # one that is ending already cannot be told to
            self.error = error
            self._scope.reschedule(asyncio.get_running_loop().time())


class Drain:
    """Bounds a request's coming in and an answer's life: by a limit of their own, and by the daemon's end."""

    def __init__(self) -> None:
        self._arrivals: set[asyncio.Timeout] = set()
        self._answers: set[Life] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        #: The daemon takes no further requests.
        self.draining = False

    @property
    def running(self) -> int:
        """Answers under way."""
        return len(self._answers)

    @property
    def coming(self) -> int:
        """Requests that are still coming in."""
        return len(self._arrivals)

    @asynccontextmanager
    async def arriving(self, seconds: float) -> AsyncIterator[None]:
        """Let a request come in for `seconds`. Raises TimeoutError after them, ApiError once the daemon drains."""
        scope = asyncio.timeout(seconds)
        try:
            async with scope:
                self._arrivals.add(scope)
                yield
        except TimeoutError:
            if scope.expired() and self.draining:
                raise _shutting_down() from None
            raise
        finally:
            self._arrivals.discard(scope)

    @asynccontextmanager
    async def bounded(self, seconds: float) -> AsyncIterator[Life]:
        """Let an answer live for `seconds`. Raises ApiError when they, or the daemon's, or its own life are over."""
        if self.draining:
            raise _shutting_down()
        scope = asyncio.timeout(seconds)
        life = Life(scope)
        try:
            async with scope:
                self._answers.add(life)
                self._idle.clear()
                yield life
        except TimeoutError:
            if not scope.expired():
                raise
            error = life.error or from_upstream(TimedOut(f"The answer took longer than {seconds:g} s."))
            raise error from None
        finally:
            self._answers.discard(life)
            if not self._answers:
                self._idle.set()

    def begin(self) -> None:
        """Take no further requests, nor those that are still coming in."""
        self.draining = True
        now = asyncio.get_running_loop().time()
        for scope in self._arrivals:
            if not scope.expired():  # one that is ending already cannot be told to
                scope.reschedule(now)

    def cut(self) -> None:
        """End every running answer now, with an error that says why."""
        for life in self._answers:
            life.end(_shutting_down())

    async def idle(self, seconds: float) -> None:
        """Wait until no answer is running, `seconds` at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._idle.wait()


def _shutting_down() -> ApiError:
    return overloaded("The bridge is shutting down: try again in a moment.", close=True)
