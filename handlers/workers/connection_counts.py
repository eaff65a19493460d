"""How many connections each worker has, in memory that all of them share.

All workers accept from the same queues. When many connections come at once, whoever runs first would take most of them,
and streams last long; so a worker that is ahead of another leaves new ones to that for a moment (`accepting.py`).
"""

from __future__ import annotations

import mmap
import os
from typing import Final

#: By how many connections a worker may be ahead of the one with fewest.
MARGIN: Final = 2
#: What stands for a worker that accepts none.
_NONE: Final = 2**31 - 1
_BYTES: Final = 4  # of a number


class ConnectionCounts:
    """One number for each worker, which only that worker writes while it lives. They may be a moment old."""

    def __init__(self, descriptor: int) -> None:
        """Map the memory of `create`, and close its descriptor."""
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            self._numbers = memoryview(mmap.mmap(file.fileno(), 0)).cast("i")

    @staticmethod
    def create(workers: int) -> int:
        """The descriptor of memory for this number of workers, none of which accepts connections yet."""
        descriptor = os.memfd_create("lmarena-bridge")
        os.write(descriptor, _NONE.to_bytes(_BYTES, "little") * workers)
        return descriptor

    def write(self, worker: int, connections: int) -> None:
        """Note the number of a worker's connections; workers count from 1."""
        self._numbers[worker - 1] = connections

    def leave(self, worker: int) -> None:
        """Note that a worker accepts none, since it has ended."""
        self._numbers[worker - 1] = _NONE

    def is_ahead(self, worker: int) -> bool:
        """Whether a worker has more connections than another by more than MARGIN."""
        return self._numbers[worker - 1] > min(self._numbers) + MARGIN
