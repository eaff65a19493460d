"""A child process that is killed while it writes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any


def last_report_of_killed(write: Callable[[int], Coroutine[Any, Any, None]]) -> int:
    """Kill a child process after at least twenty reports; return the number in its last one.

    The child runs `write` with a file descriptor, to which it reports by writing lines with a number.
    """
    reading, writing = os.pipe()
    if not (pid := os.fork()):
        os.close(reading)
        try:
            asyncio.run(write(writing))
        finally:
            os._exit(1)  # a forked child must never return into pytest
    os.close(writing)
    with os.fdopen(reading, "rb") as reports:
        lines = [reports.readline() for _ in range(20)]
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        lines += reports.readlines()
    return int(lines[-1])
