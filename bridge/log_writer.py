"""Writes log lines to a file descriptor in a dedicated thread, so that logging never waits for the reader."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from queue import Empty, SimpleQueue
from typing import Final, TypeAlias

#: The most bytes that wait for the reader; further lines are dropped and counted.
MAX_WAITING_BYTES: Final = 1024 * 1024
#: How long `flush` waits for a reader that makes no progress, and in total, in seconds.
STALLED_SECONDS: Final = 0.5
FLUSH_SECONDS: Final = 5.0
#: How long lines are collected before they are written, in seconds: each time the thread wakes up, it takes the
#: interpreter lock from the event loop, which costs more than the line.
GATHER_SECONDS: Final = 0.01
#: The most bytes of one write. If processes share a pipe, it is the number that the kernel writes atomically.
_BATCH_BYTES: Final = 64 * 1024
_SHARED_BATCH_BYTES: Final = select.PIPE_BUF

_Item: TypeAlias = bytes | threading.Event | None


class Writer:
    """Writes lines in order. If the reader is too slow, lines are dropped and replaced by a line with their number.

    Calls of `write` and `flush` must be serialized, as logging's handlers do. No lock is shared with the thread, since
    objects that are garbage-collected there may log; so each counter is changed on one side only.
    """

    def __init__(self, descriptor: int, *, shared: bool = False) -> None:
        self._descriptor = descriptor
        self._batch_bytes = _SHARED_BATCH_BYTES if shared else _BATCH_BYTES
        self._queue: SimpleQueue[_Item] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._queued = 0  # bytes, changed by callers
        self._dropped = 0  # lines for which there was no room, changed by callers
        self._reported = 0  # lost lines that were reported, changed by callers
        self._dropping = False
        self._stalled_at = -1
        self._done = 0  # bytes written or lost, changed by the thread
        self._failed = 0  # lines that the descriptor refused, changed by the thread
        self._is_cut = False  # whether the last line was written in part; used by the thread only

    @property
    def lost(self) -> int:
        """The total number of lost lines."""
        return self._dropped + self._failed

    def write(self, line: Callable[[], bytes], lost: Callable[[int], bytes]) -> None:
        """Queue a line, which must end in a line break. `lost` formats the line that reports how many are missing."""
        # After a loss, half of the room must be free first, so that there is one gap and not many.
        if self._queued - self._done > (MAX_WAITING_BYTES // 2 if self._dropping else MAX_WAITING_BYTES):
            self._dropping = True
            self._dropped += 1
            return
        self._dropping = False
        self._report_losses(lost)
        self._put(line())

    def flush(self, lost: Callable[[int], bytes]) -> None:
        """Wait until all lines are written, while the reader makes progress."""
        self._report_losses(lost)
        if self._thread is None or self._done == self._stalled_at:
            return
        written = threading.Event()
        self._queue.put(written)
        end = time.monotonic() + FLUSH_SECONDS
        done = self._done
        while not written.wait(STALLED_SECONDS):
            if self._done == done or time.monotonic() > end:
                self._stalled_at = self._done
                return
            done = self._done

    def close(self) -> None:
        """Make the thread end after the queued lines; does not wait for it."""
        self._queue.put(None)
        self._thread = None

    def _report_losses(self, lost: Callable[[int], bytes]) -> None:
        if missing := self.lost - self._reported:
            self._reported += missing
            self._put(lost(missing))

    def _put(self, line: bytes) -> None:
        self._queued += len(line)
        self._queue.put(line)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="log", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            lines, item = self._next()
            for batch in self._batches(lines):
                self._write(batch)
            if isinstance(item, threading.Event):
                item.set()
            elif item is None:
                return

    def _next(self) -> tuple[list[bytes], _Item]:
        """The next batch of queued lines, and the item that ended it."""
        lines: list[bytes] = []
        size = 0
        item = self._queue.get()
        if isinstance(item, bytes):
            time.sleep(GATHER_SECONDS)  # in the log's thread
        while isinstance(item, bytes):
            lines.append(item)
            size += len(item)
            if size >= _BATCH_BYTES:
                break
            try:
                item = self._queue.get_nowait()
            except Empty:
                break
        return lines, item

    def _batches(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        """Join lines to batches of at most `_batch_bytes`; a longer line is a batch by itself."""
        batch: list[bytes] = []
        size = 0
        for line in lines:
            if batch and size + len(line) > self._batch_bytes:
                yield b"".join(batch)
                batch, size = [], 0
            batch.append(line)
            size += len(line)
        if batch:
            yield b"".join(batch)

    def _write(self, data: bytes) -> None:
        whole = b"\n" + data if self._is_cut else data
        rest = memoryview(whole)
        try:
            while rest:
                try:
                    rest = rest[os.write(self._descriptor, rest) :]
                except BlockingIOError:  # another process with the same file has made it non-blocking
                    waiting = select.poll()
                    waiting.register(self._descriptor, select.POLLOUT)
                    waiting.poll()
        except OSError:  # the reader is gone, the disk is full, …: the next write may succeed
            self._failed += bytes(rest).count(b"\n")
        if written := len(whole) - len(rest):
            self._is_cut = whole[written - 1 : written] != b"\n"
        self._done += len(data)
