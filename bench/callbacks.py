"""Finds the callbacks of a program's event loop that use the most CPU time in a single call.

    python -m bench.callbacks OUT -m MODULE ARGUMENT…

Runs the module like `python -m`, and on exit writes the ten longest callbacks to OUT, as a JSON array of
[seconds, name]. SIGUSR2 discards those recorded so far. Only the CPU time of the loop's thread counts, so other load
does not matter.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import json
import runpy
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import thread_time
from types import CoroutineType
from typing import Any, Final, Literal

#: How many callbacks are kept.
KEPT: Final = 10
#: How many of the innermost coroutines that a task awaits are named.
_NAMED: Final = 3


class Longest:
    """The longest callbacks that ran since `install` or `forget`."""

    def __init__(self) -> None:
        self._kept: list[tuple[float, str]] = []  # a heap: the shortest first
        self._collected = 0.0  # seconds that garbage collection has taken so far
        self._collecting_since = 0.0

    def install(self) -> None:
        """Time every callback of every loop: all of them, including the steps of tasks, run in Handle._run."""
        run = asyncio.events.Handle._run  # noqa: SLF001 — there is no public hook

        def timed(handle: asyncio.Handle) -> None:
            callback = getattr(handle, "_callback")  # noqa: B009 — typeshed does not know it
            collected, began = self._collected, thread_time()
            run(handle)
            seconds = thread_time() - began
            if len(self._kept) < KEPT or seconds > self._kept[0][0]:
                self._keep(seconds, self._collected - collected, callback)

        asyncio.events.Handle._run = timed  # type: ignore[assignment, method-assign]  # noqa: SLF001 — as above
        gc.callbacks.append(self._collect)

    def forget(self) -> None:
        """Discard the callbacks recorded so far."""
        self._kept.clear()

    def write(self, path: Path) -> None:
        """Write the kept callbacks, the longest first."""
        path.write_text(json.dumps(sorted(self._kept, reverse=True)))

    def _keep(self, seconds: float, collected: float, callback: Callable[..., object]) -> None:
        name = _name(callback)
        if collected > seconds / 2:
            name = f"garbage collection in {name}"
        heapq.heappush(self._kept, (seconds, name))
        if len(self._kept) > KEPT:
            heapq.heappop(self._kept)

    def _collect(self, phase: Literal["start", "stop"], _: dict[str, int]) -> None:
        if phase == "start":
            self._collecting_since = thread_time()
        else:
            self._collected += thread_time() - self._collecting_since


def _name(callback: Any) -> str:
    """Name a callback; for a task's step, name its coroutine and those it awaits, the innermost last."""
    task = getattr(callback, "__self__", None)
    if isinstance(task, asyncio.Task):
        outermost, *others = _waiting(task.get_coro())
        return " → ".join((outermost, *(["…"] if len(others) > _NAMED else []), *others[-_NAMED:]))
    return str(getattr(getattr(callback, "func", callback), "__qualname__", type(callback).__qualname__))


def _waiting(coroutine: Any) -> Iterator[str]:
    yield coroutine.__qualname__
    if isinstance(coroutine, CoroutineType) and isinstance(coroutine.cr_await, CoroutineType):
        yield from _waiting(coroutine.cr_await)


def main(out: str, module: str, *arguments: str) -> None:
    """Run a module with these arguments."""
    longest = Longest()
    longest.install()
    signal.signal(signal.SIGUSR2, lambda *_: longest.forget())
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        longest.write(Path(out))


if __name__ == "__main__":
    main(sys.argv[1], *sys.argv[3:])
