"""The end of the daemon as its requests see it: no new ones, a while for those that run, then a word and the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from types import TracebackType
from typing import Self

from bridge.errors import ApiError, from_upstream, overloaded
from bridge.tasks import set_within
from upstream.loop.timers import Timers
from upstream.protocol.errors import TimedOut


class Life:
    """The time that one answer has, as a context; it can be ended before, with an error that says why.

    Raises ApiError when it is over, by itself or by `end`.
    """

    __slots__ = ("_answers", "_cancelling", "_error", "_idle", "_seconds", "_task", "_timers")

    _task: asyncio.Task[object]
    _cancelling: int  # how often others had cancelled it before

    def __init__(self, seconds: float, timers: Timers, answers: set[Life], idle: asyncio.Event) -> None:
        self._seconds = seconds
        self._timers = timers
        self._answers = answers
        self._idle = idle
        self._error: ApiError | None = None

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("an answer is given by a task")
        self._task, self._cancelling = task, task.cancelling()
        self._timers.set(self, monotonic() + self._seconds)
        self._answers.add(self)
        self._idle.clear()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timers.cancel(self)
        self._answers.discard(self)
        if not self._answers:
            self._idle.set()
        if self._error is not None and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise self._error from None

    def on_timer(self) -> None:
        """Let the answer end: its time is over."""
        self.end(from_upstream(TimedOut(f"The answer took longer than {self._seconds:g} s.")))

    def end(self, error: ApiError) -> None:
        """Let the answer end now, and raise `error`."""
        if self._error is None and self in self._answers:  # one that is ending already, or has, cannot be told to
            self._error = error
            self._task.cancel()


class Drain:
    """Bounds a request's coming in and an answer's life: by a limit of their own, and by the daemon's end."""

    def __init__(self, timers: Timers) -> None:
        self._timers = timers
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
        return Life(seconds, self._timers, self._answers, self._idle)

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
        await set_within(self._idle, seconds)


def _shutting_down() -> ApiError:
    return overloaded("The bridge is shutting down: try again in a moment.", close=True)
