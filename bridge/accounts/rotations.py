"""Accounts whose cookie the site replaces with answer after answer: calls with them are sent one at a time.

Each such answer makes the cookie worthless with which all other calls were sent. One replacement now and then costs
those calls a repetition each; if it happens to a call twice, sending side by side does not work any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

#: After so many seconds without another replacement, calls are sent side by side again.
CALM_SECONDS: Final = 30.0


class Rotations:
    """Which accounts (by user id) that concerns; `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._turns: dict[str, _Turns] = {}

    def overtaken(self, user_id: str) -> None:
        """A call was refused, and refused again, because answers to others had replaced the cookie."""
        self._turns.setdefault(user_id, _Turns(self._clock()))

    def rotated(self, user_id: str) -> None:
        """An answer has replaced the account's cookie."""
        if (turns := self._turns.get(user_id)) is not None:
            turns.rotated_at = self._clock()

    @asynccontextmanager
    async def turn(self, user_id: str, patience: float) -> AsyncIterator[None]:
        """Send a call within: when it is its turn, but after `patience` seconds in any case."""
        turns = self._turns.get(user_id)
        if turns is not None and self._clock() - turns.rotated_at > CALM_SECONDS:
            del self._turns[user_id]
            turns = None
        if turns is None:
            yield
            return
        try:
            async with asyncio.timeout(patience):
                await turns.lock.acquire()
        except TimeoutError:
            yield
            return
        try:
            yield
        finally:
            turns.lock.release()


class _Turns:
    def __init__(self, rotated_at: float) -> None:
        self.rotated_at = rotated_at
        self.lock = asyncio.Lock()
