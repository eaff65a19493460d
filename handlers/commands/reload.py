"""`reload`: tell the running daemon to reload bridge.toml, or to restart its worker processes."""

from __future__ import annotations

import os
import signal

import click

from bridge.state.documents import StateFolder
from handlers.commands.config_option import config_option, read_config


@click.command()
@config_option
@click.option("--restart", is_flag=True, help="Restart the worker processes instead, one after the other.")
def reload(restart: bool) -> None:
    """Make the running daemon reload bridge.toml.

    With --restart, its worker processes (server.workers) are replaced one after the other by processes of the version
    that is now installed: no request is refused, and running answers may finish within server.drain_seconds. The
    daemon's log has the outcome.
    """
    config = read_config()
    if restart and config.server.workers == 1:
        raise click.ClickException(
            "server.workers is 1: no other process would serve meanwhile. Restart the service instead: with its socket"
            " unit, clients wait and none is refused."
        )
    holder = StateFolder(config.server.state_dir).holder()
    if not holder:
        raise click.ClickException(f"no daemon is running with the state folder {config.server.state_dir}")
    try:
        os.kill(holder, signal.SIGUSR1 if restart else signal.SIGHUP)
    except ProcessLookupError as error:  # the parent was killed: its workers hold the folder until they end
        raise click.ClickException(f"the daemon, process {holder}, has died, and its workers are ending") from error
    except PermissionError as error:
        raise click.ClickException(f"process {holder} is another user's: run this as root or as that user") from error
    what = "restarts its workers, one after the other" if restart else "reloads its configuration"
    click.echo(f"The daemon (process {holder}) {what}; its log has the outcome.")
