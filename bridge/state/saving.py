"""Writes to disk what changes in memory: at once, again while the disk refuses, and once more at the end.

changed            saved
───────▶ unsaved ────────▶ saved
           │  ▲
           └──┘ refused: after a pause that doubles
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from bridge.state.documents import StateError
from bridge.tasks import TaskOwner

#: The first and the longest pause before what could not be saved is tried again, in seconds; it doubles in between.
FIRST_PAUSE_SECONDS: Final = 0.25
LONGEST_PAUSE_SECONDS: Final = 10.0
#: How long the last try may take, in seconds: longer than a lock is waited for, shorter than a service manager waits.
LAST_TRY_SECONDS: Final = 15.0

_logger = logging.getLogger(__name__)


class Saving:
    """What is to be written of one subject. `what` names it in the log; `write` does it, and raises StateError.

    A failure is logged when it begins and when its words change, and its end is logged too.
    """

    def __init__(self, what: str, write: Callable[[], Awaitable[None]]) -> None:
        self._what = what
        self._write = write
        self._changed = asyncio.Event()
        self._turn = asyncio.Lock()
        #: Why it could not be saved, the last time; None where it could.
        self.failure: StateError | None = None

    def changed(self) -> None:
        """There is something to write."""
        self._changed.set()

    @property
    def due(self) -> bool:
        """Whether there is something that is not written, or not wholly."""
        return self._changed.is_set() or self._turn.locked()

    async def keep(self) -> None:
        """Write what changes, until cancelled."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            await self._changed.wait()
            await self.flush()
            if self.failure is None:
                pause = FIRST_PAUSE_SECONDS
            else:
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def flush(self) -> None:
        """Write what is not yet on disk. A failure is logged, and `keep` tries again."""
        # To the end, whatever becomes of the caller: it is noted whether it went well.
        await asyncio.shield(self._flush())

    async def finish(self) -> bool:
        """Try a last time; return whether all is on disk. It is for the caller to say what is lost."""
        try:
            async with asyncio.timeout(LAST_TRY_SECONDS):
                await self.flush()
        except TimeoutError:
            self.failure = self.failure or StateError(f"the disk did not answer within {LAST_TRY_SECONDS:g} s")
        return not self.due

    async def _flush(self) -> None:
        async with self._turn:
            if not self._changed.is_set():
                return
            self._changed.clear()
            try:
                await self._write()
            except StateError as error:
                self._changed.set()
                if self.failure is None or str(error) != str(self.failure):
                    _logger.error("%s not saved, tried again until it succeeds: %s", self._what, error)
                self.failure = error
            except BaseException:  # cancelled too: what is not written stays marked as changed
                self._changed.set()
                raise
            else:
                if self.failure is not None:
                    _logger.info("%s saved again", self._what)
                self.failure = None


@asynccontextmanager
async def saving(what: str, write: Callable[[], Awaitable[None]], loss: str) -> AsyncIterator[Saving]:
    """Keep something saved while the context lasts. `loss` says what it means if that is in vain at the end, too."""
    kept = Saving(what, write)
    async with TaskOwner() as tasks:
        tasks.spawn(kept.keep(), name=f"save {what}")
        yield kept
    if not await kept.finish():
        _logger.error("%s not saved (%s): %s", what, kept.failure, loss)
