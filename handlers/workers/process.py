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
from handlers.workers.place import VARIABLE, WorkerPlace

#: How long an aborted process may take to log its stack, in seconds.
ABORT_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """How workers are started: the command, what their places have, and other descriptors to pass."""

    command: Sequence[str]
    environ: Mapping[str, str]
    sockets: Sequence[int]
    connection_counts: int
    kept: Sequence[int]
    watchdog_seconds: float
    setup_code: str = field(repr=False)


class Worker:
    """A started worker. `on_change` is called after each change of its state or report, `on_message` with the rest.

    It has ended once the process has exited and all that it wrote to its parent has been read; `on_end` is called then.
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
        self.measures: list[Any] = []
        self.measured = asyncio.Event()
        self._round = 0  # in which they were asked for
        self._was_ready = False
        self._begun = asyncio.Event()  # ready for the first time, or ended
        self._ended = asyncio.Event()
        self.heard = self.began = time.monotonic()
        self._settled = asyncio.Event()
        #: Whether it could use the configuration that it last read again; None before it has said so.
        self.reread: bool | None = None
        self._on_change = on_change
        self._on_message = on_message
        self._on_end = on_end
        self._silent = False  # its end of the link is closed

    async def start(self, recipe: Recipe) -> None:
        """Start the process. Raises OSError."""
        ours, theirs = socket.socketpair()
        with theirs:
            sockets, seconds, code = tuple(recipe.sockets), recipe.watchdog_seconds, recipe.setup_code
            place = WorkerPlace(self.number, theirs.fileno(), recipe.connection_counts, sockets, seconds, code)
            try:
                # A group of its own, so that Ctrl-C in a terminal reaches the parent alone, which passes it on.
                self.process = subprocess.Popen(  # noqa: ASYNC220, S603 — returns once exec has begun; our own command
                    recipe.command,
                    env={**recipe.environ, VARIABLE: place.write()},
                    pass_fds=(theirs.fileno(), recipe.connection_counts, *recipe.sockets, *recipe.kept),
                    process_group=0,
                )
            except OSError:
                ours.close()
                raise
        ours.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            _, self._lines = await loop.create_connection(lambda: Lines(self._hear, self._hear_end), sock=ours)
        except BaseException:  # cancelled: nobody would own the process
            self.process.kill()
            self.process.wait()
            raise

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def row(self) -> dict[str, object]:
        """What the other workers are told about it (`WorkerRow`)."""
        return {"worker": self.number, "pid": self.pid, "state": self.state, "report": self.report}

    @property
    def answering(self) -> int:
        """The number of its running answers."""
        running = self.report.get("answering")
        return running if isinstance(running, int) else 0

    def send(self, kind: str, value: object = None) -> None:
        """Send a message."""
        self._lines.send(kind, value)

    def measure(self, number: int) -> None:
        """Ask for its metrics in the round of this number; `measured` is set when they have come."""
        self._round = number
        self.measured.clear()
        self.send("measure", number)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process still runs."""
        self.process.send_signal(number)  # does nothing once it has been reaped

    async def begun(self) -> bool:
        """Wait until it is ready for the first time, or has ended; return whether it was ready."""
        await self._begun.wait()
        return self._was_ready

    async def ends(self) -> int:
        """Wait until it has ended; return its exit status, negative after a signal."""
        await self._ended.wait()
        status: int = self.process.returncode
        return status

    def reap(self) -> None:
        """Take note if the process has exited."""
        if self.process.poll() is not None:
            self._end()

    async def reload(self, seconds: float) -> None:
        """Make it reload its configuration, and wait until it has, for at most `seconds`."""
        if self.state is WorkerState.STARTING:  # it reads the file, or has just read it, and a signal might kill it
            await set_within(self._begun, seconds)
        if self.state in (WorkerState.READY, WorkerState.RELOADING):
            self._settled.clear()
            self.reread = None
            self.signal(signal.SIGHUP)
            await set_within(self._settled, seconds)

    def drain(self) -> None:
        """Make it end: it accepts no more, and its running answers may finish. A second time, they are cut."""
        self._enter(WorkerState.DRAINING)
        self.signal(signal.SIGTERM)

    async def abort(self) -> None:
        """End it at once, with its stack in the log where the environment asks for that (PYTHONFAULTHANDLER)."""
        self.signal(signal.SIGABRT)
        await set_within(self._ended, ABORT_SECONDS)
        self.signal(signal.SIGKILL)

    async def end(self, seconds: float) -> int:
        """Drain it, and kill it if that takes longer than `seconds`; return its exit status."""
        self.drain()
        await set_within(self._ended, seconds)
        self.signal(signal.SIGKILL)
        return await self.ends()

    def _hear(self, kind: str, value: Any) -> None:
        match kind, value:
            case "notify", str(text):
                self._notified(text)
            case "report", dict(report):
                self.report = report
                self._on_change()
            case "measures", [int(number), list(measures)]:
                self.measures = measures
                if number == self._round:
                    self.measured.set()
            case "reread", bool(well):
                self.reread = well
            case _:
                self._on_message(self, kind, value)

    def _notified(self, text: str) -> None:
        match text.partition("\n")[0]:
            case "READY=1":
                self.heard = time.monotonic()
                self._was_ready = True
                self._begun.set()
                self._settled.set()
                if self.state is not WorkerState.DRAINING:
                    self._enter(WorkerState.READY)
            case "RELOADING=1" if self.state is WorkerState.READY:
                self._enter(WorkerState.RELOADING)
            case "STOPPING=1":
                self._enter(WorkerState.DRAINING)
            case "WATCHDOG=1":
                self.heard = time.monotonic()

    def _enter(self, state: WorkerState) -> None:
        if self.state is not state:
            self.state = state
            self._on_change()

    def _hear_end(self) -> None:
        self._silent = True
        self._settled.set()
        self.measured.set()
        self.reap()

    def _end(self) -> None:
        if self._silent and not self._ended.is_set():
            self._ended.set()
            self._begun.set()
            self._enter(WorkerState.GONE)
            self._on_end(self)
