"""Records ended requests: collects them in memory, and has one task write them in batches, in a thread."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Final, Generic, TypeVar

from bridge.activity.entry import Entry
from bridge.activity.files import Retention, append
from bridge.state.documents import StateFolder
from bridge.state.regular_file import NotReadable

T = TypeVar("T")

#: The interval between batches, in seconds: a crash loses at most the requests of this time.
BATCH_SECONDS: Final = 2.0
#: The most requests, and bytes of their lines, that wait while they cannot be written; then the oldest are lost.
MAX_WAITING: Final = 10_000
MAX_WAITING_BYTES: Final = 16 * 1024 * 1024
#: Requests without a key, which anybody can make, must not displace those of callers: this many are recorded in a
#: burst, and then one in this many seconds.
UNAUTHENTICATED_ENTRIES: Final = 20
UNAUTHENTICATED_SECONDS: Final = 60.0

_logger: Final = logging.getLogger(__name__)


class ActivityStore(Generic[T]):
    """Records what is passed to `add`. Owned by the app: `keep` runs as a task, `finish` is called last.

    `retention` says how much to keep on disk. `entry_of` converts what was passed into an entry, in a thread.
    """

    def __init__(
        self,
        folder: StateFolder,
        clock: Callable[[], float],
        retention: Callable[[], Retention],
        entry_of: Callable[[T], Entry],
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._retention = retention
        self._entry_of = entry_of
        self._new: deque[T] = deque(maxlen=MAX_WAITING)
        self._lines: list[bytes] = []
        self._failing = False
        self._lock = asyncio.Lock()
        self._tokens = float(UNAUTHENTICATED_ENTRIES)  # a token bucket, of requests without a key
        self._filled_at = clock()
        self._unkept = 0  # requests without a key, since the last one that was recorded
        #: Adds one ended request.
        self.add: Callable[[T], None] = self._new.append

    @property
    def waiting(self) -> int:
        """How many requests wait because they cannot be written; 0 if they only wait for the next batch."""
        return len(self._lines) if self._failing else 0

    async def keep(self) -> None:
        """Write batches, until cancelled."""
        while True:
            await asyncio.sleep(BATCH_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Write the requests since the last batch. A failure is logged once, and the lines are written later."""
        await asyncio.shield(self._flush())  # a cancelled caller must not leave a batch half written

    async def finish(self) -> None:
        """Write a last time; what cannot be written is lost."""
        await self.flush()
        if self._lines:
            _logger.error("the last %d requests could not be kept for Activity", len(self._lines))

    async def _flush(self) -> None:
        async with self._lock:
            if not self._new and not self._lines:
                return
            new = list(self._new)
            self._new.clear()
            await self._folder.threads.run(self._write, new)

    def _write(self, new: list[T]) -> None:
        """Write one batch. Blocking, for one thread at a time."""
        self._lines += [entry.to_line() for entry in self._kept(map(self._entry_of, new))]
        try:
            append(self._folder, self._lines, self._retention(), self._clock())
        except (OSError, NotReadable) as error:
            if not self._failing:
                _logger.error("requests cannot be kept for Activity and wait in memory: %s", error)
            self._failing = True
            self._forget_oldest()
        else:
            if self._failing:
                _logger.info("requests are kept for Activity again")
            self._failing = False

    def _forget_oldest(self) -> None:
        """Forget all but as many of the newest lines as may wait."""
        kept = size = 0
        for line in reversed(self._lines[-MAX_WAITING:]):
            size += len(line)
            if size > MAX_WAITING_BYTES:
                break
            kept += 1
        del self._lines[: len(self._lines) - kept]

    def _kept(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """The entries, but those without a key only within their limit, each with the number left out before."""
        for entry in entries:
            if entry.key:
                yield entry
                continue
            now = self._clock()
            refill = max(0.0, now - self._filled_at) / UNAUTHENTICATED_SECONDS
            self._tokens = min(UNAUTHENTICATED_ENTRIES, self._tokens + refill)
            self._filled_at = now
            if self._tokens < 1:
                self._unkept += 1
                continue
            self._tokens -= 1
            yield replace(entry, unkept=self._unkept)
            self._unkept = 0
