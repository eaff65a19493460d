"""`stats.json`: what was counted, written every few seconds by one task, and read back as the file holds it.

The file may have some megabytes, so a save only copies the counters in the loop, and a thread writes them; a thread
reads them too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from bridge.state.documents import Document, StateError, StateFolder, StateGone
from bridge.statistics.stats import Stats

#: What a kill may lose: the time between two writings, in seconds.
FLUSH_SECONDS: Final = 5.0

_logger = logging.getLogger(__name__)


def stats_document(folder: StateFolder, clock: Callable[[], float]) -> Document[Stats]:
    """`stats.json`; what is read from it goes on with `clock`."""
    return Document(
        folder,
        "stats",
        version=1,
        parse=lambda value: Stats.from_json(value, clock),
        dump=Stats.to_json,
        empty=Stats(clock),
        precious=False,
    )


class StatsFile:
    """The statistics of a running daemon and their file. Owned by the app: `load` first, then `keep` as a task.

    `stats` is what requests are counted in; take it after `load`.
    """

    def __init__(
        self, folder: StateFolder, clock: Callable[[], float], *, flush_seconds: float = FLUSH_SECONDS
    ) -> None:
        self._document = stats_document(folder, clock)
        self._reading = stats_document(folder, clock)  # of its own, so that it sees our writing as a change
        self._read: Stats | None = None
        self._flush_seconds = flush_seconds
        self._flushed = 0
        self._failing = False
        self.stats = Stats(clock)

    async def load(self) -> None:
        """Go on with what the last run has counted. Raises StateError if the file cannot be read."""
        self.stats = await self._document.load()

    async def keep(self) -> None:
        """Write what was counted, every few seconds, for ever."""
        while True:
            await asyncio.sleep(self._flush_seconds)
            await self.flush()

    async def flush(self) -> None:
        """Write what was counted since the last time, if anything. Until it succeeds, a failure is logged once."""
        revision = self.stats.revision
        if revision == self._flushed:
            return
        try:
            await self._document.save(self.stats)
        except StateError as error:
            if not self._failing:
                _logger.error("statistics are not saved, and go on in memory: %s", error)
            self._failing = True
        else:
            if self._failing:
                _logger.info("statistics are saved again")
            self._failing = False
            self._flushed = revision

    async def finish(self) -> None:
        """Write what was counted, for the last time: what cannot be written is lost."""
        await self.flush()
        if self._failing:
            _logger.error("statistics are not saved at the end: what was counted since the last time is lost")

    async def read(self) -> Stats:
        """The statistics as the file holds them, up to a few seconds old, not to be changed. Raises StateError."""
        if self._read is None or await self._reading.changed():
            try:
                self._read = await self._reading.load()
            except StateGone:  # for a moment, or until the next flush
                if self._read is None:
                    raise
        return self._read
