"""One request's wait in the queue of calls: the task and timer around the decisions of `bridge.access.waiting`."""

from __future__ import annotations

import asyncio

from bridge.access.limits import Admission, LimitExceeded, SharedLimits
from bridge.access.waiting import Call, CallQueue, Kind, Phase
from bridge.accounts.cooldown_queue import Waiter
from handlers.request.drain import AnswerLifetime, Drain, shutting_down
from upstream.loop.timers import Timers


class QueuedCall:
    """A call that waits and then runs, as a context manager that frees its slot."""

    __slots__ = ("_changed", "_failure", "_lock", "_queue", "_timed_out", "call", "is_waiting", "waiter")

    def __init__(self, queue: CallQueue, call: Call) -> None:
        self._queue = queue
        self._lock: asyncio.Lock | None = None
        self._changed: asyncio.Future[None] | None = None
        self._failure: Exception | None = None
        self._timed_out = False
        self.call = call
        #: Its place in the queue for accounts; None unless it waits there, since all are on cooldown.
        self.waiter: Waiter | None = None
        #: Whether it waits for its turn, from its arrival on.
        self.is_waiting = call.phase is Phase.WAITING

    @property
    def admission(self) -> Admission:
        """What is left of the key's requests per minute."""
        return self.call.admission

    def __enter__(self) -> Admission:
        return self.call.admission

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Free the slot before the context ends."""
        self._queue.leave(self.call)
        self._failure = None  # breaks a reference cycle through its traceback

    def defer(self, kind: Kind) -> None:
        """Give back the slot, which calls of other processes hold, and wait again."""
        self._queue.defer(self.call, kind)
        self.is_waiting = True

    async def wait_for_turn(
        self, timers: Timers, drain: Drain, shared: SharedLimits | None, lifetime: AnswerLifetime | None
    ) -> None:
        """Wait for the call's turn; several tasks of one request may. The time of `lifetime` begins then.

        Raises LimitExceeded at the call's deadline or if it is refused before, ApiError when the daemon drains.
        """
        self._lock = self._lock or asyncio.Lock()
        async with self._lock:
            if self._failure is not None:
                raise self._failure
            if not self.is_waiting:
                return
            call, queue = self.call, self._queue
            queue.ready(call, self._wake)
            timers.set(self, call.deadline)
            drain.on_begin.add(self._wake)
            if lifetime is not None:
                lifetime.postpone(queue.seconds_left(call))
            try:
                while self.is_waiting:
                    self._changed = asyncio.get_running_loop().create_future()
                    while call.phase is Phase.WAITING and not (self._timed_out or drain.draining):
                        await self._changed
                    if drain.draining:
                        raise shutting_down()
                    if call.phase is not Phase.SERVED:
                        raise queue.expire(call)
                    self.is_waiting = shared is not None and not await self._claim(shared)
            except Exception as error:  # reraised here, and for the other tasks of this call
                self._failure = error
                raise
            finally:
                timers.cancel(self)
                drain.on_begin.discard(self._wake)
            queue.confirm(call)
            if lifetime is not None:
                lifetime.postpone(0.0)

    def on_timer(self) -> None:
        """The deadline of the call has passed."""
        self._timed_out = True
        self._wake()

    async def _claim(self, shared: SharedLimits) -> bool:
        """Claim the slot from all processes; return False if none is free, so that the call must wait again."""
        call = self.call
        try:
            await shared.claim(call.key_id, rpm=call.rpm, concurrency=call.concurrency, streams=call.streams)
        except LimitExceeded as error:
            if error.kind == "rpm":
                raise
            self._queue.defer(call, error.kind)
            return False
        return True

    def _wake(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)
