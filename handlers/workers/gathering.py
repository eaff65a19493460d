"""Collects the workers' metrics for whichever of them is scraped, so that its answer is the sum of all.

A counter never goes back: what a scrape has shown of a worker was told to the parent before, and when the worker has
ended, the parent adds what it told last to the counts of those that have ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress
from typing import Any, Final

from handlers.workers.counts import add
from handlers.workers.process import Worker

#: How long a worker may take to report its metrics; after that, those that it reported last are used.
_MEASURE_SECONDS: Final = 1.0


class Gathering:
    """The metrics of all `living` workers, and the counts of those that have ended.

    One round at a time: a worker that asks during a round waits for the next, which begins after the request.
    """

    def __init__(self, living: Collection[Worker]) -> None:
        self._living = living
        self._retired: list[Any] = []
        self._waiting: list[tuple[Worker, object]] = []
        self._asked = asyncio.Event()
        self._round = 0

    def ask(self, worker: Worker, number: object) -> None:
        """Take a worker's request, which has a number for the answer."""
        self._waiting.append((worker, number))
        self._asked.set()

    def retire(self, worker: Worker) -> None:
        """Add what a worker counted that has ended."""
        self._retired = add(self._retired, worker.measures)

    async def keep(self) -> None:
        """Answer the requests, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            asking, self._waiting = self._waiting, []
            await self._measure()
            for worker, number in asking:
                others = [other.measures for other in self._living if other is not worker]
                worker.send("gathered", [number, worker.measures, others, self._retired])

    async def _measure(self) -> None:
        """Ask all workers, and wait until each has answered or ended."""
        asked = list(self._living)
        self._round += 1
        for worker in asked:
            worker.measure(self._round)
        with suppress(TimeoutError):
            async with asyncio.timeout(_MEASURE_SECONDS):
                for worker in asked:
                    await worker.measured.wait()
