"""Measures how much memory asyncio allocates for TLS connections."""

from __future__ import annotations

import tracemalloc
from asyncio import sslproto
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from upstream.http.tls_buffers import BUFFER_BYTES

#: The limit for one end of a connection, in bytes: twice its read buffer. By default asyncio would use 256 KiB.
END_BYTES = 2 * BUFFER_BYTES


@contextmanager
def tls_memory() -> Iterator[Callable[[], int]]:
    """Yield a function that returns the bytes allocated for TLS since the start, at all ends within this process."""

    def allocated() -> int:
        snapshot = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, sslproto.__file__)])
        return sum(trace.size for trace in snapshot.traces)

    tracemalloc.start()
    try:
        yield allocated
    finally:
        tracemalloc.stop()
