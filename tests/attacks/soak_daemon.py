"""`lmarena-bridge` for a long run: it tells how many tasks it has, and its tables are soon full.

At SIGUSR2 it writes the number of its asyncio tasks to the file that SOAK_TASKS names. The tables of conversations and
of stored responses grow up to a bound by design, for days at the rate of this traffic: here the bound is so low that
they are full early on, and whatever grows afterwards grows without a bound.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from bridge.answering.conversations import Conversations
from bridge.dialects.responses.stored import StoredResponses
from handlers.commands.main import main

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


if __name__ == "__main__":
    Conversations.__init__.__defaults__ = (CONVERSATIONS,)
    StoredResponses.__init__.__defaults__ = (64 * 1024 * 1024, RESPONSES)
    signal.signal(signal.SIGUSR2, _tell_tasks)
    sys.exit(main())
