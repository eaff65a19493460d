"""One worker as its parent sees it: a process, its state, and what it last reported."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bridge.tasks import set_within
from handlers.workers.lines import Lines, WorkerState
from handlers.workers.worker_arguments import VARIABLE, WorkerArguments

#: How long an aborted process may take to log its stack, in seconds.
ABORT_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """How workers are started: the command, their common arguments, and other descriptors to pass."""

    command: Sequence[str]
    environ: Mapping[str, str]
    sockets: Sequence[int]
    connection_counts: int
    other_descriptors: Sequence[int]
    watchdog_seconds: float
    setup_code: str = field(repr=False)


class Worker:
    """A worker process. `on_change` is called after each change of its state or report, `on_message` with its requests.

    It has ended once the process has exited and everything that it sent has been read; then `on_end` is called.
    """

    def __init__(
        self,
        number: int,
        on_change: Callable[[], None],
        on_message: Callable[[Worker, str, Any], None],
        on_end: Callable[[Worker], None],
    ) -> None:
        self.number = number
        self.state = WorkerState.STARTING
        #: Its health, as it last reported it.
        self.report: dict[str, Any] = {}
        #: Its metrics, likewise.
        self.metrics: list[Any] = []
        self.metrics_received = asyncio.Event()
        self._round = 0  # in which they were requested last
        self._was_ready = False
        self._started = asyncio.Event()  # ready for the first time, or ended
        self._ended = asyncio.Event()
        self.last_seen = self.began = time.monotonic()
        self._reloaded = asyncio.Event()
        #: Whether it could use the configuration that it last read again; None before it has reported that.
        self.reread_succeeded: bool | None = None
        self._on_change = on_change
        self._on_message = on_message
        self._on_end = on_end
        self._link_closed = False

    async def start(self, spec: LaunchSpec) -> None:
        """Start the process. Raises OSError."""
        ours, theirs = socket.socketpair()
        with theirs:
            sockets, seconds, code = tuple(spec.sockets), spec.watchdog_seconds, spec.setup_code
            arguments = WorkerArguments(self.number, theirs.fileno(), spec.connection_counts, sockets, seconds, code)
            try:
                # A group of its own, so that Ctrl-C in a terminal reaches the parent alone, which passes it on.
                self.process = subprocess.Popen(  # noqa: ASYNC220, S603 — returns once exec has begun; our own command
                    spec.command,
                    env={**spec.environ, VARIABLE: arguments.write()},
                    pass_fds=(theirs.fileno(), spec.connection_counts, *spec.sockets, *spec.other_descriptors),
                    process_group=0,
                )
            except OSError:
                ours.close()
                raise
        ours.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            _, self._lines = await loop.create_connection(lambda: Lines(self._on_line, self._on_link_closed), sock=ours)
        except BaseException:  # reraised; after a cancellation the process would have no owner
            self.process.kill()
            self.process.wait()
            raise

    @property
    def pid(self) -> int:
        """The process's id."""
        return self.process.pid

    @property
    def row(self) -> dict[str, object]:
        """Its row in the roster that all workers get (`WorkerRow`)."""
        return {"worker": self.number, "pid": self.pid, "state": self.state, "report": self.report}

    @property
    def answering(self) -> int:
        """The number of its running answers."""
        running = self.report.get("answering")
        return running if isinstance(running, int) else 0

    def send(self, kind: str, value: object = None) -> None:
        """Send a message."""
        self._lines.send(kind, value)

    def request_metrics(self, number: int) -> None:
        """Request its metrics, with the number of the round; `metrics_received` is set when they have arrived."""
        self._round = number
        self.metrics_received.clear()
        self.send("measure", number)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process still runs."""
        self.process.send_signal(number)  # does nothing once it has been reaped

    async def wait_until_ready(self) -> bool:
        """Wait until it is ready for the first time, or has ended; return whether it was ready."""
        await self._started.wait()
        return self._was_ready

    async def wait_until_ended(self) -> int:
        """Wait until it has ended; return its exit status, negative after a signal."""
        await self._ended.wait()
        status: int = self.process.returncode
        return status

    def reap(self) -> None:
        """Reap the process if it has exited."""
        if self.process.poll() is not None:
            self._end()

    async def reload(self, seconds: float) -> None:
        """Have it reload its configuration, and wait until it has, for at most `seconds`."""
        if self.state is WorkerState.STARTING:  # it is reading the file anyway, and the signal might kill it
            await set_within(self._started, seconds)
        if self.state in (WorkerState.READY, WorkerState.RELOADING):
            self._reloaded.clear()
            self.reread_succeeded = None
            self.signal(signal.SIGHUP)
            await set_within(self._reloaded, seconds)

    def drain(self) -> None:
        """Have it drain: stop accepting, and exit once its answers have ended. A second call ends those at once."""
        self._enter(WorkerState.DRAINING)
        self.signal(signal.SIGTERM)

    async def abort(self) -> None:
        """End it at once; it logs its stack if PYTHONFAULTHANDLER is set."""
        self.signal(signal.SIGABRT)
        await set_within(self._ended, ABORT_SECONDS)
        self.signal(signal.SIGKILL)

    async def end(self, seconds: float) -> int:
        """Drain it, and kill it if that takes longer than `seconds`; return its exit status."""
        self.drain()
        await set_within(self._ended, seconds)
        self.signal(signal.SIGKILL)
        return await self.wait_until_ended()

    def _on_line(self, kind: str, value: Any) -> None:
        match kind, value:
            case "notify", str(text):
                self._on_notification(text)
            case "report", dict(report):
                self.report = report
                self._on_change()
            case "measures", [int(number), list(metrics)]:
                self.metrics = metrics
                if number == self._round:
                    self.metrics_received.set()
            case "reread", bool(succeeded):
                self.reread_succeeded = succeeded
            case _:
                self._on_message(self, kind, value)

    def _on_notification(self, text: str) -> None:
        match text.partition("\n")[0]:
            case "READY=1":
                self.last_seen = time.monotonic()
                self._was_ready = True
                self._started.set()
                self._reloaded.set()
                if self.state is not WorkerState.DRAINING:
                    self._enter(WorkerState.READY)
            case "RELOADING=1" if self.state is WorkerState.READY:
                self._enter(WorkerState.RELOADING)
            case "STOPPING=1":
                self._enter(WorkerState.DRAINING)
            case "WATCHDOG=1":
                self.last_seen = time.monotonic()

    def _enter(self, state: WorkerState) -> None:
        if self.state is not state:
            self.state = state
            self._on_change()

    def _on_link_closed(self) -> None:
        self._link_closed = True
        self._reloaded.set()
        self.metrics_received.set()
        self.reap()

    def _end(self) -> None:
        if self._link_closed and not self._ended.is_set():
            self._ended.set()
            self._started.set()
            self._enter(WorkerState.GONE)
            self._on_end(self)
