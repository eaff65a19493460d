"""How many connections each worker has, in memory that all of them share.

All workers accept from the same queues. When many connections come at once, the worker that runs first would take most
of them, and streams last long. So a worker that has more than another leaves new ones to it for a moment
(`handlers/daemon/accepting.py`).
"""

from __future__ import annotations

import mmap
import os
from typing import Final

#: By how many connections a worker may be ahead of the one with fewest.
MARGIN: Final = 2
#: In place of the number for a worker that accepts no connections.
_NONE: Final = 2**31 - 1
_BYTES: Final = 4  # of a number


class ConnectionCounts:
    """One number for each worker, written by that worker only while it lives; those read may be a moment old."""

    def __init__(self, descriptor: int) -> None:
        """Map the memory of `create`, and close its descriptor."""
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            self._numbers = memoryview(mmap.mmap(file.fileno(), 0)).cast("i")

    @staticmethod
    def create(workers: int) -> int:
        """Create the memory for this number of workers, all of them cleared; return its descriptor."""
        descriptor = os.memfd_create("lmarena-bridge")
        os.write(descriptor, _NONE.to_bytes(_BYTES, "little") * workers)
        return descriptor

    def set(self, worker: int, connections: int) -> None:
        """Set the number of a worker's connections. Workers are numbered from 1."""
        self._numbers[worker - 1] = connections

    def clear(self, worker: int) -> None:
        """Mark a worker as accepting no connections, since it has ended."""
        self._numbers[worker - 1] = _NONE

    def is_ahead(self, worker: int) -> bool:
        """Whether a worker has at least MARGIN + 1 connections more than another."""
        return self._numbers[worker - 1] > min(self._numbers) + MARGIN
