"""The parent of several workers: starts them, restarts those that die, and passes signals on. It serves no requests.

The listening sockets are the parent's; its workers inherit them and all accept from the same queues, so that no
connection is lost with a worker. A worker runs the parent's own command line, with arguments in the environment
(`worker_arguments.py`), and reports to its parent over a pair of sockets (`lines.py`).

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
                SIGTERM, SIGINT                     draining; a second signal ends its answers
    draining    it ends                             (none)
                drain_seconds and KILL_SECONDS      killed
    any         the parent dies                     draining: the worker notices that its link is closed

The parent's exit status is the worst of the workers that made it give up, or that it ended.
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
from handlers.workers.process import LaunchSpec, Worker
from handlers.workers.worker_arguments import STATE_DIR
from upstream.loop.threads import Threads

#: Exit statuses after which another start cannot help, the worst first: see `handlers.commands.serve`.
FINAL: Final = (78, 70)
START_TRIES: Final = 3
START_SECONDS: Final = 120.0
#: Seconds before a worker is started again, after its first death in a row, the second, …
PAUSES: Final = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
#: After living for this long, a worker counts as sound: its death is the first in a row.
SOUND_SECONDS: Final = 10.0
#: How long a worker may take to end beyond `server.drain_seconds`: less than the unit's TimeoutStopSec allows.
KILL_SECONDS: Final = 15.0
#: A worker without a sign of life for this time is aborted, or for the interval of the manager's watchdog if that is
#: shorter.
SILENT_SECONDS: Final = 30.0
#: How long a reload may take: the worker reads the file within 30 s or not at all.
_RELOAD_SECONDS: Final = 35.0
#: The roster is sent this many seconds after the first of some changes.
_ROSTER_SECONDS: Final = 0.1

_logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Slot:
    """The slot of one worker, in which another is started when it dies or is replaced; `deaths` in a row."""

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
        self._counts_descriptor = ConnectionCounts.create(config.server.workers)
        self._connection_counts = ConnectionCounts(os.dup(self._counts_descriptor))
        self._reading = Threads("configuration", 1)
        self._stop = asyncio.Event()
        self._reload = asyncio.Event()
        self._reload_requests: list[tuple[Worker, object]] = []  # the workers, and the numbers of their requests
        self._log: object = None  # how the workers' logs are switched
        self._restart = asyncio.Event()
        self._roster_timer: asyncio.TimerHandle | None = None
        self._is_ready = asyncio.Event()
        self._statuses: list[int] = []  # those that decide on the parent's

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT; return the exit status. Raises StateError or CannotListen."""
        self._handle_signals()
        folder = StateFolder(self._config.server.state_dir)
        folder.prepare()
        with folder.hold() as lock:
            sockets = inherit() or bind(self._config)
            try:
                await self._serve(self._launch_spec(folder, sockets, lock), sockets[0])
            finally:
                for sock in sockets:
                    sock.close()
        return worst_status(self._statuses)

    def _launch_spec(self, folder: StateFolder, sockets: Sequence[socket.socket], lock: int) -> LaunchSpec:
        """How to start workers. They hold the folder's lock with the parent, until the last of them has ended."""
        interval = min(SILENT_SECONDS, self._notifier.watchdog_seconds or SILENT_SECONDS)
        environ = {**os.environ, STATE_DIR: str(folder.path.absolute())}
        listening = [sock.fileno() for sock in sockets]
        code = secrets.token_urlsafe(16)
        return LaunchSpec(self._command, environ, listening, self._counts_descriptor, (lock,), interval, code)

    async def _serve(self, spec: LaunchSpec, sock: socket.socket) -> None:
        async with TaskOwner() as tasks:
            spawned = [
                tasks.spawn(self._keep_running(slot, spec), name=f"worker {slot.number}") for slot in self._slots
            ]
            spawned += (
                tasks.spawn(self._announce(sock), name="announce"),
                tasks.spawn(self._reload_on_request(), name="reload"),
                tasks.spawn(self._restart_on_signal(spec), name="restart workers"),
                tasks.spawn(report_status(self._notifier, self._status), name="status"),
                tasks.spawn(self._gathering.serve(), name="gather metrics"),
                tasks.spawn(self._watch(spec.watchdog_seconds), name="watch workers"),
            )
            for task in spawned:
                task.add_done_callback(self._task_ended)
            await self._stop.wait()
        self._notifier.stopping()
        await self._end_all()

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        """End the daemon if a task has failed, so that the service manager starts it again."""
        if not task.cancelled() and task.exception() is not None:
            self._statuses.append(1)
            self._stop.set()

    async def _announce(self, sock: socket.socket) -> None:
        """Say that the daemon is ready once all workers have been."""
        for slot in self._slots:
            await slot.was_ready.wait()
        self._is_ready.set()
        self._on_ready(address(sock.getsockname(), secure=self._config.server.tls_cert is not None))
        self._notifier.ready()

    async def _keep_running(self, slot: _Slot, spec: LaunchSpec) -> None:
        """Keep a worker running, until cancelled. Worker 1 starts first, so that a common problem is reported once."""
        if slot is not self._slots[0]:
            await self._slots[0].was_ready.wait()
        while True:
            worker = slot.worker = slot.worker or await self._start(slot, spec)
            if await worker.wait_until_ready():
                slot.was_ready.set()
            status = await worker.wait_until_ended()
            if slot.worker is not worker:  # its successor has taken the slot
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
                describe_status(status),
                lived,
                f" in {pause:g} s" if pause else "",
            )
            await asyncio.sleep(pause)

    async def _start(self, slot: _Slot, spec: LaunchSpec) -> Worker:
        """Start a worker; retry as long as the machine cannot."""
        while True:
            worker = Worker(slot.number, self._send_roster_soon, self._on_message, self._on_end)
            try:
                await worker.start(spec)
            except OSError as error:  # no memory, or too many processes
                _logger.error("worker %d cannot be started: %s", slot.number, error.strerror)
                await asyncio.sleep(PAUSES[-1])
                continue
            self._living.add(worker)
            self._send_roster_soon()
            return worker

    def _on_end(self, worker: Worker) -> None:
        self._living.discard(worker)
        if not any(other.number == worker.number for other in self._living):
            self._connection_counts.clear(worker.number)
        self._gathering.retire(worker)

    def _give_up(self, slot: _Slot, status: int) -> None:
        times = "" if slot.deaths == 1 else f", {slot.deaths} times"
        what = "worker %d has ended before all workers were ready%s, %s (why is said above): the daemon gives up"
        _logger.critical(what, slot.number, times, describe_status(status))
        self._statuses.append(status)
        self._stop.set()

    async def _end_all(self) -> None:
        """Drain all workers concurrently, and note their exit statuses."""
        seconds = self._config.server.drain_seconds + KILL_SECONDS
        statuses = await asyncio.gather(*(worker.end(seconds) for worker in self._living))
        # A worker that does not handle SIGTERM yet, or any more, is killed by it.
        self._statuses += (0 if status == -signal.SIGTERM else status for status in statuses)

    async def _restart_on_signal(self, spec: LaunchSpec) -> None:
        """Replace all workers, one after the other, at each SIGUSR1, until cancelled."""
        while True:
            await self._restart.wait()
            await self._is_ready.wait()
            self._restart.clear()
            _logger.info("restarting all workers, one after the other")
            for slot in self._slots:
                if not await self._replace(slot, spec):
                    break
            else:
                _logger.info("all workers have been restarted")

    async def _replace(self, slot: _Slot, spec: LaunchSpec) -> bool:
        """Start a successor, and drain the worker once the successor is ready; return whether it became ready."""
        successor = await self._start(slot, spec)
        if not await successor.wait_until_ready():
            status = await successor.wait_until_ended()
            what = "the restart is given up: worker %d's successor has ended before it was ready, %s; the workers go on"
            _logger.error(what, slot.number, describe_status(status))
            return False
        before, slot.worker, slot.deaths = slot.worker, successor, 0
        if before is not None:
            before.send("succeeded")
            await before.end(self._config.server.drain_seconds + KILL_SECONDS)
        return True

    async def _reload_on_request(self) -> None:
        """Have all workers reload at each SIGHUP, and at the request of a worker's dashboard, until cancelled."""
        while True:
            await self._reload.wait()
            self._reload.clear()
            requests, self._reload_requests = self._reload_requests, []
            self._notifier.reloading()
            try:
                self._config = await self._reading.run(self._reread)
            except ConfigError:  # each worker logs what is wrong
                pass
            except Exception:  # logged: the task that reloads must not end, or the daemon would
                _logger.exception("the parent could not read the configuration again")
            else:
                log.configure(self._config.log.level, self._config.log.format, threaded=True)
            reloading = list(self._living)
            await asyncio.gather(*(worker.reload(_RELOAD_SECONDS) for worker in reloading))
            outcomes = [
                [each.number, each.reread_succeeded] for each in sorted(reloading, key=lambda each: each.number)
            ]
            for worker, number in requests:
                worker.send("reloaded", [number, outcomes])
            self._notifier.ready()

    async def _watch(self, seconds: float) -> None:
        """Abort workers without a sign of life for `seconds`; feed the manager's watchdog while any is sound."""
        while True:
            now = time.monotonic()
            silent = [worker for worker in self._living if now - worker.last_seen > _allowed_silence(worker, seconds)]
            sound = [
                worker for worker in self._living if worker not in silent and worker.state is not WorkerState.STARTING
            ]
            for worker in silent:
                _logger.critical("worker %d (process %d) does not respond: it is aborted", worker.number, worker.pid)
            await asyncio.gather(*(worker.abort() for worker in silent))
            if sound:
                self._notifier.alive()
            await asyncio.sleep(seconds / 4)

    def _on_message(self, worker: Worker, kind: str, value: Any) -> None:
        match kind, value:
            case "gather", _:
                self._gathering.ask(worker, value)
            case "reload", _:
                self._reload_requests.append((worker, value))
                self._reload.set()
            case "log", dict() | None:
                self._log = value
                for other in self._living:
                    other.send("log", value)

    def _send_roster_soon(self) -> None:
        """Send all workers the roster, in a moment."""
        if self._roster_timer is None:
            self._roster_timer = asyncio.get_running_loop().call_later(_ROSTER_SECONDS, self._send_roster)

    def _send_roster(self) -> None:
        self._roster_timer = None
        gone = ({"worker": slot.number, "state": WorkerState.GONE} for slot in self._slots if slot.worker is None)
        roster = sorted((*(worker.row for worker in self._living), *gone), key=lambda row: str(row["worker"]))
        for worker in self._living:
            worker.send("roster", roster)
            if self._log is not None:  # for workers that have started since
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


def _allowed_silence(worker: Worker, seconds: float) -> float:
    return START_SECONDS if worker.state is WorkerState.STARTING else seconds


def worst_status(statuses: Iterable[int]) -> int:
    """The worst exit status: those of FINAL, then 1 for a crash or a signal, then the highest."""
    seen = {1 if status < 0 else status for status in statuses}
    return next((status for status in (*FINAL, 1, *sorted(seen, reverse=True)) if status in seen), 0)


def describe_status(status: int) -> str:
    """An exit status in words, as in `ended, by SIGKILL`."""
    if status < 0:
        try:
            return f"by {signal.Signals(-status).name}"
        except ValueError:  # a real-time signal
            return f"by signal {-status}"
    return f"with status {status}"
