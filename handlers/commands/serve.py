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
def serve() -> None:
    """Run the daemon (also without a command).

    SIGTERM and Ctrl-C shut down gracefully: running answers may finish; a second one ends them. SIGHUP reloads the
    configuration. Exits 78 on a bad configuration or state file, 75 on a temporary failure of the disk, 70 with an
    incompatible version of aiohttp.
    """
    source = ConfigSource(config_path(), os.environ)
    by_socket = "LISTEN_FDS" in os.environ
    try:
        config = source.load()
        log.configure(config.log.level, config.log.format, threaded=True)
        try:
            asyncio.run(Service(config, source.reload, _say_ready).run())
        finally:
            log.flush()  # so that the error below comes last
    except (ConfigUnavailable, StateUnavailable) as error:
        if by_socket:  # waiting connections restart it at once, too often for systemd
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
    if setup_code is not None:  # after the #, so that browsers do not send it and no proxy logs it
        _logger.warning("the dashboard has no password yet; set it at %s/dashboard/setup#%s", url, setup_code)
