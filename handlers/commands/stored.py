"""A command's atomic read-modify-write of a state file, whether or not the daemon is running."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import click

from bridge.config.schema import Config
from bridge.state.documents import Document, StateFolder

T = TypeVar("T")


def update(config: Config, document: Callable[[StateFolder], Document[T]], change: Callable[[T], T]) -> T:
    """Apply `change` to the document on disk; a ValueError of `change` becomes the command's error message."""
    folder = StateFolder(config.server.state_dir)
    folder.prepare()
    try:
        return asyncio.run(document(folder).update(change))
    except ValueError as error:
        raise click.ClickException(str(error)) from error
