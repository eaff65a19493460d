"""A full garbage collection when memory has grown, and seldom otherwise: old cycles are not collected in any other way.

asyncio and aiohttp leave some: a closed connection is one, and so is a path that does not exist.
"""

from __future__ import annotations

import gc
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

#: How often memory is checked, in seconds; a collection with thousands of open streams is slow.
COLLECT_SECONDS: Final = 1.0
#: By how much it must have grown since the last collection: by half, and by 64 MiB at least.
_GROWN_BYTES: Final = 64 * 1024 * 1024
#: What a running answer may take, which is no garbage: going through thousands of them holds the loop for long.
_ANSWER_BYTES: Final = 96 * 1024
#: How long a daemon with at most so many running answers collects nothing, in seconds.
QUIET_SECONDS: Final = 600.0
QUIET_ANSWERS: Final = 50

_logger = logging.getLogger(__name__)


def resident_bytes() -> int:
    """The resident memory of this process, in bytes; 0 if it cannot be determined."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


class GarbageCollector:
    """Runs a full collection when memory has grown by more than running answers take, and now and then while few run.

    `resident` returns the memory in bytes, `running` the number of answers, `clock` seconds.
    """

    def __init__(
        self, resident: Callable[[], int], running: Callable[[], int], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._resident = resident
        self._running = running
        self._clock = clock
        self._settled = resident()
        self._collected_at = clock()

    async def __call__(self) -> None:
        """Check once."""
        before, running = self._resident(), self._running()
        may_grow = max(_GROWN_BYTES, self._settled // 2) + running * _ANSWER_BYTES
        if before > self._settled + may_grow or (self._is_due() and running <= QUIET_ANSWERS):
            began = self._clock()
            found = gc.collect()
            self._settled, self._collected_at = self._resident(), self._clock()
            _logger.debug("collected %d objects in %.0f ms", found, 1000 * (self._collected_at - began))
        else:
            self._settled = min(self._settled, before)

    def _is_due(self) -> bool:
        return self._clock() - self._collected_at >= QUIET_SECONDS
