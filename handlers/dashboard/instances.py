"""The other processes that serve requests, on this machine or another: their running requests and their state."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from aiohttp import web

from bridge.activity.entry import Entry
from bridge.errors import ended_by_owner
from bridge.health import Trouble
from handlers.monitoring.combined_health import DOWN, combined_health
from handlers.monitoring.health import report
from handlers.request.activity import entry_of
from handlers.request.appkeys import ACTIVITY, ACTIVITY_STORE, CALL_QUEUE, COOLDOWN_WAIT, DRAIN, RELAY, SHARING
from handlers.workers.link import LINK
from upstream.protocol.errors import Reason

if TYPE_CHECKING:
    from bridge.shared.instances import Answers, InstanceReport, RedisInstances  # which need an optional library

#: The maximum number of running requests that one process reports to another, the newest first.
MAX_TOLD: Final = 200
#: How long the health that other processes have reported is shown, in seconds.
FRESH_SECONDS: Final = 1.0
#: The questions: a process's state, its running requests, and one request by its id, which follows.
HEALTH: Final = "health"
RUNNING: Final = "running"
_REQUEST: Final = "request "


class Running(NamedTuple):
    """A running request. `instance` is the process that answers it, '' for this one, and `where` names it in words.

    `place` is its place among those that wait in that process, 0 if it does not wait.
    """

    number: int
    entry: Entry
    may_end: bool
    place: int = 0
    instance: str = ""
    where: str = ""

    @property
    def mark(self) -> str:
        """The id of its element in a page."""
        process = self.instance.rpartition("@")[0].rpartition(":")[2]
        return f"{self.number}-{process}" if process else f"{self.number}"

    @property
    def address(self) -> str:
        """Its address among the running requests of all processes, for `end`."""
        return f"{self.number} {self.instance}".rstrip()


class Others(NamedTuple):
    """The other processes: their running requests, the number of these, and their troubles.

    `serving` is whether each of them could answer a chat; `unseen` says why something is unknown, '' if nothing is.
    """

    running: Sequence[Running] = ()
    answering: int = 0
    troubles: Sequence[Trouble] = ()
    serving: bool = True
    unseen: str = ""


class Instances:
    """Asks the other processes for what a page shows of them, and tells them about this one."""

    def __init__(self, app: web.Application) -> None:
        sharing = app[SHARING]
        self._app = app
        self._last = float("-inf"), Others()
        self._shared: RedisInstances | None = None
        if sharing is not None:
            self._shared = sharing.instances(partial(_tell, app), partial(_end_here, app))

    async def ask(self, question: str = HEALTH) -> Others:
        """The reports of the other processes: none if the state is in files, and only the known ones without Redis."""
        if self._shared is None:
            return Others()
        at, others = self._last
        if question != HEALTH or time.monotonic() - at > FRESH_SECONDS:
            others = self._others(await self._shared.ask(question))
            self._last = time.monotonic(), others
        return others

    def _others(self, found: Answers) -> Others:
        known = {(trouble["part"], trouble["reason"]) for trouble in report(self._app)["degraded"]}
        told = [each for instance, value in found.reports.items() if (each := _read(instance, value)) is not None]
        troubles = [trouble for each in told for trouble in _new(each.degraded, known, each.name)]
        if (link := self._app.get(LINK)) is not None:
            troubles += _new(combined_health(report(self._app), link.roster)["degraded"], known, "this machine")
        troubles += [_silent(name) for name in sorted(found.missing)]
        return Others(
            [running for each in told for running in each.running],
            sum(each.answering for each in told),
            troubles,
            all(each.status != DOWN for each in told),
            "" if found.asked else "Redis cannot be used, so nothing is known about the other processes.",
        )

    async def find(self, request_id: str) -> Running | None:
        """The running request with this id, wherever it runs."""
        here = next(running_here(self._app, request_id), None)
        if here is not None or not request_id.isascii():
            return here
        return next(iter((await self.ask(f"{_REQUEST}{request_id}")).running), None)

    async def end(self, address: str) -> None:
        """End a running request, by its address. Raises SharedStateDown."""
        number, _, instance = address.partition(" ")
        if not number.isdecimal() or len(address) > _MAX_ADDRESS_CHARS:
            return
        if not instance:
            _end_here(self._app, number)
        elif self._shared is not None:
            await self._shared.order(instance, number)


INSTANCES: Final = web.AppKey("instances", Instances)
_MAX_ADDRESS_CHARS: Final = 400
_REASONS: Final = frozenset(Reason)


def running_here(app: web.Application, request_id: str | None = None) -> Iterator[Running]:
    """The running requests of this process, from newest to oldest, or only the one with this id."""
    positions, on_cooldown = app[CALL_QUEUE].positions(), app[COOLDOWN_WAIT].queue.positions()
    for record in app[ACTIVITY].running_newest():
        if request_id in (None, record.request_id):
            place = 0
            if (queued := record.queued) is not None:
                waiter = queued.waiter
                place = positions.get(queued.call, 0) if waiter is None else on_cooldown.get(waiter, 0)
            yield Running(record.number, entry_of(record), record.lifetime is not None, place)


async def _tell(app: web.Application, question: str) -> InstanceReport:
    """Answer another process's question."""
    told: dict[str, Any] = {"name": _name(app)}
    if RELAY not in app:  # the process is just starting
        return told
    told |= {"report": report(app), "answering": app[DRAIN].running}
    if question != HEALTH:
        await app[ACTIVITY_STORE].flush()  # the asking process may be on the same machine, and then reads them
        found = running_here(app, question.removeprefix(_REQUEST) if question.startswith(_REQUEST) else None)
        told["running"] = [
            (each.number, each.may_end, each.entry.to_line().decode(), each.place) for each in islice(found, MAX_TOLD)
        ]
    return told


