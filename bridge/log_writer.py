"""Lines to a descriptor in a thread of its own: whoever logs never waits for whoever reads."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final, TypeAlias

#: How many bytes may wait for a reader; what comes beyond is lost, and counted.
MAX_WAITING_BYTES: Final = 1024 * 1024
#: How long `flush` waits for a reader that takes nothing, and at most, in seconds.
STALLED_SECONDS: Final = 0.5
FLUSH_SECONDS: Final = 5.0
#: How long further lines are gathered before they are written, in seconds: each time the thread wakes, it takes the
#: interpreter from the event loop, which costs more than the line.
GATHER_SECONDS: Final = 0.01
#: How many bytes are written at once.
_BATCH_BYTES: Final = 64 * 1024

_Item: TypeAlias = bytes | threading.Event | None


class Writer:
    """Writes lines in their order. Those that nobody takes are lost, and their number stands where they are missing.

    Callers of `write` and `flush` take turns, as logging's handlers have them do. No lock is shared with the thread:
    an object that is collected there may log too. So each number is changed on one side only.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._queue: SimpleQueue[_Item] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._taken = 0  # bytes, changed by callers
        self._dropped = 0  # lines that there was no room for, changed by callers
        self._told = 0  # lost lines that were told of, changed by callers
        self._dropping = False
        self._stalled_at = -1
        self._done = 0  # bytes that were written or given up, changed by the thread
        self._failed = 0  # lines that the descriptor refused, changed by the thread
        self._cut = False  # whether a line was left unfinished; the thread's

    @property
    def lost(self) -> int:
        """How many lines were lost in all."""
        return self._dropped + self._failed

    def write(self, line: Callable[[], bytes], lost: Callable[[int], bytes]) -> None:
        """Have a line written, which ends in a line break. `lost` makes a line that tells how many are missing."""
        # Once lines are lost, half of the room must be free again: not one here and one there.
        if self._taken - self._done > (MAX_WAITING_BYTES // 2 if self._dropping else MAX_WAITING_BYTES):
            self._dropping = True
            self._dropped += 1
            return
        self._dropping = False
        self._tell(lost)
        self._put(line())

    def flush(self, lost: Callable[[int], bytes]) -> None:
        """Wait until all is written, as long as somebody takes it."""
        self._tell(lost)
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
        """Let the thread end once it has written what was given to it; does not wait for that."""
        self._queue.put(None)
        self._thread = None

    def _tell(self, lost: Callable[[int], bytes]) -> None:
        if missing := self.lost - self._told:
            self._told += missing
            self._put(lost(missing))

    def _put(self, line: bytes) -> None:
        self._taken += len(line)
        self._queue.put(line)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="log", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            lines, item = self._next()
            if lines:
                self._write(b"".join(lines))
            if isinstance(item, threading.Event):
                item.set()
            elif item is None:
                return

    def _next(self) -> tuple[list[bytes], _Item]:
        """The lines that wait, as many as are written at once, and what followed that is no line."""
        lines: list[bytes] = []
        size = 0
        item = self._queue.get()
        if isinstance(item, bytes):
            time.sleep(GATHER_SECONDS)  # in the log's own thread
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

    def _write(self, data: bytes) -> None:
        whole = b"\n" + data if self._cut else data
        rest = memoryview(whole)
        try:
            while rest:
                try:
                    rest = rest[os.write(self._descriptor, rest) :]
                except BlockingIOError:  # somebody else has made it so, which holds for all that share it
                    waiting = select.poll()
                    waiting.register(self._descriptor, select.POLLOUT)
                    waiting.poll()
        except OSError:  # its reader has gone, the disk is full, …: the next line may find it otherwise
            self._failed += bytes(rest).count(b"\n")
        if written := len(whole) - len(rest):
            self._cut = whole[written - 1 : written] != b"\n"
        self._done += len(data)
