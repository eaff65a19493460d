"""A separate thread pool for each kind of blocking work.

asyncio's default executor is one pool for everything, and `asyncio.run` joins it without a time limit: an unresponsive
name server would delay state files, logins and the exit of the process.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Final, ParamSpec, TypeAlias, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_Work: TypeAlias = Callable[[], None]

#: How long a thread waits for work before it ends.
_IDLE_SECONDS: Final = 10.0


class Threads(Executor):
    """At most `limit` daemon threads, started on demand; further work is queued.

    The interpreter exits without waiting for them; call `wait_until_idle` for work that must be finished. Work whose
    future is cancelled while it is queued is skipped.
    """

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._work: deque[_Work] = deque()
        self._changed = threading.Condition()  # locked for a few instructions only, never during the work
        self._threads = 0
        self._waiting = 0
        self._closed = False

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `function` in a thread, in the current context, and return its result.

        `run_in_executor` would keep the arguments of a call that raises, the body of a request for example, in a
        reference cycle until a full garbage collection.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._add(partial(_run, partial(copy_context().run, function, *args, **kwargs), loop, future))
        try:
            return await future
        finally:
            del future, function, args, kwargs  # an error's traceback refers to this frame

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Queue a call. Raises RuntimeError after `shutdown`."""
        future: Future[T] = Future()
        self._add(partial(_run_for_future, partial(fn, *args, **kwargs), future))
        return future

    def _add(self, work: _Work) -> None:
        with self._changed:
            if self._closed:
                raise RuntimeError(f"the threads for {self._name} are closed")
            self._work.append(work)
            if len(self._work) > self._waiting and self._threads < self._limit:
                threading.Thread(target=self._serve, name=self._name, daemon=True).start()
                self._threads += 1
            self._changed.notify_all()

    def wait_until_idle(self, timeout: float) -> bool:
        """Wait until all work is done, at most `timeout` seconds; return whether it is. Blocks."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._work and self._threads == self._waiting, timeout)

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = False) -> None:
        """Accept no more work; each thread ends once the queue is empty. With `wait`, wait for them all."""
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
        """The next work; None if this thread was idle for too long, or the pool is shut down."""
        with self._changed:
            self._waiting += 1
            self._changed.notify_all()  # for `wait_until_idle`
            self._changed.wait_for(lambda: self._work or self._closed, _IDLE_SECONDS)
            self._waiting -= 1
            if self._work:
                return self._work.popleft()
            self._threads -= 1
            self._changed.notify_all()
            return None


def _run(call: Callable[[], T], loop: asyncio.AbstractEventLoop, future: asyncio.Future[T]) -> None:
    """Make a call in a thread, and pass its outcome to a future of the loop."""
    if future.cancelled():
        return
    try:
        finish = partial(_succeed, future, call())
    except BaseException as error:  # noqa: BLE001 — raised where the future is awaited
        finish = partial(_fail, future, error)
    with suppress(RuntimeError):  # the loop is closed: nobody waits
        loop.call_soon_threadsafe(finish)
    del call, future, finish  # an error's traceback refers to this frame


def _run_for_future(call: Callable[[], T], future: Future[T]) -> None:
    """Make a call in a thread, and pass its outcome to a future of any thread."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        outcome = call()
    except BaseException as error:  # noqa: BLE001 — raised where the future is awaited
        future.set_exception(error)
    else:
        future.set_result(outcome)
    del call, future  # an error's traceback refers to this frame


def _succeed(future: asyncio.Future[T], outcome: T) -> None:
    if not future.done():
        future.set_result(outcome)


def _fail(future: asyncio.Future[T], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
