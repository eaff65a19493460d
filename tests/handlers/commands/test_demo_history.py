"""The made-up history of `demo --lived-in`: the statistics and Activity agree on the requests."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from dashboard import Dashboard
from running import api_key, running_bridge

from bridge.activity.search import Query, Searches
from bridge.state.documents import StateFolder
from bridge.state.state import keys_document
from bridge.statistics.file import stats_document
from handlers.commands import demo
from handlers.commands.demo_history import DAY, KEPT, TOOLS, history, live_in
from handlers.request.appkeys import MODELS as MODELS_READ
from upstream.arena import Arena

MODELS = ("gpt-4o", "otter-1", "claude-5")
ACCOUNTS = ("ada@example.org", "office@example.org")
#: More days than Activity keeps, and few requests.
SPAN: Any = {"days": KEPT.days + 2, "gap": 600}


async def test_statistics_and_activity_agree_on_the_requests(tmp_path: Path) -> None:
    now = time.time()
    folder = StateFolder(tmp_path / "state")
    folder.prepare()
    await live_in(folder, MODELS, ACCOUNTS, now=now, **SPAN)
    made = list(history(MODELS, ACCOUNTS, now=now, **SPAN))
    stats = await stats_document(folder, lambda: now).load()
    assert stats.reasons == Counter(entry.word for entry in made)
    assert {name: use.requests for name, use in stats.keys.items()} == Counter(entry.key for entry in made)
    assert set(stats.keys) == {tool.name for tool in TOOLS}
    assert set(stats.accounts) == set(ACCOUNTS)
    recent = [entry for entry in made if (entry.at + entry.seconds) // DAY > now // DAY - KEPT.days]
    found = Searches(folder).find(Query())
    assert found.total == len(recent) < len(made)
    assert found.entries[0].id == max(made, key=lambda entry: entry.at + entry.seconds).id
    assert {entry.model for entry in made if entry.key == "phone"} == {"gpt-4o", "claude-5"}


async def test_a_lived_in_demo_has_content_on_every_page(
    arena: Arena, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "DAYS", 1)
    folder = StateFolder(tmp_path / "state")
    folder.prepare()
    _, key = api_key(name="demo")
    await demo._live_in(folder, key, arena)
    async with running_bridge(arena, tmp_path / "state") as bridge:
        await bridge.app[MODELS_READ].available()
        dashboard = Dashboard(bridge)
        await dashboard.enter()
        assert "nightly-report" in (await dashboard.get("/dashboard")).text
        assert "every night at two" in (await dashboard.get("/dashboard/keys")).text
        assert "office" in (await dashboard.get("/dashboard/accounts")).text
        assert "ktor-client" in (await dashboard.get("/dashboard/activity?key=phone")).text
    assert {each.name for each in await keys_document(folder).load()} >= {"demo", "phone"}
