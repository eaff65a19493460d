"""Graceful shutdown of requests: refuse new ones, let running answers finish for a while, then end the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic
from types import TracebackType
from typing import Self

from bridge.errors import ApiError, from_upstream, overloaded
from bridge.tasks import set_within
from upstream.loop.timers import Timers
from upstream.protocol.errors import TimedOut


class AnswerLifetime:
    """The bounded lifetime of one answer, as a context, which raises ApiError on timeout or after `end`."""

    __slots__ = ("_answers", "_cancelling", "_error", "_idle", "_seconds", "_task", "_timers", "is_postponed")

    _task: asyncio.Task[object]
    _cancelling: int  # the task's cancellation requests before this context

    def __init__(self, seconds: float, timers: Timers, answers: set[AnswerLifetime], idle: asyncio.Event) -> None:
        self._seconds = seconds
        self._timers = timers
        self._answers = answers
        self._idle = idle
        self._error: ApiError | None = None
        #: Whether its time has not begun, since the request waits in a queue.
        self.is_postponed = False

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("an answer must run in a task")
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

    def postpone(self, seconds: float) -> None:
        """Let the answer's time begin in `seconds` from now; a later call replaces this."""
        self.is_postponed = seconds > 0
        if self in self._answers:
            self._timers.set(self, monotonic() + seconds + self._seconds)

    def on_timer(self) -> None:
        """End the answer with a timeout."""
        self.end(from_upstream(TimedOut(f"The answer took longer than {self._seconds:g} s.")))

    def end(self, error: ApiError) -> None:
        """End the answer now by cancelling its task; the context then raises `error`."""
        if self._error is None and self in self._answers:  # neither ending nor ended
            self._error = error
            self._task.cancel()


class Drain:
    """Bounds the time for receiving and for answering requests, and ends both when the daemon shuts down."""

    def __init__(self, timers: Timers) -> None:
        self._timers = timers
        self._receiving: set[asyncio.Timeout] = set()
        #: Callbacks for the beginning of the drain: requests that wait and answers without a caller end then.
        self.on_begin: set[Callable[[], None]] = set()
        self._answers: set[AnswerLifetime] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        #: Whether the daemon refuses further requests.
        self.draining = False

    @property
    def running(self) -> int:
        """The number of running answers, without the requests that wait in a queue."""
        return sum(not answer.is_postponed for answer in self._answers)

    @property
    def incoming_bodies(self) -> int:
        """The number of requests whose bodies are still being received."""
        return len(self._receiving)

    @asynccontextmanager
    async def receiving(self, seconds: float) -> AsyncIterator[None]:
        """A context for receiving a body. Raises TimeoutError after `seconds`, ApiError once the daemon drains."""
        scope = asyncio.timeout(seconds)
        try:
            async with scope:
                self._receiving.add(scope)
                yield
        except TimeoutError:
            if scope.expired() and self.draining:
                raise shutting_down() from None
            raise
        finally:
            self._receiving.discard(scope)

    def bounded(self, seconds: float) -> AnswerLifetime:
        """The lifetime of an answer that may take `seconds`. Raises ApiError once the daemon drains."""
        if self.draining:
            raise shutting_down()
        return AnswerLifetime(seconds, self._timers, self._answers, self._idle)

    def begin(self) -> None:
        """Start to drain: refuse new requests, those whose bodies are still being received, and those that wait."""
        self.draining = True
        now = asyncio.get_running_loop().time()
        for callback in tuple(self.on_begin):
            callback()
        for scope in self._receiving:
            if not scope.expired():  # an expired timeout cannot be rescheduled
                scope.reschedule(now)

    def end_answers(self) -> None:
        """End every running answer now with an error."""
        for lifetime in self._answers:
            lifetime.end(shutting_down())

    async def wait_until_idle(self, seconds: float) -> None:
        """Wait until no answer is running, for at most `seconds`."""
        await set_within(self._idle, seconds)


def shutting_down() -> ApiError:
    """The error for a request that is no longer answered."""
    return overloaded("The bridge is shutting down: try again in a moment.", close=True)
