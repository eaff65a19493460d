"""`--config FILE`, which every command accepts before or after its name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from bridge.config.schema import Config

_PATH: Final = "handlers.commands.config_option.path"


def _remember(context: click.Context, _: click.Parameter, path: Path | None) -> None:
    if path is not None:
        context.meta[_PATH] = path  # shared by nested contexts: the innermost option wins


config_option = click.option(
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    expose_value=False,
    callback=_remember,
    help="The configuration file; by default ./bridge.toml, or else the one in ~/.config/lmarena-bridge.",
)


def config_path() -> Path | None:
    """The file named on the command line, if any."""
    path: Path | None = click.get_current_context().meta.get(_PATH)
    return path


def read_config() -> Config:
    """Read the configuration for the running command. Raises ConfigError."""
    from bridge.config.file import load  # deferred: `--help` does not need it

    return load(config_path(), os.environ)
