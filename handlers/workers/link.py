"""A worker's end of the link to its parent: what it reports, and what it knows about the others."""

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
from handlers.workers.place import WorkerPlace

#: How often the worker looks whether its health has changed, and how often it tells its metrics unasked, in seconds.
_REPORT_SECONDS: Final = 1.0
_MEASURE_SECONDS: Final = 5.0
#: How long the parent may take to have all workers read the configuration again: it gives each of them 35 s.
_REREAD_SECONDS: Final = 40.0
#: How long the parent may take to gather everybody's metrics: it waits for a slow worker for 1 s itself.
_GATHER_SECONDS: Final = 3.0


class WorkerRow(NamedTuple):
    """A worker as the parent sees it. `report` is its health as `/health` has it, empty before its first.

    `pid` is 0 where the worker's process has ended, and no other has been started yet.
    """

    worker: int
    pid: int
    state: str
    report: Mapping[str, Any]

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Self:
        """Read a row as the parent writes it."""
        return cls(value["worker"], value.get("pid", 0), value["state"], value.get("report", {}))


class Gathered(NamedTuple):
    """Everybody's metrics: this worker's, the other living workers', and the counts of those that have ended."""

    own: Sequence[Family]
    others: Sequence[Sequence[Family]]
    ended: Sequence[Family]


class ParentSilent(Exception):
    """The parent does not answer."""


@dataclass(frozen=True, slots=True)
class ToParent(Notifier):
    """Notifies the parent in place of a service manager."""

    tell: Callable[[str], None] = lambda _: None

    def send(self, state: str) -> None:
        """Send one notification."""
        self.tell(state)


class ParentLink:
    """The link to the parent; `on_orphaned` is called if that dies."""

    def __init__(self, place: WorkerPlace, on_orphaned: Callable[[], None]) -> None:
        self.number = place.number
        #: Whether another worker has taken its place: this one is to drain, and has time.
        self.has_successor = False
        self._connection_counts = ConnectionCounts(place.connection_counts)
        #: All workers, this one too, as the parent last reported them; empty before that.
        self.roster: tuple[WorkerRow, ...] = ()
        self._place = place
        self._on_orphaned = on_orphaned
        self._measure_now = asyncio.Event()
        self._round = 0
        #: Called with how the log is switched in all workers, None where it is as configured.
        self.on_log: Callable[[Mapping[str, Any] | None], None] = lambda _: None
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._number = 0

    async def connect(self) -> ToParent:
        """Begin; return what notifies the parent."""
        loop = asyncio.get_running_loop()
        _, self._lines = await loop.create_connection(
            lambda: Lines(self._hear, self._on_orphaned), sock=self._place.open_link()
        )
        return ToParent(
            watchdog_seconds=self._place.watchdog_seconds, tell=lambda state: self._lines.send("notify", state)
        )

    def is_ahead(self, connections: int) -> bool:
        """Note how many connections this worker has; return whether another has so few that new ones should be its."""
        self._connection_counts.write(self.number, connections)
        return self._connection_counts.is_ahead(self.number)

    def keep(
        self, tasks: TaskOwner, report: Callable[[], Mapping[str, Any]], measure: Callable[[], Awaitable[list[Family]]]
    ) -> None:
        """Tell the parent the worker's health and metrics, by tasks of `tasks`."""
        tasks.spawn(self._report(report), name="report health")
        tasks.spawn(self._measure(measure), name="report metrics")

    async def finish(self, measure: Callable[[], Awaitable[list[Family]]]) -> None:
        """Tell the metrics a last time, and close the link."""
        self._lines.send("measures", [self._round, await measure()])
        await self._lines.aclose()

    async def gathered(self) -> Gathered:
        """Everybody's metrics now. Raises ParentSilent."""
        gathered: Gathered = await self._ask("gather", _GATHER_SECONDS)
        return gathered

    async def reread(self) -> Sequence[tuple[int, bool | None]]:
        """Have all workers read the configuration again, this one too, as SIGHUP to the parent does.

        Returns, by the workers' numbers, whether each could use it; None for one that has not said so in time. Raises
        ParentSilent.
        """
        outcomes: Sequence[tuple[int, bool | None]] = await self._ask("reload", _REREAD_SECONDS)
        return outcomes

    def tell_reread(self, *, well: bool) -> None:
        """Tell the parent whether this worker could use the configuration that it has read again."""
        self._lines.send("reread", well)

    def switch_log(self, value: Mapping[str, Any] | None) -> None:
        """Have all workers switch their logs; what `value` means is theirs to know."""
        self._lines.send("log", value)

    async def _ask(self, kind: str, seconds: float) -> Any:
        """Ask the parent something, and wait for its answer. Raises ParentSilent."""
        self._number += 1
        number = self._number
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        self._lines.send(kind, number)
        try:
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError:
            raise ParentSilent from None
        finally:
            del self._asked[number]

    def _answer(self, number: int, value: object) -> None:
        if (answer := self._asked.get(number)) is not None and not answer.done():
            answer.set_result(value)

    async def _report(self, report: Callable[[], Mapping[str, Any]]) -> None:
        told: Mapping[str, Any] = {}
        while True:
            if (now := report()) != told:
                self._lines.send("report", now)
                told = now
            await asyncio.sleep(_REPORT_SECONDS)

    async def _measure(self, measure: Callable[[], Awaitable[list[Family]]]) -> None:
        """Tell the metrics when asked, and every few seconds."""
        while True:
            self._measure_now.clear()
            number = self._round
            self._lines.send("measures", [number, await measure()])
            try:
                async with asyncio.timeout(_MEASURE_SECONDS):
                    await self._measure_now.wait()
            except TimeoutError:
                pass

    def _hear(self, kind: str, value: Any) -> None:
        match kind, value:
            case "roster", list(rows):
                self.roster = tuple(map(WorkerRow.read, rows))
            case "succeeded", None:
                self.has_successor = True
            case "measure", int(number):
                self._round = number
                self._measure_now.set()
            case "gathered", [int(number), list(own), list(others), list(ended)]:
                self._answer(number, Gathered(own, others, ended))
            case "reloaded", [int(number), list(outcomes)]:
                self._answer(number, [(int(worker), well) for worker, well in outcomes])
            case "log", dict() | None:
                self.on_log(value)


LINK: Final = web.AppKey("link", ParentLink)
