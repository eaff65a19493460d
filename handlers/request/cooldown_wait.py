"""Waiting for an account on cooldown: a thin task around the decisions of `bridge.accounts.cooldown_queue`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final, TypeVar

from bridge.accounts.cooldown_queue import CooldownQueue, Phase, Waiter
from bridge.errors import ApiError, from_upstream
from handlers.request.drain import AnswerLifetime, Drain, shutting_down
from handlers.request.queued_call import QueuedCall
from upstream.accounts import DEFAULT_COOLDOWN_SECONDS, AccountPool
from upstream.loop.timers import Timers
from upstream.protocol.errors import AllOnCooldown

T = TypeVar("T")

#: How much longer than announced a cooldown is waited for: the pool of accounts goes by another clock.
CLOCKS_SECONDS: Final = 0.05


class Lane:
    """Lets the requests that wait for a modality go when the cooldown is over."""

    def __init__(self, queue: CooldownQueue, modality: str, timers: Timers) -> None:
        self._queue = queue
        self._modality = modality
        self._timers = timers

    def wake(self) -> None:
        """Be called when the cooldown is over."""
        self._timers.set(self, monotonic() + self._queue.seconds_left(self._modality))

    def on_timer(self) -> None:
        """The cooldown is over, unless it has become longer meanwhile."""
        self._queue.serve(self._modality)
        if self._queue.seconds_left(self._modality):
            self.wake()


class CooldownWait:
    """Has requests wait while all accounts are on cooldown."""

    def __init__(self, timers: Timers, drain: Drain, pool: AccountPool) -> None:
        self.queue = CooldownQueue(monotonic)
        self._timers = timers
        self._drain = drain
        self._pool = pool
        self._lanes: dict[str, Lane] = {}

    async def ask(
        self,
        call: Callable[[], Awaitable[T]],
        modality: str,
        key_id: str,
        queued: QueuedCall,
        lifetime: AnswerLifetime | None,
    ) -> T:
        """Make the call, and again after a cooldown that ends before the request's deadline.

        Nobody is overtaken who waits already. Raises ApiError: at once where the cooldown is too long.
        """
        queue, deadline = self.queue, queued.place.deadline
        if queue.is_waited_for(modality) and self._pool.usable(modality):
            queue.is_over(modality)
        if not queue.is_waited_for(modality) or monotonic() + queue.seconds_left(modality) > deadline:
            try:
                return await call()
            except ApiError as error:
                if self._note(modality, error, deadline) is None:
                    raise
        waiter = queued.waiter = queue.enter(modality, key_id)
        turn = _Turn(waiter)
        if lifetime is not None:
            lifetime.postpone(max(0.0, deadline - monotonic()))
        self._timers.set(turn, deadline)
        self._drain.on_begin.add(turn.wake)
        answered = False
        try:
            while True:
                self._lane(modality).wake()
                await turn.goes(self._drain)
                if waiter.phase is Phase.WAITING:
                    raise _all_on_cooldown(queue.seconds_left(modality))
                try:
                    answer = await call()
                except ApiError as error:
                    seconds = self._note(modality, error, deadline)
                    if seconds is None:
                        raise
                    queue.limited(waiter, seconds)
                else:
                    answered = True
                    return answer
        finally:
            self._timers.cancel(turn)
            self._drain.on_begin.discard(turn.wake)
            queued.waiter = None
            queue.over(waiter, answered=answered)
            if lifetime is not None:
                lifetime.postpone(0.0)

    def _note(self, modality: str, error: ApiError, deadline: float) -> float | None:
        """Note a cooldown, and return its seconds; None if it is another error, or the cooldown is too long."""
        if error.code != "upstream_rate_limited":
            return None
        seconds = DEFAULT_COOLDOWN_SECONDS if error.retry_after is None else error.retry_after
        if monotonic() + seconds > deadline:
            return None
        seconds += CLOCKS_SECONDS
        self.queue.cool_down(modality, seconds)
        return seconds

    def _lane(self, modality: str) -> Lane:
        if (lane := self._lanes.get(modality)) is None:
            lane = self._lanes[modality] = Lane(self.queue, modality, self._timers)
        return lane


class _Turn:
    """Wakes the task of one request that waits."""

    def __init__(self, waiter: Waiter) -> None:
        self._waiter = waiter
        self._changed: asyncio.Future[None] | None = None
        self._timed_out = False
        waiter.on_go = self.wake

    async def goes(self, drain: Drain) -> None:
        """Wait until the request may try, or has waited for as long as it may. Raises ApiError."""
        while self._waiter.phase is Phase.WAITING and not self._timed_out:
            if drain.draining:
                raise shutting_down()
            self._changed = asyncio.get_running_loop().create_future()
            await self._changed

    def on_timer(self) -> None:
        """It has waited for as long as it may."""
        self._timed_out = True
        self.wake()

    def wake(self) -> None:
        """Look again."""
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)


def _all_on_cooldown(seconds: float) -> ApiError:
    message = "All accounts are on cooldown until LMArena's rate limit is over."
    return from_upstream(AllOnCooldown(message, retry_after=max(1.0, seconds), status=None))
