"""`state`: move the state between the state folder and Redis, while no daemon runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import click

from bridge.access.budgets import BUDGETS
from bridge.config.schema import Config
from bridge.state.admin import ADMIN
from bridge.state.documents import StateFolder
from bridge.state.formats import DocumentFormat, DocumentSource
from bridge.state.model_news import MODEL_NEWS
from bridge.state.modes import SITE
from bridge.state.state import ACCOUNTS, KEYS, MODELS
from bridge.statistics.file import stats_document
from handlers.commands.config_option import config_option, read_config
from handlers.daemon.sharing import sharing_of

if TYPE_CHECKING:
    from bridge.shared.sharing import Sharing

#: The documents that are moved, the accounts last, since their cookies must not be in use in both places.
_FORMS: Final[tuple[DocumentFormat[Any], ...]] = (KEYS, ADMIN, MODELS, MODEL_NEWS, SITE, BUDGETS, ACCOUNTS)

_replace = click.option(
    "--replace", is_flag=True, help="Replace the keys and accounts that the destination already has."
)


@click.group()
@config_option
def state() -> None:
    """Move the state between files and Redis, while no daemon runs.

    The state is keys, accounts, settings, models, budgets and statistics. Conversations are not moved.
    """


@state.command("import")
@config_option
@_replace
def import_state(replace: bool) -> None:
    """Move the state from the state folder to Redis."""
    asyncio.run(_import(read_config(), replace=replace))


@state.command("export")
@config_option
@_replace
def export_state(replace: bool) -> None:
    """Move the state from Redis to the state folder."""
    asyncio.run(_export(read_config(), replace=replace))


async def _import(config: Config, *, replace: bool) -> None:
    async with _both(config) as (folder, sharing):
        await _require_empty(sharing.documents, "Redis", replace=replace)
        for form in _FORMS:
            await sharing.documents.open(form).save(await folder.open(form).load())
        await sharing.stats.import_stats(await stats_document(folder, time.time).load())
        _say(await sharing.documents.open(KEYS).load(), await sharing.documents.open(ACCOUNTS).load(), "Redis")
        moved = folder.open(ACCOUNTS).path
        if moved.exists():
            moved.rename(moved.with_name("accounts.json.moved"))


async def _export(config: Config, *, replace: bool) -> None:
    async with _both(config) as (folder, sharing):
        await _require_empty(folder, "the state folder", replace=replace)
        for form in _FORMS:
            value = await sharing.documents.open(form).load()
            if form is ACCOUNTS:
                value = await sharing.waiting_cookies.applied(value)
            await folder.open(form).save(value)
        await stats_document(folder, time.time).save(await sharing.stats.read())
        _say(await folder.open(KEYS).load(), await folder.open(ACCOUNTS).load(), "the state folder")
        await sharing.forget(form.name for form in _FORMS)


@asynccontextmanager
async def _both(config: Config) -> AsyncIterator[tuple[StateFolder, Sharing]]:
    """The folder and Redis, neither of which a daemon is using. Raises ClickException and StateError."""
    folder = StateFolder(config.server.state_dir)
    sharing = sharing_of(config, folder)
    if sharing is None:
        raise click.ClickException("redis.url is empty: set it to the Redis to move the state to or from")
    folder.prepare()
    with folder.hold():
        async with sharing.connected():
            if sharing.trouble:
                raise click.ClickException(sharing.trouble)
            if sharing.others_run:
                raise click.ClickException("a daemon is using this Redis: stop it first, and wait five seconds")
            yield folder, sharing


async def _require_empty(target: DocumentSource, name: str, *, replace: bool) -> None:
    if not replace and (await target.open(KEYS).load() or await target.open(ACCOUNTS).load()):
        raise click.ClickException(f"{name} already has keys or accounts: use --replace to replace them")


def _say(keys: tuple[object, ...], accounts: tuple[object, ...], name: str) -> None:
    click.echo(f"{name} now has {len(keys)} keys and {len(accounts)} accounts.")
