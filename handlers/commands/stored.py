"""Lets commands read and change the state, in files or in Redis, whether or not a daemon is running."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import click

from bridge.config.schema import Config
from bridge.state.documents import StateFolder
from bridge.state.errors import StateUnavailable
from bridge.state.formats import DocumentFormat, DocumentSource
from handlers.daemon.sharing import sharing_of

T = TypeVar("T")


def load(config: Config, form: DocumentFormat[T]) -> T:
    """Read a document. Raises StateError."""

    async def read() -> T:
        async with source_of(config) as source:
            return await source.open(form).load()

    return asyncio.run(read())


def update(config: Config, form: DocumentFormat[T], change: Callable[[T], T]) -> T:
    """Apply `change` to a document; a ValueError of `change` becomes the command's error message. Raises StateError."""

    async def write() -> T:
        StateFolder(config.server.state_dir).prepare()
        async with source_of(config) as source:
            return await source.open(form).update(change)

    try:
        return asyncio.run(write())
    except ValueError as error:
        raise click.ClickException(str(error)) from error


@asynccontextmanager
async def source_of(config: Config) -> AsyncIterator[DocumentSource]:
    """The source of the documents. Raises StateUnavailable if they are in Redis and it cannot be used."""
    folder = StateFolder(config.server.state_dir)
    sharing = sharing_of(config, folder)
    if sharing is None:
        yield folder
        return
    async with sharing.connected():
        if sharing.trouble:
            raise StateUnavailable(f"{sharing.trouble}. Nothing was changed")
        yield sharing.documents
