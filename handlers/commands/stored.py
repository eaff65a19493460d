"""A command's change of a state file: read, changed and written in one, beside a running daemon or without one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import click

from bridge.config.schema import Config
from bridge.state.documents import Document, StateFolder

T = TypeVar("T")


def update(config: Config, document: Callable[[StateFolder], Document[T]], change: Callable[[T], T]) -> T:
    """Apply `change` to what is on disk; what it refuses (a ValueError) ends the command with its words."""
    folder = StateFolder(config.server.state_dir)
    folder.prepare()
    try:
        return asyncio.run(document(folder).update(change))
    except ValueError as error:
        raise click.ClickException(str(error)) from error
