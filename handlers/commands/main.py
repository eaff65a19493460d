"""The command line, `lmarena-bridge` or `python -m bridge`. A command's module is imported when the command runs."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

import click

import bridge
from bridge import log
from handlers.commands.config_option import config_option
from handlers.commands.importing import gc_paused

#: For each command its module, and its line in the list of commands, which does not import the module.
COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "serve": ("handlers.commands.serve", "Run the daemon (also without a command)."),
    "reload": ("handlers.commands.reload", "Make the running daemon reload bridge.toml."),
    "demo": ("handlers.commands.demo", "Run the daemon against an embedded arena."),
    "config": ("handlers.commands.config", "The configuration: bridge.toml, credentials and the environment together."),
    "check": ("handlers.commands.check", "Report line by line what works."),
    "chat": ("handlers.commands.chat", "Chat in the terminal through a running bridge."),
    "keys": ("handlers.commands.keys", "API keys, with which clients authenticate to the bridge."),
    "accounts": ("handlers.commands.accounts", "LMArena accounts, with which the bridge logs in to the site."),
    "activity": ("handlers.commands.activity", "Show the requests that have ended."),
    "record": ("handlers.commands.record", "Record one call with its bytes and times, without secrets."),
    "replay": ("handlers.commands.replay", "Replay a recorded call, without the site."),
    "models": ("handlers.commands.models", "Show the models as a table, the dashboard's favourites first."),
    "state": ("handlers.commands.state", "Move the state between files and Redis, while no daemon runs."),
    "password": ("handlers.commands.password", "Set the dashboard's password."),
    "completion": ("handlers.commands.completion", "Print a script for your shell that completes commands."),
}


def _command(name: str) -> click.Command:
    with gc_paused():
        command: click.Command = getattr(import_module(COMMANDS[name][0]), name)
    return command


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 — click's own signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 — click's own signature
        return _command(cmd_name) if cmd_name in COMMANDS else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 — click's own signature
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        # Deferred: `--help` does not need it, and every command does.
        with gc_paused():
            from bridge.config.problems import ConfigError
            from bridge.state.errors import StateError
            from upstream.protocol.printable import readable

        try:
            return super().invoke(ctx)
        except (ConfigError, StateError) as error:
            raise click.ClickException(readable(str(error))) from error
        except click.UsageError:  # it quotes only what the user typed
            raise
        except click.ClickException as error:  # it may quote a server, a file, a name
            shown = click.ClickException(readable(error.message))
            vars(shown).update(exit_code=error.exit_code)  # click has it as a class attribute
            raise shown from error


@click.group(cls=_Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(bridge.__version__)
@config_option
@click.pass_context
def main(context: click.Context) -> None:
    """LMArena's models for any OpenAI client, through a daemon on your own machine."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # an answer may contain characters outside the terminal's encoding
            stream.reconfigure(errors="replace")
    log.configure("warning", "text")
    if context.invoked_subcommand is None:
        context.invoke(_command("serve"))
