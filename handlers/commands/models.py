"""`models`: the catalog as a table."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable, Sequence
from typing import Final

import click

from bridge import log
from bridge.config.schema import Config
from bridge.diagnosis import explain
from bridge.models import Models
from bridge.state.documents import StateFolder
from bridge.state.model_news import ModelNews, difference, kept_news
from bridge.state.state import MODELS, State
from handlers.commands.config_option import config_option, read_config
from handlers.commands.output import json_option, print_json
from handlers.commands.stored import source_of
from handlers.commands.terminal import print_table
from handlers.request.clearance import client_settings
from upstream import client
from upstream.loop.timers import Timers
from upstream.protocol.catalog import Catalog
from upstream.protocol.models import Model
from upstream.protocol.printable import printable

#: How many names of new models are shown.
_LISTED: Final = 10


@click.command()
@config_option
@click.argument("words", nargs=-1, metavar="[WORD]...")
@click.option("--refresh", is_flag=True, help="Read the list from LMArena now, and say what has changed.")
@click.option("--sees", is_flag=True, help="Only models that accept pictures.")
@click.option("--draws", is_flag=True, help="Only models that generate pictures.")
@json_option
def models(words: tuple[str, ...], refresh: bool, sees: bool, draws: bool, as_json: bool) -> None:
    """Show the models as a table, the dashboard's favourites first.

    With WORDs, it shows only models whose names or makers contain all of them. It shows the list that was last read; if
    there is none, or with --refresh, it reads the list from LMArena. On a terminal, a long table goes through a pager.
    """
    log.configure("error", "text")  # a failed reading is reported once, below
    before, catalog, favourites, news = asyncio.run(_catalogs(read_config(), refresh=refresh))
    found = [
        (name, model)
        for name, model in catalog
        if _is_about(model, words) and (not sees or "image" in model.inputs) and (not draws or "image" in model.outputs)
    ]
    found.sort(key=lambda row: row[0] not in favourites)
    if refresh and before is not None:
        _show_changes(before.models, catalog.models)
    if as_json:
        now = time.time()
        print_json(
            [
                {**_row(name, model), "favourite": name in favourites, "new": news.is_new(model.name, now)}
                for name, model in found
            ]
        )
    elif found:
        _show(found)
    else:
        raise click.ClickException("no model matches all of these conditions")


def _is_about(model: Model, words: Iterable[str]) -> bool:
    about = f"{model.name} {model.display_name} {model.organization or 'stealth'}".lower()
    return all(word.lower() in about for word in words)


def _show_changes(before: Iterable[Model], now: Iterable[Model]) -> None:
    """Say on stderr what has changed in the new list."""
    found = difference(before, now)
    for change, names in (("new", found.new), ("gone", [model.name for model in found.gone])):
        if names:
            more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
            click.echo(f"{change}: {', '.join(map(printable, names[:_LISTED]))}{more}", err=True)
    if not (found.new or found.gone):
        click.echo("No models were added or removed.", err=True)


def _row(name: str, model: Model) -> dict[str, object]:
    """A model for `--json`."""
    return {
        "name": name,
        "id": model.id,
        "display_name": model.display_name,
        "organization": model.organization,
        "modality": "video" if model.video else model.modality,
        "input": sorted(model.inputs),
        "output": sorted(model.outputs),
        "rank": model.rank,
    }


def _show(catalog: Sequence[tuple[str, Model]]) -> None:
    columns = ["name", "organization", "modality", "input", "output", "rank"]
    display_names = [model.display_name if model.display_name != model.name else None for _, model in catalog]
    rows = [
        [
            name,
            model.organization or "stealth",
            "video" if model.video else model.modality,
            ", ".join(sorted(model.inputs)),
            ", ".join(sorted(model.outputs)),
            "" if model.rank is None else str(model.rank),
        ]
        for name, model in catalog
    ]
    if any(display_names):  # only if a name differs
        columns.append("display name")
        rows = [[*row, display_name or ""] for row, display_name in zip(rows, display_names, strict=True)]
    print_table(columns, rows, paged=True)


async def _catalogs(config: Config, *, refresh: bool) -> tuple[Catalog | None, Catalog, Collection[str], ModelNews]:
    """The list that was last read, the current list, the names of the dashboard's favourites, and what has changed."""
    async with source_of(config) as source:
        state = State(source, time.time)
        await state.load()
        settings = client_settings(config, state.admin.clearance)
        async with kept_news(source, time.time) as news, client.connect(settings, Timers()) as arena:
            found = Models(arena, source.open(MODELS), lambda: config, time.monotonic, news.record)
            await found.load()
            before = found.catalog
            if refresh or found.catalog is None:
                StateFolder(config.server.state_dir).prepare()
                await found.refresh()
            latest = await news.read()
    if found.failure is not None:
        raise click.ClickException(explain(found.failure))
    if found.catalog is None:
        raise click.ClickException("LMArena lists no models.")
    return before, found.catalog, state.admin.favourites, latest
