"""The process: sockets, signals, drain."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from bridge import log
from bridge.config import Config, ConfigError
from bridge.store import StateFolder
from bridge.tasks import TaskOwner
from handlers.app import build_app, reload
from handlers.appkeys import DRAIN, SETTINGS
from handlers.listener import listen, open_sockets

#: How long answers may take to leave once they were told to end, in seconds.
_FAREWELL_SECONDS: Final = 3.0

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Service:
    """One daemon's life. `reread` gives the configuration as it stands on disk now; it may raise ConfigError."""

    config: Config
    reread: Callable[[], Config]
    on_ready: Callable[[str], None]
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _hurry: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain. Raises StateError, or OSError when the port cannot be had."""
        folder = StateFolder(self.config.server.state_dir)
        folder.prepare()
        with folder.hold():
            tls = tls_context(self.config)
            sockets = open_sockets(self.config.server.host, self.config.server.port)
            app = build_app(self.config, folder)
            runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=_FAREWELL_SECONDS)
            try:
                await runner.setup()
                servers = await listen(runner, sockets, tls)
                self._handle_signals(app)
                self.on_ready(address(sockets[0].getsockname(), secure=tls is not None))
                await self._stop.wait()
                _logger.info("stopping: %d answers are running", app[DRAIN].running)
                for server in servers:
                    server.close()
                await self._drain(app)
            finally:
                await runner.cleanup()
                for sock in sockets:
                    sock.close()

    async def _drain(self, app: web.Application) -> None:
        drain = app[DRAIN]
        async with TaskOwner() as tasks:
            hurry = tasks.spawn(self._hurry.wait(), name="second signal")
            patience = tasks.spawn(drain.drain(app[SETTINGS].config.server.drain_seconds), name="drain")
            await asyncio.wait((hurry, patience), return_when=asyncio.FIRST_COMPLETED)
        if drain.running:
            drain.cut()

    def _handle_signals(self, app: web.Application) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop_or_hurry)
        loop.add_signal_handler(signal.SIGHUP, self._reload, app)

    def _stop_or_hurry(self) -> None:
        (self._hurry if self._stop.is_set() else self._stop).set()

    def _reload(self, app: web.Application) -> None:
        """Take over bridge.toml as it stands now; a bad one changes nothing."""
        try:
            config = self.reread()
        except ConfigError as error:
            _logger.error("the configuration stays as it was: %s", error)  # noqa: TRY400 — the text says it all
            return
        log.configure(config.log.level, config.log.format, environ=os.environ)
        reload(app, config)
        _logger.info("the configuration was read anew")


def tls_context(config: Config) -> ssl.SSLContext | None:
    """The server's TLS context, if a certificate is configured. Raises OSError or ssl.SSLError."""
    if config.server.tls_cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(config.server.tls_cert, config.server.tls_key)
    return context


def address(name: tuple[str, int] | tuple[str, int, int, int], *, secure: bool) -> str:
    """A socket's name as a URL."""
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"{'https' if secure else 'http'}://{host}:{name[1]}"
