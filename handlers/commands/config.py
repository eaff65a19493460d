"""`config`: the current settings, each with its origin; the file they are read from; and a check of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import click

from bridge.config.problems import ConfigError
from bridge.config.schema import KEYS, SECTIONS
from bridge.config.shown import ShownSetting, shown_settings
from handlers.commands.config_option import config_option, read_config
from handlers.commands.output import json_option, print_json
from handlers.commands.serve import EX_CONFIG
from handlers.commands.terminal import print_table
from upstream.protocol.printable import printable


@click.group()
@config_option
def config() -> None:
    """The configuration: bridge.toml, credentials and the environment together.

    It shows what a daemon would read now. The dashboard's Settings page shows what a running daemon has read.
    """


@config.command()
@config_option
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=lambda _, __, begun: _begin(begun))
@click.option("--set", "only_set", is_flag=True, help="Only settings that differ from their defaults.")
@json_option
def show(names: tuple[str, ...], only_set: bool, as_json: bool) -> None:
    """Show the settings, each with its origin.

    With NAMEs, such as `limits` or `server.port`, it shows only those. Secrets are shown only as set or not set. ↻
    marks settings that need a restart to change; for the others, `reload` is enough.
    """
    settings = read_config()
    found = [each for each in _named(shown_settings(settings), names) if not (only_set and each.is_default)]
    if as_json:
        source = None if settings.source is None else str(settings.source)
        print_json({"file": source, "settings": {each.name: each.to_json() for each in found}})
        return
    rows = [[each.name, each.text, "↻" if each.needs_restart else "", str(each.origin)] for each in found]
    print_table(("setting", "value", "", "from"), rows)
    click.echo(
        printable(f"file: {settings.source}") if settings.source else "file: none, so the defaults apply", err=True
    )


@config.command()
@config_option
def path() -> None:
    """Print the path of the configuration file; fails if there is none."""
    source = read_config().source
    if source is None:
        raise click.ClickException("there is no bridge.toml, neither here nor in ~/.config/lmarena-bridge")
    click.echo(printable(str(source)))


@config.command()
@config_option
@click.pass_context
def check(context: click.Context) -> None:
    """Check whether a daemon could use the configuration; the exit status is 78 if not.

    It checks only the configuration: `lmarena-bridge check` also asks the site.
    """
    try:
        settings = read_config()
    except ConfigError as error:
        for problem in error.problems:
            click.echo(printable(str(problem)), err=True)
        context.exit(EX_CONFIG)
    else:
        click.echo(printable(f"{settings.source or 'no bridge.toml, so the defaults apply'}: valid"))


def _begin(begun: str) -> list[str]:
    """The sections and keys that begin as typed."""
    return [name for name in (*SECTIONS, *KEYS) if name.startswith(begun)]


def _named(settings: Iterable[ShownSetting], names: Iterable[str]) -> Iterator[ShownSetting]:
    """The settings of these names or sections; all without names. Raises ClickException for an unknown name."""
    settings, wanted = tuple(settings), tuple(names)
    for name in wanted:
        if not any(name in (each.name, each.section) for each in settings):
            raise click.ClickException(f"there is no setting or section {name}; `config show` lists them all")
    return (each for each in settings if not wanted or {each.name, each.section} & set(wanted))
