"""`serve`: run the daemon."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Final

import click

from bridge import log
from bridge.config_file import ConfigError, load
from bridge.store import StateError
from handlers.config_option import config_option, config_path
from handlers.service import CannotListen, Service

#: sysexits.h: the configuration, or the state, is wrong; starting again does not help.
EX_CONFIG: Final = 78

_logger = logging.getLogger(__name__)


@click.command()
@config_option
def serve() -> None:
    """Run the daemon (also without a command).

    SIGTERM and Ctrl-C let running answers end, a second one ends them; SIGHUP reads the configuration again. Exits 78
    on a bad configuration or state file.
    """
    path = config_path()
    try:
        config = load(path, os.environ)
        log.configure(config.log.level, config.log.format)
        # The file that was found once is the one to be read again: its absence then is an error, not the defaults.
        asyncio.run(Service(config, lambda: load(config.source or path, os.environ), _say_ready).run())
    except (ConfigError, StateError) as error:
        raise _Misconfigured(str(error)) from error
    except CannotListen as error:
        raise click.ClickException(str(error)) from error


class _Misconfigured(click.ClickException):
    exit_code = EX_CONFIG


def _say_ready(url: str, setup_code: str | None) -> None:
    _logger.info("LMArena Bridge is ready on %s/v1", url)
    if setup_code is not None:  # behind the # it stays in the browser: no server is sent it, no log of a proxy's has it
        _logger.warning("the dashboard has no password yet; set it at %s/dashboard/setup#%s", url, setup_code)
