"""One request's wait for its place in the queue: a thin task around the decisions of `bridge.access.waiting`."""

from __future__ import annotations

import asyncio

from bridge.access.limits import Admission, LimitExceeded, SharedLimits
from bridge.access.waiting import CallQueue, Kind, Phase, Place
from bridge.accounts.cooldown_queue import Waiter
from handlers.request.drain import AnswerLifetime, Drain, shutting_down
from upstream.loop.timers import Timers


class QueuedCall:
    """A call's place, as a context that frees it. The call `waits` from its arrival until it has its turn."""

    __slots__ = ("_changed", "_in_vain", "_lock", "_queue", "_timed_out", "place", "waiter", "waits")

    def __init__(self, queue: CallQueue, place: Place) -> None:
        self._queue = queue
        self._lock: asyncio.Lock | None = None
        self._changed: asyncio.Future[None] | None = None
        self._in_vain: Exception | None = None
        self._timed_out = False
        self.place = place
        #: Its wait for an account, while all rest.
        self.waiter: Waiter | None = None
        self.waits = place.phase is Phase.WAITING

    @property
    def admission(self) -> Admission:
        """What is left of the key's requests per minute."""
        return self.place.admission

    def __enter__(self) -> Admission:
        return self.place.admission

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Free it before the block ends."""
        self._queue.leave(self.place)
        self._in_vain = None  # whose traceback leads back to this

    def defer(self, kind: Kind) -> None:
        """Other processes hold the place that was taken here: wait for it."""
        self._queue.defer(self.place, kind)
        self.waits = True

    async def turn(
        self, timers: Timers, drain: Drain, shared: SharedLimits | None, lifetime: AnswerLifetime | None
    ) -> None:
        """Wait for the call's turn; several tasks of one request may. `lifetime` begins with the turn.

        Raises LimitExceeded once it has waited for as long as it may, and ApiError when the daemon drains.
        """
        self._lock = self._lock or asyncio.Lock()
        async with self._lock:
            if self._in_vain is not None:
                raise self._in_vain
            if not self.waits:
                return
            place, queue = self.place, self._queue
            place.on_change = self._wake
            timers.set(self, place.deadline)
            drain.on_begin.add(self._wake)
            if lifetime is not None:
                lifetime.postpone(queue.seconds_left(place))
            try:
                while self.waits:
                    self._changed = asyncio.get_running_loop().create_future()
                    while place.phase is Phase.WAITING and not (self._timed_out or drain.draining):
                        await self._changed
                    if drain.draining:
                        raise shutting_down()
                    if place.phase is not Phase.SERVED:
                        raise queue.expire(place)
                    self.waits = shared is not None and not await self._agreed(shared)
            except Exception as error:  # reraised, here and for the other answers of this call
                self._in_vain = error
                raise
            finally:
                timers.cancel(self)
                drain.on_begin.discard(self._wake)
            queue.confirm(place)
            if lifetime is not None:
                lifetime.postpone(0.0)

    def on_timer(self) -> None:
        """It has waited for as long as it may."""
        self._timed_out = True
        self._wake()

    async def _agreed(self, shared: SharedLimits) -> bool:
        """Ask the other processes for the place; False where they have none, and it is waited for again."""
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
