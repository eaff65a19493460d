"""A full garbage collection when memory has grown, since with high thresholds old cycles are not collected."""

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

_logger = logging.getLogger(__name__)


def resident_bytes() -> int:
    """The resident memory of this process, in bytes; 0 if it cannot be determined."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


class GarbageCollector:
    """Runs a full collection when memory has grown; `resident` returns it in bytes."""

    def __init__(self, resident: Callable[[], int]) -> None:
        self._resident = resident
        self._settled = resident()

    async def __call__(self) -> None:
        """Check once."""
        before = self._resident()
        if before > self._settled + max(_GROWN_BYTES, self._settled // 2):
            began = time.monotonic()
            found = gc.collect()
            self._settled = self._resident()
            _logger.debug("collected %d objects in %.0f ms", found, 1000 * (time.monotonic() - began))
        else:
            self._settled = min(self._settled, before)
