"""The daemon process: sockets, signals, graceful shutdown, notifications to the service manager."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import logging
import os
import resource
import signal
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple

from aiohttp import web

from bridge.access.logins import SetupCode
from bridge.config.problems import ConfigError, Problem
from bridge.config.schema import Config
from bridge.state.documents import StateFolder
from bridge.state.regular_file import kind
from bridge.tasks import TaskOwner
from handlers.daemon.accepting import Listener
from handlers.daemon.app import build_app
from handlers.daemon.last_requests import take_last_requests
from handlers.daemon.listening import listen, stop_listening
from handlers.daemon.memory import COLLECT_SECONDS, GarbageCollector, resident_bytes, return_large_blocks
from handlers.daemon.notify import Notifier, feed_watchdog, report_status
from handlers.daemon.reloading import RELOADING, LogSwitch, Reloading, logging_as
from handlers.daemon.sockets import address, bind, inherit
from handlers.dashboard.login import SETUP, setup_code
from handlers.monitoring.health import report
from handlers.monitoring.metrics import METRICS
from handlers.request.aiohttp_internals import check_aiohttp
from handlers.request.appkeys import CONNECTION_LIMITS, DRAIN, SETTINGS, STATE, TASKS
from handlers.request.drain import Drain
from handlers.workers.link import LINK, ParentLink
from handlers.workers.worker_arguments import WorkerArguments

#: How long answers may take to send their errors when they are ended, in seconds.
_END_SECONDS: Final = 3.0
#: How long a connection may take to close once its answer has been written, in seconds.
_CLOSING_SECONDS: Final = 0.1
#: Garbage collection thresholds. With Python's defaults (700, 10, 10) the start of 200 streams would be delayed by
#: repeated collections of all their new objects. With these, a young object is visited twice, among 4,000 at most. A
#: full collection, which is slow, comes after 1.6 million new objects, or when memory has grown much
#: (`handlers.daemon.memory`).
_GC_THRESHOLDS: Final = (2_000, 1, 400)
#: Open files other than connections: listening sockets, state files, pipes of threads. The daemon starts with about 10.
_OTHER_FILES: Final = 50

_logger = logging.getLogger(__name__)


class Setup(NamedTuple):
    """What is set up at the start. `code` is for setting the dashboard's password; None if that is set."""

    code: str | None
    accounts: int
    keys: int


