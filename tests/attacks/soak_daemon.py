"""`lmarena-bridge` for a long run: it tells what tasks it has, and its tables are soon full.

At SIGUSR2 it writes the number of its asyncio tasks to the file that SOAK_TASKS names. At SIGWINCH it writes to its log
where each of them waits, in lines with WAITS: a caller has had no answer for long. The tables of conversations and
of stored responses grow up to a bound by design, for days at the rate of this traffic: here the bound is so low that
they are full early on, and whatever grows afterwards grows without a bound.
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
    except RuntimeError:  # the loop does not run yet, or any more
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
    """The functions that a task is in, from the outermost to the one that waits, each with its line."""
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
