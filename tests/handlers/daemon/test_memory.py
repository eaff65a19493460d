"""Large blocks are returned to the system, and garbage in cycles is collected from time to time while few answers run.

`test_connection_limits.py` has the other tests of the garbage collection.
"""

from __future__ import annotations

import gc
import platform
import subprocess
import sys
import weakref
from collections.abc import Iterator

import pytest
from manual_clock import Clock

from handlers.daemon.memory import QUIET_ANSWERS, QUIET_SECONDS, GarbageCollector


class Node:
    """An object that refers to itself."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def garbage() -> Iterator[weakref.ref[Node]]:
    """An unreachable cycle that is not collected automatically."""
    gc.disable()
    yield weakref.ref(Node())
    gc.enable()


@pytest.mark.parametrize(
    ("seconds", "running", "collected"),
    [
        (QUIET_SECONDS - 1, 0, False),
        (QUIET_SECONDS, QUIET_ANSWERS, True),
        (QUIET_SECONDS, QUIET_ANSWERS + 1, False),
    ],
)
async def test_garbage_is_collected_at_intervals_while_few_answers_run(
    seconds: float, running: int, collected: bool, garbage: weakref.ref[Node]
) -> None:
    clock = Clock()
    collector = GarbageCollector(lambda: 80 * 2**20, lambda: running, clock)
    clock.now += seconds
    await collector()
    assert (garbage() is None) is collected
    if collected:
        again = weakref.ref(Node())
        await collector()
        assert again() is not None  # not again until the interval has passed


@pytest.mark.parametrize(("running", "collected"), [(0, True), (2_000, False)])
async def test_memory_growth_due_to_running_answers_triggers_no_collection(
    running: int, collected: bool, garbage: weakref.ref[Node]
) -> None:
    """With 2,000 open streams, a collection blocks the loop for 0.16 s."""
    resident = 60 * 2**20
    collector = GarbageCollector(lambda: resident, lambda: running, Clock())
    resident += 2_000 * 48 * 1024
    await collector()
    assert (garbage() is None) is collected


#: Decodes bodies in one thread, frees them in another, and prints how much memory stays resident, in MiB.
_BODIES = """
import threading, zlib
from queue import Queue
from handlers.daemon.memory import resident_bytes, return_large_blocks
from handlers.request.codings import decode

def work():
    while body := jobs.get():
        bodies.append(decode(body, "deflate", 2**25))
        jobs.task_done()

return_large_blocks()
jobs, bodies, sent = Queue(), [], zlib.compress(bytes(31_000_000))
threading.Thread(target=work, daemon=True).start()
before = resident_bytes()
for _ in range(4):
    jobs.put(sent)
jobs.join()
copies = [body + b"x" for body in bodies]
bodies.clear()
copies.clear()
print((resident_bytes() - before) / 2**20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such setting")
def test_large_blocks_are_returned_to_the_system() -> None:
    run = subprocess.run([sys.executable, "-c", _BODIES], capture_output=True, check=True, timeout=60, text=True)
    assert float(run.stdout) < 16  # 47 by default
