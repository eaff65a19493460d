"""`budgets.json`: the usage of the keys that have budgets, saved every few seconds and at shutdown."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from bridge.access.budgets import BUDGETS, Budgets
from bridge.state.formats import DocumentSource
from bridge.state.saving import saving
from bridge.tasks import TaskOwner

#: How often changes are saved, in seconds: a killed process loses at most the usage of this time.
SAVE_SECONDS: Final = 2.0


@asynccontextmanager
async def kept_budgets(
    source: DocumentSource, clock: Callable[[], float], *, shared: bool = False
) -> AsyncIterator[Budgets]:
    """Today's usage. If it is `shared`, the other processes' usage is learned even while there is none here."""
    document = source.open(BUDGETS)
    budgets = Budgets(clock, await document.load())

    async def write() -> None:
        part = budgets.unsaved
        budgets.mark_saved(part, await document.update(part.plus))

    async with saving("the usage of budgets is", write, "usage since the last save is not counted") as saver:

        async def save_if_changed() -> None:
            if shared or budgets.unsaved.keys:
                saver.mark_changed()

        async with TaskOwner() as tasks:
            tasks.every(SAVE_SECONDS, save_if_changed, name="save budgets")
            yield budgets
        await save_if_changed()
