"""The entries of ended requests in a bridge's activity log."""

from __future__ import annotations

from collections.abc import Sequence

from running import RunningBridge

from bridge.activity.entry import Entry
from bridge.activity.search import Query, Searches
from handlers.request.appkeys import ACTIVITY_STORE


async def kept(bridge: RunningBridge) -> Sequence[Entry]:
    """All entries, newest first."""
    await bridge.app[ACTIVITY_STORE].flush()
    return Searches(bridge.folder).find(Query()).entries
