"""`serve`: run the daemon."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import Final

import click

from bridge import log
from bridge.config.file import ConfigSource
from bridge.config.problems import ConfigError, ConfigUnavailable
from bridge.state.documents import StateError, StateUnavailable
from handlers.commands.config_option import config_option, config_path
from handlers.daemon.service import CannotListen, Service
from handlers.request.aiohttp_internals import IncompatibleAiohttp

#: sysexits.h: the configuration, or the state, is wrong; starting again does not help.
EX_CONFIG: Final = 78
#: sysexits.h: the installation is wrong, and starting again does not help.
EX_SOFTWARE: Final = 70
#: sysexits.h: it may work later, without anybody's doing.
EX_TEMPFAIL: Final = 75

#: What keeps five starts from coming within ten seconds (`systemd/lmarena-bridge.service`).
_PAUSE_SECONDS: Final = 2.0

_logger = logging.getLogger(__name__)


@click.command()
@config_option
def serve() -> None:
    """Run the daemon (also without a command).

    SIGTERM and Ctrl-C let running answers end, a second one ends them; SIGHUP reads the configuration again. Exits 78
    on a bad configuration or state file, 75 while the disk refuses, 70 with a version of aiohttp that does not fit.
    """
    source = ConfigSource(config_path(), os.environ)
    by_socket = "LISTEN_FDS" in os.environ
    try:
        config = source.load()
        log.configure(config.log.level, config.log.format, threaded=True)
        try:
            asyncio.run(Service(config, source.reload, _say_ready).run())
        finally:
            log.flush()  # what is said below comes after it
    except (ConfigUnavailable, StateUnavailable) as error:
        if by_socket:  # callers' connections start it again at once, and too often for systemd
            time.sleep(_PAUSE_SECONDS)
        raise _Unavailable(str(error)) from error
    except (ConfigError, StateError) as error:
        raise _Misconfigured(str(error)) from error
    except IncompatibleAiohttp as error:
        raise _Incompatible(str(error)) from error
    except CannotListen as error:
        raise click.ClickException(str(error)) from error


class _Misconfigured(click.ClickException):
    exit_code = EX_CONFIG


class _Incompatible(click.ClickException):
    exit_code = EX_SOFTWARE


class _Unavailable(click.ClickException):
    exit_code = EX_TEMPFAIL


def _say_ready(url: str, setup_code: str | None) -> None:
    _logger.info("LMArena Bridge is ready on %s/v1", url)
    if setup_code is not None:  # behind the # it stays in the browser: no server is sent it, no log of a proxy's has it
        _logger.warning("the dashboard has no password yet; set it at %s/dashboard/setup#%s", url, setup_code)