def _name(app: web.Application) -> str:
    link, host = app.get(LINK), socket.gethostname()
    return host if link is None else f"{host}, worker {link.number}"


def _end_here(app: web.Application, number: str) -> None:
    record = app[ACTIVITY].running(int(number)) if number.isdecimal() and len(number) < 20 else None
    if record is not None and record.lifetime is not None:
        record.lifetime.end(ended_by_owner())


class _Other(NamedTuple):
    """What another process has reported; one that is just starting has no status yet."""

    name: str
    status: str
    degraded: Sequence[Mapping[str, str]]
    answering: int
    running: Sequence[Running]


def _read(instance: str, told: InstanceReport) -> _Other | None:
    """Read a report of `_tell`, perhaps of another version; None if it cannot be read."""
    try:
        health = told.get("report", {"status": "", "degraded": ()})
        running = [
            Running(int(number), Entry.from_line(line), bool(may_end), int(*place), instance, str(told["name"]))
            for number, may_end, line, *place in told.get("running", ())  # an older version does not report a place
        ]
        degraded = [{name: str(row[name]) for name in ("part", "reason", "message")} for row in health["degraded"]]
        return _Other(str(told["name"]), str(health["status"]), degraded, int(told.get("answering", 0)), running)
    except (LookupError, TypeError, ValueError, AttributeError):
        return None


def _new(degraded: Sequence[Mapping[str, str]], known: set[tuple[str, str]], where: str) -> Iterator[Trouble]:
    """The troubles that are not known yet, since most parts are the same for all processes."""
    for trouble in degraded:
        if (key := (trouble["part"], trouble["reason"])) not in known:
            known.add(key)
            reason = Reason(trouble["reason"]) if trouble["reason"] in _REASONS else Reason.UPSTREAM_ERROR
            yield Trouble(f"{trouble['part']} ({where})", reason, trouble["message"])


def _silent(instance: str) -> Trouble:
    host, _, process = instance.rpartition("@")[0].rpartition(":")[0].rpartition(":")
    what = "it does not report its state: it may be frozen, very busy, or have ended just now"
    return Trouble(
        f"process {process} of {host}", Reason.WORKER, what, to_do="check again in a moment, then look at its log"
    )
