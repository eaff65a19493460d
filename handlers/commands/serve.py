"""`serve`: run the daemon."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

import click

from bridge import log
from bridge.config.file import ConfigSource
from bridge.config.origins import Origin, Setting, Source
from bridge.config.problems import ConfigError, ConfigUnavailable
from bridge.config.schema import Config
from bridge.diagnosis import ADD_ACCOUNT
from bridge.state.errors import StateError, StateUnavailable
from handlers.commands.config_option import config_option, config_path
from handlers.commands.importing import gc_paused
from handlers.daemon.sockets import CannotListen
from handlers.workers.worker_arguments import STATE_DIR, WorkerArguments

if TYPE_CHECKING:
    from handlers.daemon.service import Setup  # deferred, since a parent does not need it

#: sysexits.h: the configuration or the state is wrong; a restart does not help.
EX_CONFIG: Final = 78
#: sysexits.h: the installation is wrong; a restart does not help.
EX_SOFTWARE: Final = 70
#: sysexits.h: a temporary failure; a restart may help.
EX_TEMPFAIL: Final = 75

#: Long enough to prevent five starts within ten seconds (`systemd/lmarena-bridge.service`).
_PAUSE_SECONDS: Final = 2.0

_logger = logging.getLogger(__name__)


@click.command()
@config_option
@click.option("--host", help="Address to listen on, instead of server.host.")
@click.option("--port", type=click.IntRange(0, 65_535), help="Port to listen on, instead of server.port.")
def serve(host: str | None, port: int | None) -> None:
    """Run the daemon (also without a command).

    SIGTERM and Ctrl-C shut down gracefully: running answers may finish; a second signal ends them. SIGHUP reloads the
    configuration. SIGUSR1 restarts the worker processes one after the other, if there are several (server.workers).
    The exit status is 78 for a bad configuration or state file, 75 for a temporary failure of the disk, and 70 for an
    incompatible version of aiohttp.
    """
    given = (("--host", "server.host", host), ("--port", "server.port", port))
    fixed = [
        Setting(Origin(Source.COMMAND_LINE, option), name, value) for option, name, value in given if value is not None
    ]
    by_socket = "LISTEN_FDS" in os.environ
    try:
        worker = WorkerArguments.inherited(os.environ)
        if worker is not None:
            fixed.append(Setting(Origin(Source.PARENT), "server.state_dir", os.environ[STATE_DIR]))
        source = ConfigSource(config_path(), os.environ, fixed)
        config = source.load()
        number = None if worker is None else worker.number
        log.configure(config.log.level, config.log.format, threaded=True, worker=number)
        try:
            status = asyncio.run(_run(config, source.reload, worker))
        finally:
            log.flush()  # so that the error below comes last
    except (ConfigUnavailable, StateUnavailable) as error:
        if by_socket:  # waiting connections restart it at once, too often for systemd
            time.sleep(_PAUSE_SECONDS)
        raise _Unavailable(str(error)) from error
    except (ConfigError, StateError) as error:
        raise _Misconfigured(str(error)) from error
    except CannotListen as error:
        raise click.ClickException(str(error)) from error
    if status:
        raise SystemExit(status)


async def _run(config: Config, reread: Callable[[], Config], worker: WorkerArguments | None) -> int:
    """Run the daemon, one of its workers, or the workers' parent; return the exit status."""
    if worker is None and config.server.workers > 1:
        from handlers.workers.parent import Parent

        return await Parent(config, reread, partial(_say_ready, config)).run()
    with gc_paused():  # deferred, since a parent does not need it
        from handlers.daemon.service import Service
        from handlers.request.aiohttp_internals import IncompatibleAiohttp
    say_ready = partial(_say_ready, config) if worker is None else partial(_say_worker_ready, worker)
    try:
        await Service(config, reread, say_ready, () if worker is None else worker.open_sockets(), worker).run()
    except IncompatibleAiohttp as error:
        raise _Incompatible(str(error)) from error
    return 0


class _Misconfigured(click.ClickException):
    exit_code = EX_CONFIG


class _Incompatible(click.ClickException):
    exit_code = EX_SOFTWARE


class _Unavailable(click.ClickException):
    exit_code = EX_TEMPFAIL


def _say_worker_ready(worker: WorkerArguments, url: str, setup: Setup) -> None:
    _logger.info("the worker is ready")
    if worker.number == 1:  # what is set up is the same for all workers
        _say_next(url, setup)


def _say_ready(config: Config, url: str, setup: Setup | None = None) -> None:
    _logger.info("LMArena Bridge is ready on %s/v1", url)
    where = config.source or "no bridge.toml, so the defaults apply"
    _logger.info("dashboard: %s/dashboard; configuration: %s; state: %s", url, where, config.server.state_dir)
    if setup is not None:
        _say_next(url, setup)


def _say_next(url: str, setup: Setup) -> None:
    """Log what still has to be set up, and where."""
    if setup.code is not None:  # after the #, so that browsers do not send it and no proxy logs it
        _logger.warning("the dashboard has no password yet; set it at %s/dashboard/setup#%s", url, setup.code)
    if not setup.accounts:
        _logger.info("next: add an account, at %s/dashboard/accounts or with `%s`", url, ADD_ACCOUNT)
    if not setup.keys:
        _logger.info("next: make an API key, at %s/dashboard/keys or with `lmarena-bridge keys add --name NAME`", url)
