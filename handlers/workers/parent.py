"""The parent of several workers: starts them, restarts those that die, and passes signals on. It serves no request.

The listening sockets are the parent's; its workers inherit them and all accept from the same queues, so that no
connection is lost with a worker. A worker is the parent's own command line, run again, with its place in the
environment (`place.py`); it tells its parent over a pair of sockets how it is (`lines.py`).

    state       what happens                        what follows
    ────────────────────────────────────────────────────────────────────────────────────────────────
    (none)      the daemon starts                   worker 1 is started; the others once it is ready
    starting    it is ready                         ready; the daemon is ready once all have been
                it ends, and not all have been      started again after a pause, START_TRIES times in all;
                ready since the start               at once for FINAL statuses: the daemon gives up
                it is not ready in START_SECONDS    aborted
    ready       it ends                             gone; started again, after longer and longer pauses
                no sign of life in its time         aborted
                SIGHUP                              reloading, then ready
                SIGUSR1                             one after the other: a successor is started; when that is
                                                    ready, the worker drains. If it ends before, the rest goes
                                                    on as it was
                SIGTERM, SIGINT                     draining; a second signal cuts its answers
    draining    it ends                             (none)
                drain_seconds and KILL_SECONDS      killed
    any         the parent dies                     draining: the worker notices the end of its link

The parent's exit status is the worst of those that mattered: of the workers that ended it, or that it ended.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bridge import log
from bridge.config.problems import ConfigError
from bridge.config.schema import Config
from bridge.state.documents import StateFolder
from bridge.tasks import TaskOwner
from handlers.daemon.notify import Notifier, report_status
from handlers.daemon.sockets import address, bind, inherit
from handlers.workers.connection_counts import ConnectionCounts
from handlers.workers.gathering import Gathering
from handlers.workers.lines import WorkerState
from handlers.workers.place import STATE_DIR
from handlers.workers.process import Recipe, Worker
from upstream.loop.threads import Threads

#: Exit statuses after which a new start cannot help, the worst first: see `handlers.commands.serve`.
FINAL: Final = (78, 70)
START_TRIES: Final = 3
START_SECONDS: Final = 120.0
#: Seconds before a worker is started again, after its first death in a row, the second, …
PAUSES: Final = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
#: A worker that has lived for this time was sound: the count of deaths in a row starts again.
SOUND_SECONDS: Final = 60.0
#: How long a worker may take to end beyond `server.drain_seconds`: less than TimeoutStopSec of the unit leaves.
KILL_SECONDS: Final = 15.0
#: A worker without a sign of life for this time is aborted, or for the interval of the manager's watchdog if that is
#: shorter.
SILENT_SECONDS: Final = 30.0
#: How long a reload may take: the worker reads the file within 30 s or not at all.
_RELOAD_SECONDS: Final = 35.0
#: The workers are told of changes together, this many seconds after the first.
_TELL_SECONDS: Final = 0.1

_logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Slot:
    """The place of one worker, which others take when it dies or is replaced; `deaths` in a row."""

    number: int
    worker: Worker | None = None
    deaths: int = 0
    was_ready: asyncio.Event = field(default_factory=asyncio.Event)


class Parent:
    """The parent process. `reread` reads the configuration again; `on_ready` is called with the daemon's origin."""

    def __init__(
        self,
        config: Config,
        reread: Callable[[], Config],
        on_ready: Callable[[str], None],
        command: Sequence[str] = (),
    ) -> None:
        self._config = config
        self._reread = reread
        self._on_ready = on_ready
        self._command = command or (sys.executable, *sys.orig_argv[1:])
        self._slots = [_Slot(number + 1) for number in range(config.server.workers)]
        self._living: set[Worker] = set()
        self._notifier = Notifier.inherited(os.environ)
        self._gathering = Gathering(self._living)
        self._counts_file = ConnectionCounts.create(config.server.workers)
        self._connection_counts = ConnectionCounts(os.dup(self._counts_file))
        self._reading = Threads("configuration", 1)
        self._stop = asyncio.Event()
        self._reload = asyncio.Event()
        self._reload_asked: list[tuple[Worker, object]] = []  # by workers, with the numbers of their questions
        self._log: object = None  # how the workers' logs are switched
        self._restart = asyncio.Event()
        self._telling: asyncio.TimerHandle | None = None
        self._is_ready = asyncio.Event()
        self._statuses: list[int] = []  # of the workers that mattered

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT; return the exit status. Raises StateError or CannotListen."""
        self._handle_signals()
        folder = StateFolder(self._config.server.state_dir)
        folder.prepare()
        with folder.hold() as lock:
            sockets = inherit() or bind(self._config)
            try:
                await self._serve(self._recipe(folder, sockets, lock), sockets[0])
            finally:
                for sock in sockets:
                    sock.close()
        return worst(self._statuses)

    def _recipe(self, folder: StateFolder, sockets: Sequence[socket.socket], lock: int) -> Recipe:
        """How to start workers. They hold the folder's lock with the parent, until the last of them has ended."""
        interval = min(SILENT_SECONDS, self._notifier.watchdog_seconds or SILENT_SECONDS)
        environ = {**os.environ, STATE_DIR: str(folder.path.absolute())}
        listening = [sock.fileno() for sock in sockets]
        code = secrets.token_urlsafe(16)
        return Recipe(self._command, environ, listening, self._counts_file, (lock,), interval, code)

    async def _serve(self, recipe: Recipe, sock: socket.socket) -> None:
        async with TaskOwner() as tasks:
            keepers = [tasks.spawn(self._keep(slot, recipe), name=f"worker {slot.number}") for slot in self._slots]
            others = (
                tasks.spawn(self._begin(sock), name="begin"),
                tasks.spawn(self._reload_when_told(), name="reload"),
                tasks.spawn(self._restart_when_told(recipe), name="restart workers"),
                tasks.spawn(report_status(self._notifier, self._status), name="status"),
                tasks.spawn(self._gathering.keep(), name="gather metrics"),
                tasks.spawn(self._watch(recipe.watchdog_seconds), name="watch workers"),
            )
            for task in (*keepers, *others):
                task.add_done_callback(self._task_ended)
            await self._stop.wait()
        self._notifier.stopping()
        await self._end_all()

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        """End the daemon after a bug of ours, for the service manager to start it again: half a parent is useless."""
        if not task.cancelled() and task.exception() is not None:
            self._statuses.append(1)
            self._stop.set()

    async def _begin(self, sock: socket.socket) -> None:
        """Say that the daemon is ready once all workers have been."""
        for slot in self._slots:
            await slot.was_ready.wait()
        self._is_ready.set()
        self._on_ready(address(sock.getsockname(), secure=self._config.server.tls_cert is not None))
        self._notifier.ready()

    async def _keep(self, slot: _Slot, recipe: Recipe) -> None:
        """Keep a worker running, until cancelled. Worker 1 starts alone, so that a problem of all is reported once."""
        if slot is not self._slots[0]:
            await self._slots[0].was_ready.wait()
        while True:
            worker = slot.worker = slot.worker or await self._start(slot, recipe)
            if await worker.begun():
                slot.was_ready.set()
            status = await worker.ends()
            if slot.worker is not worker:  # its successor has taken the place
                continue
            slot.worker = None
            lived = time.monotonic() - worker.began
            slot.deaths = 1 if lived >= SOUND_SECONDS else slot.deaths + 1
            if not self._is_ready.is_set() and (status in FINAL or slot.deaths >= START_TRIES):
                self._give_up(slot, status)
                return
            pause = PAUSES[min(slot.deaths, len(PAUSES)) - 1]
            _logger.error(
                "worker %d (process %d) ended unexpectedly, %s after %.0f s; it is started again%s",
                slot.number,
                worker.pid,
                how(status),
                lived,
                f" in {pause:g} s" if pause else "",
            )
            await asyncio.sleep(pause)

    async def _start(self, slot: _Slot, recipe: Recipe) -> Worker:
        """Start a worker; after a failure of the machine to do so, again and again."""
        while True:
            worker = Worker(slot.number, self._tell_soon, self._heard, self._gone)
            try:
                await worker.start(recipe)
            except OSError as error:  # no memory, no process: others may end
                _logger.error("worker %d cannot be started: %s", slot.number, error.strerror)
                await asyncio.sleep(PAUSES[-1])
                continue
            self._living.add(worker)
            self._tell_soon()
            return worker

    def _gone(self, worker: Worker) -> None:
        self._living.discard(worker)
        if not any(other.number == worker.number for other in self._living):
            self._connection_counts.leave(worker.number)
        self._gathering.retire(worker)

    def _give_up(self, slot: _Slot, status: int) -> None:
        times = "" if slot.deaths == 1 else f", {slot.deaths} times"
        what = "worker %d has ended before all workers were ready%s, %s (why is said above): the daemon gives up"
        _logger.critical(what, slot.number, times, how(status))
        self._statuses.append(status)
        self._stop.set()

    async def _end_all(self) -> None:
        """Drain all workers side by side."""
        seconds = self._config.server.drain_seconds + KILL_SECONDS
        statuses = await asyncio.gather(*(worker.end(seconds) for worker in self._living))
        # The signal itself ends a worker that does not listen to it yet, or no longer.
        self._statuses += (0 if status == -signal.SIGTERM else status for status in statuses)

    async def _restart_when_told(self, recipe: Recipe) -> None:
        """Replace all workers, one after the other, at each SIGUSR1, until cancelled."""
        while True:
            await self._restart.wait()
            await self._is_ready.wait()
            self._restart.clear()
            _logger.info("all workers are restarted, one after the other")
            for slot in self._slots:
                if not await self._replace(slot, recipe):
                    break
            else:
                _logger.info("all workers have been restarted")

    async def _replace(self, slot: _Slot, recipe: Recipe) -> bool:
        """Start a successor, and drain the worker once that is ready; return whether it is."""
        successor = await self._start(slot, recipe)
        if not await successor.begun():
            status = await successor.ends()
            what = "the restart is given up: worker %d's successor has ended before it was ready, %s; the workers go on"
            _logger.error(what, slot.number, how(status))
            return False
        before, slot.worker, slot.deaths = slot.worker, successor, 0
        if before is not None:
            before.send("succeeded")
            await before.end(self._config.server.drain_seconds + KILL_SECONDS)
        return True

    async def _reload_when_told(self) -> None:
        """Pass each SIGHUP on, and what a worker's dashboard asks for, until cancelled."""
        while True:
            await self._reload.wait()
            self._reload.clear()
            asking, self._reload_asked = self._reload_asked, []
            self._notifier.reloading()
            try:
                self._config = await self._reading.run(self._reread)
            except ConfigError:  # each worker says what is wrong
                pass
            else:
                log.configure(self._config.log.level, self._config.log.format, threaded=True)
            told = tuple(self._living)
            await asyncio.gather(*(worker.reload(_RELOAD_SECONDS) for worker in told))
            outcomes = [[each.number, each.reread] for each in sorted(told, key=lambda each: each.number)]
            for worker, number in asking:
                worker.send("reloaded", [number, outcomes])
            self._notifier.ready()

    async def _watch(self, seconds: float) -> None:
        """Abort workers that are silent for `seconds`, and feed the manager's watchdog while any is sound."""
        while True:
            now = time.monotonic()
            silent = [worker for worker in self._living if now - worker.heard > _patience(worker, seconds)]
            sound = [
                worker for worker in self._living if worker not in silent and worker.state is not WorkerState.STARTING
            ]
            for worker in silent:
                _logger.critical("worker %d (process %d) does not respond: it is aborted", worker.number, worker.pid)
            await asyncio.gather(*(worker.abort() for worker in silent))
            if sound:
                self._notifier.alive()
            await asyncio.sleep(seconds / 4)

    def _heard(self, worker: Worker, kind: str, value: Any) -> None:
        match kind, value:
            case "gather", _:
                self._gathering.ask(worker, value)
            case "reload", _:
                self._reload_asked.append((worker, value))
                self._reload.set()
            case "log", dict() | None:
                self._log = value
                for other in self._living:
                    other.send("log", value)

    def _tell_soon(self) -> None:
        """Send all workers the states of all, in a moment."""
        if self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(_TELL_SECONDS, self._tell)

    def _tell(self) -> None:
        self._telling = None
        gone = ({"worker": slot.number, "state": WorkerState.GONE} for slot in self._slots if slot.worker is None)
        roster = sorted((*(worker.row for worker in self._living), *gone), key=lambda row: str(row["worker"]))
        for worker in self._living:
            worker.send("roster", roster)
            if self._log is not None:  # for those that have started since
                worker.send("log", self._log)

    def _status(self) -> str:
        ready = sum(slot.worker is not None and slot.worker.state is WorkerState.READY for slot in self._slots)
        line = f"workers ready: {ready} of {len(self._slots)}; answers running: {self._answering}"
        return f"draining; {line}" if self._stop.is_set() else line

    @property
    def _answering(self) -> int:
        return sum(worker.answering for worker in self._living)

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop_or_hurry)
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)
        loop.add_signal_handler(signal.SIGUSR1, self._restart.set)
        loop.add_signal_handler(signal.SIGCHLD, self._reap)

    def _stop_or_hurry(self) -> None:
        if self._stop.is_set():
            for worker in self._living:
                worker.drain()
        self._stop.set()

    def _reap(self) -> None:
        for worker in tuple(self._living):
            worker.reap()


def _patience(worker: Worker, seconds: float) -> float:
    return START_SECONDS if worker.state is WorkerState.STARTING else seconds


def worst(statuses: Iterable[int]) -> int:
    """The worst exit status: those of FINAL, then that of a crash, which a signal is too, then any other than 0."""
    seen = {1 if status < 0 else status for status in statuses}
    return next((status for status in (*FINAL, 1, *sorted(seen, reverse=True)) if status in seen), 0)


def how(status: int) -> str:
    """An exit status in words."""
    if status < 0:
        try:
            return f"by {signal.Signals(-status).name}"
        except ValueError:  # a real-time signal
            return f"by signal {-status}"
    return f"with status {status}"