@dataclass(slots=True)
class Service:
    """One daemon. `reread` reads the configuration from disk again; it may raise ConfigError.

    `on_ready` is called with the daemon's origin, and with what is set up. `sockets` are already bound, and become the
    daemon's; without any, it uses those of the service manager, else it binds the configured address. `worker` is given
    to one of several workers, whose parent locks the state folder and passes sockets. `extend` makes additions to the
    app.
    """

    config: Config
    reread: Callable[[], Config]
    on_ready: Callable[[str, Setup], None]
    sockets: Sequence[socket.socket] = ()
    worker: WorkerArguments | None = None
    extend: Callable[[web.Application], None] = lambda _: None
    _notifier: Notifier = field(default_factory=lambda: Notifier.inherited(os.environ))
    _reload: asyncio.Event = field(default_factory=asyncio.Event)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _hurry: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain.

        Raises StateError, ConfigError, CannotListen or IncompatibleAiohttp.
        """
        check_aiohttp()
        return_large_blocks()
        self._handle_signals()
        folder = StateFolder(self.config.server.state_dir)
        folder.prepare()
        link = None if self.worker is None else ParentLink(self.worker, self._stop.set)
        with folder.hold() if link is None else folder.share():
            tls = tls_context(self.config)
            sockets = self.sockets or inherit() or bind(self.config)
            number = None if self.worker is None else self.worker.number
            app = build_app(self.config, folder, self.reread, logging_as(worker=number))
            self.extend(app)
            if link is not None and self.worker is not None:
                app[SETUP] = SetupCode(self.worker.setup_code)
                link.on_log = partial(_switch_log, app[RELOADING])
                app[LINK], self._notifier = link, await link.connect()
            app[CONNECTION_LIMITS].limit = _allow_open_files(sockets[0], self.config.limits.callers)
            runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=_CLOSING_SECONDS)
            servers: list[Listener] = []
            try:
                await runner.setup()
                servers = await listen(runner, sockets, tls)
                async with TaskOwner() as tasks:
                    tasks.spawn(self._reload_on_signal(app), name="reload")
                    tasks.spawn(report_status(self._notifier, partial(_status, app)), name="status")
                    tasks.spawn(feed_watchdog(self._notifier, (*tasks, *app[TASKS])), name="watchdog")
                    gc.freeze()  # objects loaded by now stay alive, so collections can skip them
                    gc.set_threshold(*_GC_THRESHOLDS)
                    if link is not None:
                        link.start_reporting(tasks, partial(report, app), app[METRICS].families)
                    collector = GarbageCollector(resident_bytes, lambda: app[DRAIN].running)
                    tasks.every(COLLECT_SECONDS, collector, name="collect garbage")
                    setup = Setup(setup_code(app), len(app[STATE].pool), len(app[STATE].keys))
                    self.on_ready(address(sockets[0].getsockname(), secure=tls is not None), setup)
                    self._notifier.ready()
                    await self._stop.wait()
                    self._notifier.stopping()
                    await stop_listening(servers)
                    await take_last_requests(runner, servers, lambda: link is not None and link.has_successor)
                    await self._drain(app[DRAIN], app[SETTINGS].config.server.drain_seconds)
            finally:
                for server in servers:
                    server.close()
                await runner.cleanup()
                if link is not None and METRICS in app:
                    await link.finish(app[METRICS].families)
                for sock in sockets:
                    sock.close()

    async def _drain(self, drain: Drain, seconds: float) -> None:
        """Refuse new requests; let answers finish for `seconds`, or until a second signal; then end them."""
        _logger.info("stopping: running answers (%d) have %g s to finish", drain.running, seconds)
        drain.begin()
        async with TaskOwner() as tasks:
            hurried = tasks.spawn(self._hurry.wait(), name="second signal")
            drained = tasks.spawn(drain.wait_until_idle(seconds), name="drain")
            await asyncio.wait((hurried, drained), return_when=asyncio.FIRST_COMPLETED)
        drain.end_answers()
        await drain.wait_until_idle(_END_SECONDS)

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop_or_hurry)
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)
        loop.add_signal_handler(signal.SIGUSR1, self._ignore_restart)

    def _stop_or_hurry(self) -> None:
        (self._hurry if self._stop.is_set() else self._stop).set()

    def _ignore_restart(self) -> None:
        """Ignore SIGUSR1, which is for a parent, instead of being killed by it."""
        if self.worker is None:
            _logger.warning("SIGUSR1 restarts workers, and server.workers is 1: nothing is restarted")

    async def _reload_on_signal(self, app: web.Application) -> None:
        """Reload bridge.toml at each SIGHUP, also one during the start, until cancelled."""
        while True:
            await self._reload.wait()
            self._reload.clear()
            self._notifier.reloading()
            outcome = await app[RELOADING].read_again()
            if LINK in app:
                app[LINK].report_reread(succeeded=not outcome.problems)
            self._notifier.ready()


def _switch_log(reloading: Reloading, value: Mapping[str, Any] | None) -> None:
    """Switch the log, as the dashboard of another worker was asked to."""
    reloading.switch_log(None if value is None else LogSwitch.read(value))


def _status(app: web.Application) -> str:
    pool, drain = app[STATE].pool, app[DRAIN]
    line = f"accounts usable: {len(pool.usable('chat'))} of {len(pool)}; answers running: {drain.running}"
    return f"draining; {line}" if drain.draining else line


def _allow_open_files(sock: socket.socket, callers: int) -> int:
    """Raise the limit of open files to what `callers` need: two for each, and a few more.

    Return how many open files connections may use.

    The default soft limit is 1,024. The kernel's table of descriptors is made to grow now: once there are threads, each
    doubling would stall all streams while the kernel waits until no CPU uses the old table (expand_fdtable in Linux's
    fs/file.c; seen with `perf sched`).
    """
    wanted = 2 * callers + 100
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if allowed < wanted:
        what = "%d callers (limits.streams, and those that wait) need %d open files; only %d are allowed (ulimit -Hn)"
        _logger.warning(what, callers, wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    os.close(fcntl.fcntl(sock, fcntl.F_DUPFD_CLOEXEC, allowed - 1))
    return allowed - min(_OTHER_FILES, allowed // 2)


def tls_context(config: Config) -> ssl.SSLContext | None:
    """The server's TLS context, if a certificate is configured. Raises ConfigError."""
    certificate = config.server.tls_cert
    if certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)

    def refuse() -> str:  # OpenSSL would ask for the passphrase on the terminal
        what = "is encrypted, and a daemon cannot ask for its passphrase: openssl pkey -in KEY -out NEW removes it"
        raise ConfigError(Problem(str(config.server.tls_key), "server.tls_key", what))

    try:
        for path in filter(None, (certificate, config.server.tls_key)):
            if found := kind(path.stat().st_mode):  # OpenSSL could block on it, or read it forever
                what = f"it and tls_key must be regular files; this is {found}"
                raise ConfigError(Problem(str(path), "server.tls_cert", what))
        context.load_cert_chain(certificate, config.server.tls_key, refuse)
    except OSError as error:  # includes ssl.SSLError
        what = f"it and tls_key are not a readable certificate and its key: {error.strerror or error}"
        raise ConfigError(Problem(str(certificate), "server.tls_cert", what)) from error
    return context
