"""One request's wait in the queue of calls: the task and timer around the decisions of `bridge.access.waiting`."""

from __future__ import annotations

import asyncio

from bridge.access.limits import Admission, LimitExceeded, SharedLimits
from bridge.access.waiting import CallQueue, Kind, Phase, Place
from bridge.accounts.cooldown_queue import Waiter
from handlers.request.drain import AnswerLifetime, Drain, shutting_down
from upstream.loop.timers import Timers


class QueuedCall:
    """A call's place in the queue and then among the running calls, as a context that frees it."""

    __slots__ = ("_changed", "_failure", "_lock", "_queue", "_timed_out", "is_waiting", "place", "waiter")

    def __init__(self, queue: CallQueue, place: Place) -> None:
        self._queue = queue
        self._lock: asyncio.Lock | None = None
        self._changed: asyncio.Future[None] | None = None
        self._failure: Exception | None = None
        self._timed_out = False
        self.place = place
        #: Its place in the queue for accounts; None unless it waits there, since all are on cooldown.
        self.waiter: Waiter | None = None
        #: Whether it waits for its turn, from its arrival on.
        self.is_waiting = place.phase is Phase.WAITING

    @property
    def admission(self) -> Admission:
        """What is left of the key's requests per minute."""
        return self.place.admission

    def __enter__(self) -> Admission:
        return self.place.admission

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Free the place before the context ends."""
        self._queue.leave(self.place)
        self._failure = None  # breaks a reference cycle through its traceback

    def defer(self, kind: Kind) -> None:
        """Give back the place, which calls of other processes hold, and wait for it again."""
        self._queue.defer(self.place, kind)
        self.is_waiting = True

    async def wait_for_turn(
        self, timers: Timers, drain: Drain, shared: SharedLimits | None, lifetime: AnswerLifetime | None
    ) -> None:
        """Wait for the call's turn; several tasks of one request may. The time of `lifetime` begins then.

        Raises LimitExceeded at the deadline of its place or where it is refused before, ApiError when the daemon
        drains.
        """
        self._lock = self._lock or asyncio.Lock()
        async with self._lock:
            if self._failure is not None:
                raise self._failure
            if not self.is_waiting:
                return
            place, queue = self.place, self._queue
            place.on_change = self._wake
            timers.set(self, place.deadline)
            drain.on_begin.add(self._wake)
            if lifetime is not None:
                lifetime.postpone(queue.seconds_left(place))
            try:
                while self.is_waiting:
                    self._changed = asyncio.get_running_loop().create_future()
                    while place.phase is Phase.WAITING and not (self._timed_out or drain.draining):
                        await self._changed
                    if drain.draining:
                        raise shutting_down()
                    if place.phase is not Phase.SERVED:
                        raise queue.expire(place)
                    self.is_waiting = shared is not None and not await self._claim(shared)
            except Exception as error:  # reraised here, and for the other tasks of this call
                self._failure = error
                raise
            finally:
                timers.cancel(self)
                drain.on_begin.discard(self._wake)
            queue.confirm(place)
            if lifetime is not None:
                lifetime.postpone(0.0)

    def on_timer(self) -> None:
        """The deadline of its place has passed."""
        self._timed_out = True
        self._wake()

    async def _claim(self, shared: SharedLimits) -> bool:
        """Claim the place in the limits of all processes; return False if none is free, and it must wait again."""
        place = self.place
        try:
            await shared.claim(place.key_id, rpm=place.rpm, concurrency=place.concurrency, streams=place.streams)
        except LimitExceeded as error:
            if error.kind == "rpm":
                raise
            self._queue.defer(place, error.kind)
            return False
        return True

    def _wake(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)
