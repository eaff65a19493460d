"""Runs `lmarena-bridge` for the soak test: it reports its tasks on signals, and its tables have low limits.

At SIGUSR2 it writes the number of its asyncio tasks to the file SOAK_TASKS. At SIGWINCH it logs where each task waits,
in lines that begin with WAITS; the soak test sends it when a caller has been waiting for long. The tables of
conversations and of stored responses grow up to a limit by design, which this traffic would take days to reach. Here
the limits are so low that the tables are full early on, so that any later growth is a leak.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bridge.answering.conversations import Conversations
from bridge.dialects.responses.stored import StoredResponses
from handlers.commands.main import main

WAITS = "soak: waits"
CONVERSATIONS = 400
RESPONSES = 400


def _tell_tasks(*_: object) -> None:
    try:
        count = len(asyncio.all_tasks())
    except RuntimeError:  # the loop is not running yet, or has stopped
        return
    path = Path(os.environ["SOAK_TASKS"])
    path.with_suffix(".new").write_text(str(count))
    path.with_suffix(".new").replace(path)


def _tell_places(*_: object) -> None:
    try:
        tasks = asyncio.all_tasks()
    except RuntimeError:
        return
    lines = [f"{WAITS} {task.get_name()}: {' > '.join(_places(task))}\n" for task in tasks]
    os.write(sys.stderr.fileno(), "".join(lines).encode())


def _places(task: asyncio.Task[Any]) -> Iterator[str]:
    """The functions on a task's stack with their line numbers, from the outermost to the one that waits."""
    at: object = task.get_coro()
    while isinstance(at, types.CoroutineType):
        if at.cr_frame is not None:
            yield f"{at.__qualname__}:{at.cr_frame.f_lineno}"
        at = at.cr_await


if __name__ == "__main__":
    Conversations.__init__.__defaults__ = (CONVERSATIONS,)
    StoredResponses.__init__.__defaults__ = (64 * 1024 * 1024, RESPONSES)
    signal.signal(signal.SIGUSR2, _tell_tasks)
    signal.signal(signal.SIGWINCH, _tell_places)
    sys.exit(main())
