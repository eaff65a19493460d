"""The end of the daemon as its requests see it: no new ones, a while for those that run, then a word and the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Self

from bridge.errors import ApiError, from_upstream, overloaded
from upstream.errors import TimedOut


class Life:
    """The time that one answer has, as a context; it can be ended before, with an error that says why.

    Raises ApiError when it is over, by itself or by `end`.
    """

    def __init__(self, seconds: float, answers: set[Life], idle: asyncio.Event) -> None:
        self._seconds = seconds
        self._scope = asyncio.timeout(seconds)
        self._answers = answers
        self._idle = idle
        self._error: ApiError | None = None

    async def __aenter__(self) -> Self:
        await self._scope.__aenter__()
        self._answers.add(self)
        self._idle.clear()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._answers.discard(self)
        if not self._answers:
            self._idle.set()
        try:
            await self._scope.__aexit__(kind, error, trace)
        except TimeoutError:
            too_long = TimedOut(f"The answer took longer than {self._seconds:g} s.")
            raise self._error or from_upstream(too_long) from None

    def end(self, error: ApiError) -> None:
        """Let the answer end now, and raise `error`."""
        if not self._scope.expired():  # one that is ending already cannot be told to
            self._error = error
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

    def bounded(self, seconds: float) -> Life:
        """Let an answer live for `seconds`, or until the daemon ends. Raises ApiError once it drains."""
        if self.draining:
            raise _shutting_down()
        return Life(seconds, self._answers, self._idle)

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
