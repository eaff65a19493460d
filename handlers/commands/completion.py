"""`completion`: the shell's completion script, and the completion of names."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem, get_completion_class

from bridge.config.file import load
from bridge.config.problems import ConfigError
from bridge.state.documents import StateFolder
from bridge.state.errors import StateError
from bridge.state.state import accounts_document, keys_document, models_document
from handlers.commands.config_option import config_option, config_path

_PROGRAM = "lmarena-bridge"
_VARIABLE = "_LMARENA_BRIDGE_COMPLETE"
_INSTALL = {
    "bash": f'eval "$({_PROGRAM} completion bash)"   # in ~/.bashrc',
    "zsh": f'eval "$({_PROGRAM} completion zsh)"   # in ~/.zshrc',
    "fish": f"{_PROGRAM} completion fish > ~/.config/fish/completions/{_PROGRAM}.fish",
}


@click.command(epilog="\n\n".join(f"\b\n{line}" for line in _INSTALL.values()))
@config_option
@click.argument("shell", type=click.Choice(list(_INSTALL)))
def completion(shell: str) -> None:
    """Print a script for your shell that completes commands.

    It completes options too, and the names of keys, accounts and models.
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.ClickException(f"click cannot complete for {shell}")
    click.echo(kind(click.get_current_context().find_root().command, {}, _PROGRAM, _VARIABLE).source())


def complete_key(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """The names of keys that begin as typed."""
    return _complete(context, begun, lambda folder: (each.name for each in asyncio.run(keys_document(folder).load())))


def complete_account(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """The labels of accounts that begin as typed."""
    return _complete(
        context, begun, lambda folder: [each.label for each in asyncio.run(accounts_document(folder).load())]
    )


def complete_model(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """The names of models that begin as typed."""
    return _complete(context, begun, lambda folder: [each.name for each in asyncio.run(models_document(folder).load())])


def _complete(
    context: click.Context, begun: str, names: Callable[[StateFolder], Iterable[str]]
) -> list[CompletionItem]:
    try:
        with context.scope(cleanup=False):
            config = load(config_path(), os.environ)
            folder = StateFolder(config.server.state_dir)
        if config.redis.url.value:  # a shell's prompt must not wait for a server
            return []
        return [CompletionItem(name) for name in names(folder) if name.startswith(begun)]
    except (ConfigError, StateError):  # the command itself says what is wrong
        return []
