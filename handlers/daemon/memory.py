"""What the process does so that memory that it no longer uses is free: large blocks, and garbage in cycles.

Full garbage collections run when memory has grown, and now and then otherwise: nothing else collects old cycles.
asyncio and aiohttp leave such reference cycles: each closed connection, and each request for an unknown path.
"""

from __future__ import annotations

import gc
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

#: How often memory is checked, in seconds.
COLLECT_SECONDS: Final = 1.0
#: The least growth since the last collection that causes another; it must also have grown by half.
_GROWN_BYTES: Final = 64 * 1024 * 1024
#: Growth that each running answer explains: it is not garbage, and visiting thousands of them blocks the loop for long.
_ANSWER_BYTES: Final = 96 * 1024
#: A daemon with at most so many running answers collects at least this often, in seconds.
QUIET_SECONDS: Final = 600.0
QUIET_ANSWERS: Final = 50

#: Blocks of at least this size, such as bodies with pictures, are returned to the system as soon as they are freed.
LARGE_BLOCK_BYTES: Final = 1024 * 1024
#: Smaller blocks are kept for reuse up to this size: with 4 MiB, a request with a long history takes 15 % more CPU time
#: (bench/DECISIONS.md), since the heap grows and shrinks with each.
_KEPT_BYTES: Final = 16 * 1024 * 1024
#: Parameters of glibc's `mallopt`.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3

_logger = logging.getLogger(__name__)


def resident_bytes() -> int:
    """The resident memory of this process, in bytes; 0 if it cannot be determined."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def return_large_blocks() -> None:
    """Let glibc return large blocks to the system. Other C libraries are left as they are.

    By default glibc raises the limit to 32 MiB once a block of that size is freed, and keeps freed blocks below it in a
    heap for each thread: a few large bodies at the same time would leave hundreds of MiB.
    """
    try:
        import ctypes  # deferred, since only a daemon needs it
    except (
        ImportError,
        MemoryError,
    ):  # some builds of it need executable memory, which may be forbidden
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


class GarbageCollector:
    """Runs a full collection when memory has grown more than running answers explain, and now and then while few run.

    `resident` returns the memory in bytes, `running` the number of answers, `clock` the time in seconds.
    """

    def __init__(
        self, resident: Callable[[], int], running: Callable[[], int], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._resident = resident
        self._running = running
        self._clock = clock
        self._baseline = resident()
        self._collected_at = clock()

    async def __call__(self) -> None:
        """Check memory, and collect if necessary."""
        before, running = self._resident(), self._running()
        may_grow = max(_GROWN_BYTES, self._baseline // 2) + running * _ANSWER_BYTES
        if before > self._baseline + may_grow or (self._is_due() and running <= QUIET_ANSWERS):
            began = self._clock()
            found = gc.collect()
            self._baseline, self._collected_at = self._resident(), self._clock()
            _logger.debug("collected %d objects in %.0f ms", found, 1000 * (self._collected_at - began))
        else:
            self._baseline = min(self._baseline, before)

    def _is_due(self) -> bool:
        return self._clock() - self._collected_at >= QUIET_SECONDS
