"""Collects the metrics of all workers for the one that is scraped, so that its answer is the sum of all.

Counters never decrease: what a scrape shows of a worker has been reported to the parent before, and once the worker has
ended, the parent adds what it reported last to the counts of the ended workers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress
from typing import Any, Final

from handlers.workers.counts import add_counts
from handlers.workers.process import Worker

#: How long a worker may take to report its metrics; after that, those that it reported last are used.
_MEASURE_SECONDS: Final = 1.0


class Gathering:
    """The metrics of all `living` workers, and the counts of those that have ended.

    They are collected in rounds: a worker that asks during a round is answered after the next one.
    """

    def __init__(self, living: Collection[Worker]) -> None:
        self._living = living
        self._retired: list[Any] = []
        self._waiting: list[tuple[Worker, object]] = []
        self._asked = asyncio.Event()
        self._round = 0

    def ask(self, worker: Worker, number: object) -> None:
        """Add a worker's request; `number` identifies it in the answer."""
        self._waiting.append((worker, number))
        self._asked.set()

    def retire(self, worker: Worker) -> None:
        """Keep the counts of a worker that has ended."""
        self._retired = add_counts(self._retired, worker.metrics)

    async def serve(self) -> None:
        """Answer the requests, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            asking, self._waiting = self._waiting, []
            await self._collect()
            for worker, number in asking:
                others = [other.metrics for other in self._living if other is not worker]
                worker.send("gathered", [number, worker.metrics, others, self._retired])

    async def _collect(self) -> None:
        """Ask all workers, and wait until each has answered or ended, or for _MEASURE_SECONDS."""
        asked = list(self._living)
        self._round += 1
        for worker in asked:
            worker.request_metrics(self._round)
        with suppress(TimeoutError):
            async with asyncio.timeout(_MEASURE_SECONDS):
                for worker in asked:
                    await worker.metrics_received.wait()
