"""How much memory asyncio allocates for TLS connections."""

from __future__ import annotations

import tracemalloc
from asyncio import sslproto
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from upstream.http.tls_buffers import BUFFER_BYTES

#: The most memory of one end of a connection, in bytes: twice its read buffer. asyncio itself would take 256 KiB.
END_BYTES = 2 * BUFFER_BYTES


@contextmanager
def tls_memory() -> Iterator[Callable[[], int]]:
    """Count what is allocated for TLS from now on, in bytes: at both ends, where both are in this process."""

    def allocated() -> int:
        snapshot = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, sslproto.__file__)])
        return sum(trace.size for trace in snapshot.traces)

    tracemalloc.start()
    try:
        yield allocated
    finally:
        tracemalloc.stop()
