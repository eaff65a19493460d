"""Write-behind: values in memory are saved as soon as they change, with retries, and flushed at shutdown.

changed            saved
───────▶ unsaved ────────▶ saved
           │  ▲
           └──┘ failed: retry with exponential backoff
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from bridge.state.errors import StateError
from bridge.tasks import TaskOwner

#: The first and the longest delay before a failed save is retried, in seconds; it doubles in between.
FIRST_DELAY_SECONDS: Final = 0.25
LONGEST_DELAY_SECONDS: Final = 10.0
#: How long the save at shutdown may take, in seconds: longer than the lock's timeout, shorter than systemd's.
LAST_TRY_SECONDS: Final = 15.0

_logger = logging.getLogger(__name__)


class Saver:
    """Saves a value whenever it is marked as changed. `write` saves it and may raise StateError.

    `what` names the value in the log, with its verb ("accounts are"). A failure is logged when it begins and when its
    message changes; so is the first success after it.
    """

    def __init__(self, what: str, write: Callable[[], Awaitable[None]]) -> None:
        self._what = what
        self._write = write
        self._changed = asyncio.Event()
        self._lock = asyncio.Lock()
        #: Why the last save failed; None if it succeeded.
        self.failure: StateError | None = None

    def mark_changed(self) -> None:
        """Have the value saved soon."""
        self._changed.set()

    @property
    def is_pending(self) -> bool:
        """Whether there are changes that have not been saved, or are being saved."""
        return self._changed.is_set() or self._lock.locked()

    async def keep(self) -> None:
        """Save changes as they happen, until cancelled."""
        delay = FIRST_DELAY_SECONDS
        while True:
            await self._changed.wait()
            await self.flush()
            if self.failure is None:
                delay = FIRST_DELAY_SECONDS
            else:
                await asyncio.sleep(delay)
                delay = min(delay * 2, LONGEST_DELAY_SECONDS)

    async def flush(self) -> None:
        """Save pending changes now. A failure is logged, and `keep` retries."""
        if self.is_pending:
            # Shielded: the outcome must be recorded even if the caller is cancelled.
            await asyncio.shield(self._flush())

    async def finish(self) -> bool:
        """Save pending changes a last time; return whether that succeeded. The caller reports what is lost."""
        try:
            async with asyncio.timeout(LAST_TRY_SECONDS):
                await self.flush()
        except TimeoutError:
            self.failure = self.failure or StateError(f"the disk did not answer within {LAST_TRY_SECONDS:g} s")
        return not self.is_pending

    async def _flush(self) -> None:
        async with self._lock:
            if not self._changed.is_set():
                return
            self._changed.clear()
            try:
                await self._write()
            except StateError as error:
                self._changed.set()
                if self.failure is None or str(error) != str(self.failure):
                    _logger.error("%s not saved; retrying until it succeeds: %s", self._what, error)
                self.failure = error.with_traceback(
                    None
                )  # breaks a reference cycle: the traceback refers to this object
            except BaseException:  # reraised; what a cancelled save has not written must stay marked
                self._changed.set()
                raise
            else:
                if self.failure is not None:
                    _logger.info("%s saved again", self._what)
                self.failure = None


@asynccontextmanager
async def saving(what: str, write: Callable[[], Awaitable[None]], loss: str) -> AsyncIterator[Saver]:
    """Save changes while the context lasts, and at its end. `loss` tells the log what a failure at the end means."""
    saver = Saver(what, write)
    async with TaskOwner() as tasks:
        tasks.spawn(saver.keep(), name=f"save {what}")
        yield saver
    if not await saver.finish():
        _logger.error("%s not saved (%s): %s", what, saver.failure, loss)
