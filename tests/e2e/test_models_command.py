"""`models`: the catalog as a table, searched and filtered."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from commands import arun
from model_entries import entry

from bridge.state.admin import Admin, admin_document
from bridge.state.documents import StateFolder
from bridge.state.state import models_document
from upstream.arena import Arena
from upstream.protocol.models import read_entries

pytestmark = pytest.mark.usefixtures("elsewhere")


async def test_models_are_read_from_the_site_once_and_shown_as_a_table(arena: Arena) -> None:
    env = {"LMARENA_BRIDGE_UPSTREAM__BASE_URL": arena.origin}
    first = await arun("models", **env)
    assert first.exit_code == 0
    assert re.search(
        r"^name +organization +modality +input +output +rank +display name\s*$", first.stdout, re.MULTILINE
    )
    assert re.search(r"^gemini-4-pro +google +chat +image, text +text, web +1 ", first.stdout, re.MULTILINE)
    assert re.search(r"^amber-otter@[0-9a-f]{4} +stealth +chat ", first.stdout, re.MULTILINE)
    rows = first.stdout.splitlines()[2:]
    assert len(rows) == sum(model.user_selectable for model in arena.models)
    gone, arena.models = arena.models[3:], arena.models[:3]
    assert (await arun("models", **env)).stdout == first.stdout
    refreshed = await arun("models", "--refresh", **env)
    assert len(refreshed.stdout.splitlines()[2:]) == 3
    assert re.search(r"^gone: .* and \d+ more$", refreshed.stderr, re.MULTILINE)
    arena.models = (*arena.models, gone[0])
    assert f"new: {gone[0].public_name}" in (await arun("models", "--refresh", **env)).stderr


async def test_models_are_found_by_words_and_by_capability(arena: Arena) -> None:
    env = {"LMARENA_BRIDGE_UPSTREAM__BASE_URL": arena.origin}
    found = json.loads((await arun("models", "GEMINI", "google", "--sees", "--json", **env)).stdout)
    assert found
    assert all("gemini" in each["name"] and "image" in each["input"] for each in found)
    drawing = json.loads((await arun("models", "--draws", "--json", **env)).stdout)
    assert all("image" in each["output"] for each in drawing)
    none = await arun("models", "nonsense", **env)
    assert (none.exit_code, "no model matches all of these conditions" in none.stderr) == (1, True)


async def test_a_pattern_that_no_model_matches_is_reported(arena: Arena) -> None:
    env = {"LMARENA_BRIDGE_UPSTREAM__BASE_URL": arena.origin}
    assert "currently matches" not in (await arun("keys", "add", "--name", "a", "--models", "nonsense*", **env)).stderr
    await arun("models", **env)
    made = await arun("keys", "add", "--name", "b", "--models", "nonsense*,gemini*", **env)
    assert made.stderr.count("No model currently matches") == 1
    assert "No model currently matches 'nonsense*'" in made.stderr


async def test_display_names_that_differ_from_the_names_get_a_column() -> None:
    listed = [
        entry(id="1", publicName="otter-1", displayName="Otter One"),
        entry(id="2", publicName="otter-2", displayName="otter-2"),
        entry(id="3", publicName="otter-3", userSelectable=False),
    ]
    folder = StateFolder(Path("state"))
    folder.prepare()
    await models_document(folder).save(read_entries(listed).models)
    head, _, first, second = (await arun("models")).stdout.splitlines()
    assert re.fullmatch(r"name +organization +modality +input +output +rank +display name *", head)
    assert re.fullmatch(r"otter-1 +google +chat +image, text +text, web +1 +Otter One *", first)
    assert re.fullmatch(r"otter-2 +google +chat +image, text +text, web +1 *", second)
    await models_document(folder).save(read_entries(listed[1:]).models)
    assert "display name" not in (await arun("models")).stdout


async def test_the_dashboards_favourites_are_listed_first(arena: Arena) -> None:
    env = {"LMARENA_BRIDGE_UPSTREAM__BASE_URL": arena.origin}
    folder = StateFolder(Path("state"))
    folder.prepare()
    await admin_document(folder).save(Admin(favourites=("glm-5.2",)))
    assert (await arun("models", **env)).stdout.splitlines()[2].startswith("glm-5.2 ")
    first, second, *_ = json.loads((await arun("models", "--json", **env)).stdout)
    assert (first["name"], first["favourite"], second["favourite"]) == ("glm-5.2", True, False)


async def test_models_that_cannot_be_read_exit_1(arena: Arena) -> None:
    arena.clearance = "another"
    result = await arun("models", LMARENA_BRIDGE_UPSTREAM__BASE_URL=arena.origin)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    assert "cf_clearance" in result.stderr
