"""`stats.json`: the statistics, written every few seconds by one task, and read back for the dashboard.

The file may have several megabytes, so the event loop only copies the counters; threads write and read the file.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from bridge.state.documents import Document, StateFolder
from bridge.state.errors import StateError, StateGone
from bridge.state.formats import DocumentFormat
from bridge.statistics.stats import Stats

#: The interval between saves, in seconds: a crash loses at most the counts of this time.
FLUSH_SECONDS: Final = 5.0

_logger = logging.getLogger(__name__)


def stats_format(clock: Callable[[], float]) -> DocumentFormat[Stats]:
    """The format of `stats.json`; `clock` is for the statistics that are read from it."""
    parse = partial(Stats.from_json, clock=clock)
    return DocumentFormat("stats", 1, parse, Stats.to_json, Stats(clock), precious=False)


def stats_document(folder: StateFolder, clock: Callable[[], float]) -> Document[Stats]:
    """`stats.json` of a state folder."""
    return folder.open(stats_format(clock))


class StatsStore(Protocol):
    """The statistics of a running daemon and their place: a file, or Redis (`bridge.shared.statistics`)."""

    stats: Stats

    async def load(self) -> None:
        """Load the counts of earlier runs. Raises StateError."""

    async def keep(self) -> None:
        """Save every few seconds, until cancelled."""

    async def flush(self) -> None:
        """Save if anything was counted since the last save."""

    async def finish(self) -> None:
        """Save a last time; what cannot be written is lost."""

    async def read(self) -> Stats:
        """The statistics of all processes, up to a few seconds old; read-only. Raises StateError."""


class StatsFile:
    """The statistics of a running daemon and their file. Owned by the app: `load` first, then `keep` as a task.

    `load` replaces `stats`, in which requests are counted.
    """

    def __init__(
        self, folder: StateFolder, clock: Callable[[], float], *, flush_seconds: float = FLUSH_SECONDS
    ) -> None:
        self._document = stats_document(folder, clock)
        self._reading = stats_document(
            folder, clock
        )  # a separate instance, to which saves of `_document` look like changes
        self._read: Stats | None = None
        self._flush_seconds = flush_seconds
        self._saved_revision = 0
        self._failing = False
        self.stats = Stats(clock)

    async def load(self) -> None:
        """Load the counts of earlier runs. Raises StateError if the file cannot be read."""
        self.stats = await self._document.load()

    async def keep(self) -> None:
        """Save every few seconds, until cancelled."""
        while True:
            await asyncio.sleep(self._flush_seconds)
            await self.flush()

    async def flush(self) -> None:
        """Save if anything was counted since the last save. Repeated failures are logged once."""
        revision = self.stats.revision
        if revision == self._saved_revision:
            return
        try:
            await self._document.save(self.stats)
        except StateError as error:
            if not self._failing:
                _logger.error("statistics could not be saved and are kept in memory: %s", error)
            self._failing = True
        else:
            if self._failing:
                _logger.info("statistics are saved again")
            self._failing = False
            self._saved_revision = revision

    async def finish(self) -> None:
        """Save a last time; what cannot be written is lost."""
        await self.flush()
        if self._failing:
            _logger.error("statistics could not be saved at shutdown: counts since the last save are lost")

    async def read(self) -> Stats:
        """The statistics from the file, up to a few seconds old; read-only. Raises StateError."""
        if self._read is None or await self._reading.changed():
            try:
                self._read = await self._reading.load()
            except StateGone:  # the next flush writes the file again
                if self._read is None:
                    raise
        return self._read
