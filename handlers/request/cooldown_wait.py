"""Waiting while all accounts are on cooldown: the tasks and timers around `bridge.accounts.cooldown_queue`."""

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

#: How much longer than announced a cooldown is waited for, in seconds: the pool of accounts uses another clock.
_CLOCK_MARGIN_SECONDS: Final = 0.05


class _CooldownTimer:
    """Serves the requests that wait for a modality when its cooldown is over."""

    def __init__(self, queue: CooldownQueue, modality: str, timers: Timers) -> None:
        self._queue = queue
        self._modality = modality
        self._timers = timers

    def start(self) -> None:
        """Set the timer to the end of the cooldown."""
        self._timers.set(self, monotonic() + self._queue.seconds_left(self._modality))

    def on_timer(self) -> None:
        """Serve the queue, and start again if the cooldown has become longer meanwhile."""
        self._queue.serve(self._modality)
        if self._queue.seconds_left(self._modality):
            self.start()


class CooldownWait:
    """Makes calls, and has them wait while all accounts are on cooldown."""

    def __init__(self, timers: Timers, drain: Drain, pool: AccountPool) -> None:
        self.queue = CooldownQueue(monotonic)
        self._timers = timers
        self._drain = drain
        self._pool = pool
        self._cooldown_timers: dict[str, _CooldownTimer] = {}  # by modality

    async def run(
        self,
        call: Callable[[], Awaitable[T]],
        modality: str,
        key_id: str,
        queued: QueuedCall,
        lifetime: AnswerLifetime | None,
    ) -> T:
        """Make the call; after a refusal, repeat it once the cooldown is over, until the request's deadline.

        It does not overtake requests that wait already. Raises ApiError, at once if the cooldown ends after the
        deadline.
        """
        queue, deadline = self.queue, queued.call.deadline
        if queue.has_waiting(modality) and self._pool.usable(modality):
            queue.end_cooldown(modality)
        if not queue.has_waiting(modality) or monotonic() + queue.seconds_left(modality) > deadline:
            try:
                return await call()
            except ApiError as error:
                if self._note_cooldown(modality, error, deadline) is None:
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
                self._cooldown_timer(modality).start()
                await turn.wait(self._drain)
                if waiter.phase is Phase.WAITING:
                    raise _all_on_cooldown(queue.seconds_left(modality))
                try:
                    answer = await call()
                except ApiError as error:
                    seconds = self._note_cooldown(modality, error, deadline)
                    if seconds is None:
                        raise
                    queue.rate_limited(waiter, seconds)
                else:
                    answered = True
                    return answer
        finally:
            self._timers.cancel(turn)
            self._drain.on_begin.discard(turn.wake)
            queued.waiter = None
            queue.leave(waiter, answered=answered)
            if lifetime is not None:
                lifetime.postpone(0.0)

    def _note_cooldown(self, modality: str, error: ApiError, deadline: float) -> float | None:
        """Note the cooldown that an error announces; return its seconds, None for other errors or if it is too long."""
        if error.code != "upstream_rate_limited":
            return None
        seconds = DEFAULT_COOLDOWN_SECONDS if error.retry_after is None else error.retry_after
        if monotonic() + seconds > deadline:
            return None
        seconds += _CLOCK_MARGIN_SECONDS
        self.queue.cool_down(modality, seconds)
        return seconds

    def _cooldown_timer(self, modality: str) -> _CooldownTimer:
        if (timer := self._cooldown_timers.get(modality)) is None:
            timer = self._cooldown_timers[modality] = _CooldownTimer(self.queue, modality, self._timers)
        return timer


class _Turn:
    """Wakes the task of a waiting request when it may try, at its deadline, and when the daemon drains."""

    def __init__(self, waiter: Waiter) -> None:
        self._waiter = waiter
        self._changed: asyncio.Future[None] | None = None
        self._timed_out = False
        waiter.on_turn = self.wake

    async def wait(self, drain: Drain) -> None:
        """Wait until the request may try, or until its deadline. Raises ApiError when the daemon drains."""
        while self._waiter.phase is Phase.WAITING and not self._timed_out:
            if drain.draining:
                raise shutting_down()
            self._changed = asyncio.get_running_loop().create_future()
            await self._changed

    def on_timer(self) -> None:
        """The request's deadline has passed."""
        self._timed_out = True
        self.wake()

    def wake(self) -> None:
        """Have `wait` check its conditions again."""
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)


def _all_on_cooldown(seconds: float) -> ApiError:
    message = "All accounts are on cooldown until LMArena's rate limit is over."
    return from_upstream(AllOnCooldown(message, retry_after=max(1.0, seconds), status=None))
