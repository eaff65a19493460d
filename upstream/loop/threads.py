"""Threads for one kind of blocking work, apart from those of other kinds.

asyncio's default executor is one pool for everything, and `asyncio.run` joins it without a limit: there, a name server
that does not answer would hold up state files, logins and the end of the process.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextvars import copy_context
from functools import partial
from typing import Final, ParamSpec, TypeAlias, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_Work: TypeAlias = Callable[[], None]

#: A thread ends after so many seconds without work.
_IDLE_SECONDS: Final = 10.0


class Threads(Executor):
    """At most `limit` daemon threads, started as they are needed; work beyond that waits for its turn.

    The interpreter exits without waiting for them: `idle` waits for what must be finished. Work whose future is
    cancelled before its turn is skipped.
    """

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._work: deque[_Work] = deque()
        self._changed = threading.Condition()  # its lock is held only for a few instructions, never during the work
        self._threads = 0
        self._waiting = 0
        self._closed = False

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `function` in a thread, in this context, and return what it returns."""
        call = partial(copy_context().run, function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self, call)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Queue a call. Raises RuntimeError after `shutdown`."""
        future: Future[T] = Future()

        def work() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    outcome = fn(*args, **kwargs)
                except BaseException as error:  # noqa: BLE001 — it is raised where the future is awaited
                    future.set_exception(error)
                else:
                    future.set_result(outcome)

        with self._changed:
            if self._closed:
                raise RuntimeError(f"the threads for {self._name} are closed")
            self._work.append(work)
            if len(self._work) > self._waiting and self._threads < self._limit:
                threading.Thread(target=self._serve, name=self._name, daemon=True).start()
                self._threads += 1
            self._changed.notify_all()
        return future

    def idle(self, timeout: float) -> bool:
        """Wait until all work is done, at most `timeout` seconds. Returns whether it is. Blocks."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._work and self._threads == self._waiting, timeout)

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = False) -> None:
        """Take no more work, and let each thread end when it has none. With `wait`, wait for all of it."""
        with self._changed:
            self._closed = True
            if cancel_futures:
                self._work.clear()
            self._changed.notify_all()
            if wait:
                self._changed.wait_for(lambda: not self._threads)

    def _serve(self) -> None:
        while (work := self._next()) is not None:
            work()
            del work  # an idle thread keeps no arguments alive

    def _next(self) -> _Work | None:
        """The next work; None where this thread has waited long enough, or the owner has closed."""
        with self._changed:
            self._waiting += 1
            self._changed.notify_all()  # for `idle`
            self._changed.wait_for(lambda: self._work or self._closed, _IDLE_SECONDS)
            self._waiting -= 1
            if self._work:
                return self._work.popleft()
            self._threads -= 1
            self._changed.notify_all()
            return None
