"""`models`: the catalog as a table."""

from __future__ import annotations

import asyncio
import time

import click

from bridge import log
from bridge.config.schema import Config
from bridge.diagnosis import told
from bridge.models import Models
from bridge.state.documents import StateFolder
from bridge.state.state import State, models_document
from handlers.commands.config_option import config_option, read_config
from handlers.commands.terminal import print_table
from handlers.request.clearance import client_settings
from upstream import client
from upstream.loop.timers import Timers
from upstream.protocol.catalog import Catalog


@click.command()
@config_option
@click.option("--refresh", is_flag=True, help="Read the list from LMArena now.")
def models(refresh: bool) -> None:
    """Show the models as a table.

    It shows the list as last read; if there is none, or with --refresh, it reads the list from LMArena.
    """
    log.configure("error", "text")  # a failed reading is reported once, below
    catalog = asyncio.run(_catalog(read_config(), refresh=refresh))
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
    if any(display_names):  # a column only if it adds anything
        columns.append("display name")
        rows = [[*row, display_name or ""] for row, display_name in zip(rows, display_names, strict=True)]
    print_table(columns, rows)


async def _catalog(config: Config, *, refresh: bool) -> Catalog:
    folder = StateFolder(config.server.state_dir)
    state = State(folder, time.time)
    await state.load()
    async with client.connect(client_settings(config, state.admin.clearance), Timers()) as arena:
        found = Models(arena, models_document(folder), lambda: config, time.monotonic)
        await found.load()
        if refresh or found.catalog is None:
            folder.prepare()
            await found.refresh()
    if found.failure is not None:
        raise click.ClickException(told(found.failure))
    if found.catalog is None:
        raise click.ClickException("LMArena lists no model.")
    return found.catalog
