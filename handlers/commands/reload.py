"""`reload`: tell the running daemon to read bridge.toml again, or to restart its worker processes."""

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
    """Make the running daemon read bridge.toml again.

    With --restart its worker processes (server.workers) are replaced one after the other, by processes of the version
    that is installed now: nobody is refused, and running answers may finish within server.drain_seconds. What comes of
    it is in the daemon's log.
    """
    config = read_config()
    if restart and config.server.workers == 1:
        raise click.ClickException(
            "server.workers is 1: no other process would serve meanwhile. Restart the service instead: with its socket"
            " unit, callers wait and none is refused."
        )
    holder = StateFolder(config.server.state_dir).holder()
    if not holder:
        raise click.ClickException(f"no daemon runs with the state folder {config.server.state_dir}")
    try:
        os.kill(holder, signal.SIGUSR1 if restart else signal.SIGHUP)
    except ProcessLookupError as error:  # a parent that was killed: its workers end now, and hold the folder until then
        raise click.ClickException(f"the daemon, process {holder}, has died, and its workers are ending") from error
    except PermissionError as error:
        raise click.ClickException(f"process {holder} is another user's: run this as root or as that user") from error
    what = "restarts its workers, one after the other" if restart else "reads its configuration again"
    click.echo(f"The daemon (process {holder}) {what}: its log says how that went.")
