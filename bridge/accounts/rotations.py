"""Serializes the calls of accounts whose cookie the site replaces with every answer.

Each such answer invalidates the cookie with which all concurrent calls were sent. After an occasional replacement those
calls are repeated; if one call is overtaken twice, the account's calls are sent one at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from typing import Final

#: After this many seconds without another replacement, calls are sent concurrently again.
CALM_SECONDS: Final = 30.0


class Rotations:
    """Tracks the accounts whose calls are serialized, by user id; `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._serialized: dict[str, _Serialized] = {}

    def overtaken(self, user_id: str) -> None:
        """Record that a call was refused twice because answers to other calls had replaced the cookie."""
        self._serialized.setdefault(user_id, _Serialized(self._clock()))

    def rotated(self, user_id: str) -> None:
        """Record that an answer has replaced the account's cookie."""
        if (calls := self._serialized.get(user_id)) is not None:
            calls.rotated_at = self._clock()

    def turn(self, user_id: str, max_wait: float) -> AbstractAsyncContextManager[None]:
        """A context for sending a call, entered at the call's turn or after `max_wait` seconds at the latest."""
        calls = self._serialized.get(user_id)
        if calls is None:
            return nullcontext()
        if self._clock() - calls.rotated_at > CALM_SECONDS:
            del self._serialized[user_id]
            return nullcontext()
        return calls.turn(max_wait)


class _Serialized:
    def __init__(self, rotated_at: float) -> None:
        self.rotated_at = rotated_at
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def turn(self, max_wait: float) -> AsyncIterator[None]:
        acquired = False
        with suppress(TimeoutError):
            async with asyncio.timeout(max_wait):
                acquired = await self._lock.acquire()
        try:
            yield
        finally:
            if acquired:
                self._lock.release()
