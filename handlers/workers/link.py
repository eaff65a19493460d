"""A worker's end of the link to its parent: what it reports, requests, and knows about the other workers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

from aiohttp import web

from bridge.tasks import TaskOwner
from handlers.daemon.notify import Notifier
from handlers.workers.connection_counts import ConnectionCounts
from handlers.workers.counts import Family
from handlers.workers.lines import Lines
from handlers.workers.worker_arguments import WorkerArguments

#: How often the worker checks whether its health has changed, and how often it reports its metrics unasked, in seconds.
_REPORT_SECONDS: Final = 1.0
_MEASURE_SECONDS: Final = 5.0
#: How long the parent may take to have all workers reload, in seconds: it gives each of them 35 s.
_REREAD_SECONDS: Final = 40.0
#: How long the parent may take to gather all metrics, in seconds: it waits 1 s for slow workers.
_GATHER_SECONDS: Final = 3.0


class WorkerRow(NamedTuple):
    """A worker as the parent sees it. `report` is its health in the form of `/health`, empty before the first report.

    `pid` is 0 if the worker's process has ended and no other has been started yet.
    """

    worker: int
    pid: int
    state: str
    report: Mapping[str, Any]

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Self:
        """Read a row as the parent sends it."""
        return cls(value["worker"], value.get("pid", 0), value["state"], value.get("report", {}))


class GatheredMetrics(NamedTuple):
    """The metrics of this worker and of the other living ones, and the counts of those that have ended."""

    own: Sequence[Family]
    others: Sequence[Sequence[Family]]
    ended: Sequence[Family]


class ParentSilent(Exception):
    """The parent did not answer in time."""


@dataclass(frozen=True, slots=True)
class ParentNotifier(Notifier):
    """Notifies the parent in place of a service manager; `forward` sends a notification over the link."""

    forward: Callable[[str], None] = lambda _: None

    def send(self, state: str) -> None:
        """Send one notification."""
        self.forward(state)


class ParentLink:
    """The link to the parent; `on_orphaned` is called if the parent dies."""

    def __init__(self, arguments: WorkerArguments, on_orphaned: Callable[[], None]) -> None:
        self.number = arguments.number
        #: Whether another worker has replaced this one, which is to drain without haste.
        self.has_successor = False
        self._connection_counts = ConnectionCounts(arguments.connection_counts)
        #: All workers, including this one, as the parent last reported them; empty before that.
        self.roster: tuple[WorkerRow, ...] = ()
        self._arguments = arguments
        self._on_orphaned = on_orphaned
        self._measure_now = asyncio.Event()
        self._round = 0
        #: Called with how the log is switched in all workers, None if it is as configured.
        self.on_log: Callable[[Mapping[str, Any] | None], None] = lambda _: None
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._last_request = 0

    async def connect(self) -> ParentNotifier:
        """Open the link; return the notifier that uses it."""
        loop = asyncio.get_running_loop()
        _, self._lines = await loop.create_connection(
            lambda: Lines(self._on_message, self._on_orphaned), sock=self._arguments.open_link()
        )
        return ParentNotifier(
            watchdog_seconds=self._arguments.watchdog_seconds, forward=lambda state: self._lines.send("notify", state)
        )

    def publish_connections(self, connections: int) -> bool:
        """Publish the number of this worker's connections; return whether another should accept new ones first."""
        self._connection_counts.set(self.number, connections)
        return self._connection_counts.is_ahead(self.number)

    def start_reporting(
        self, tasks: TaskOwner, report: Callable[[], Mapping[str, Any]], measure: Callable[[], Awaitable[list[Family]]]
    ) -> None:
        """Report the worker's health and metrics to the parent from now on, in tasks of `tasks`."""
        tasks.spawn(self._report(report), name="report health")
        tasks.spawn(self._measure(measure), name="report metrics")

    async def finish(self, measure: Callable[[], Awaitable[list[Family]]]) -> None:
        """Report the metrics a last time, and close the link."""
        self._lines.send("measures", [self._round, await measure()])
        await self._lines.aclose()

    async def gather_metrics(self) -> GatheredMetrics:
        """The current metrics of all workers. Raises ParentSilent."""
        gathered: GatheredMetrics = await self._request("gather", _GATHER_SECONDS)
        return gathered

    async def reload_all(self) -> Sequence[tuple[int, bool | None]]:
        """Have all workers, including this one, reload the configuration, as SIGHUP to the parent does.

        Returns for each worker its number and whether it could use the configuration, None if it has not reported that
        in time. Raises ParentSilent.
        """
        outcomes: Sequence[tuple[int, bool | None]] = await self._request("reload", _REREAD_SECONDS)
        return outcomes

    def report_reread(self, *, succeeded: bool) -> None:
        """Report whether this worker could use the configuration that it has read again."""
        self._lines.send("reread", succeeded)

    def switch_log(self, value: Mapping[str, Any] | None) -> None:
        """Have all workers switch their logs, which get `value` by their `on_log`."""
        self._lines.send("log", value)

    async def _request(self, kind: str, seconds: float) -> Any:
        """Send a request to the parent, and wait for its answer. Raises ParentSilent."""
        self._last_request += 1
        number = self._last_request
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        self._lines.send(kind, number)
        try:
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError:
            raise ParentSilent from None
        finally:
            del self._answers[number]

    def _answer(self, number: int, value: object) -> None:
        if (answer := self._answers.get(number)) is not None and not answer.done():
            answer.set_result(value)

    async def _report(self, report: Callable[[], Mapping[str, Any]]) -> None:
        sent: Mapping[str, Any] = {}
        while True:
            if (now := report()) != sent:
                self._lines.send("report", now)
                sent = now
            await asyncio.sleep(_REPORT_SECONDS)

    async def _measure(self, measure: Callable[[], Awaitable[list[Family]]]) -> None:
        """Report the metrics on request, and every few seconds."""
        while True:
            self._measure_now.clear()
            number = self._round
            self._lines.send("measures", [number, await measure()])
            try:
                async with asyncio.timeout(_MEASURE_SECONDS):
                    await self._measure_now.wait()
            except TimeoutError:
                pass

    def _on_message(self, kind: str, value: Any) -> None:
        match kind, value:
            case "roster", list(rows):
                self.roster = tuple(map(WorkerRow.read, rows))
            case "succeeded", None:
                self.has_successor = True
            case "measure", int(number):
                self._round = number
                self._measure_now.set()
            case "gathered", [int(number), list(own), list(others), list(ended)]:
                self._answer(number, GatheredMetrics(own, others, ended))
            case "reloaded", [int(number), list(outcomes)]:
                self._answer(number, [(int(worker), succeeded) for worker, succeeded in outcomes])
            case "log", dict() | None:
                self.on_log(value)


LINK: Final = web.AppKey("link", ParentLink)
