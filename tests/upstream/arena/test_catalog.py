"""The model catalog of 2026, compared with the list on the page."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from upstream.arena import Arena

if TYPE_CHECKING:
    from tests.upstream.arena.conftest import Caller

CATALOG = "/nextjs-api/model-catalog"
pytestmark = pytest.mark.parametrize("arena", [2026], indirect=True)


async def groups(caller: Caller) -> dict[str, list[dict[str, Any]]]:
    answer = await caller.page(CATALOG, cookie="")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    found = json.loads(answer.body)
    assert {tuple(sorted(group)) for group in found} == {("arena", "complete", "models")}
    assert all(group["complete"] is True for group in found)
    return {group["arena"]: group["models"] for group in found}


async def test_the_catalog_lists_every_model_in_its_groups(arena: Arena, caller: Caller) -> None:
    found = await groups(caller)
    assert list(found) == ["text", "code", "document", "text-to-image", "text-to-video", "search"]
    ids = {name: {entry["id"] for entry in entries if "id" in entry} for name, entries in found.items()}
    assert set().union(*ids.values()) == {model.id for model in arena.models}
    assert ids["document"] == {arena.model(name).id for name in ("claude-opus-5-2", "archivist-2")}
    assert ids["document"] < ids["text"] & ids["code"]
    assert arena.model("gpt-image-3").id in ids["text-to-image"] - ids["text"]
    assert arena.model("veo-4-edit").id in ids["text-to-video"] - ids["text"]
    assert arena.model("hazel-search").id in ids["search"] - ids["text"]
    assert arena.model("riverstone").id in ids["code"] - ids["text"]


async def test_the_catalog_has_one_unreadable_entry_and_no_ranks(caller: Caller) -> None:
    entries = [entry for group in (await groups(caller)).values() for entry in group]
    assert sum("id" not in entry for entry in entries) == 1
    assert not any("rank" in entry or "rankByModality" in entry for entry in entries)


async def test_the_catalog_has_display_names_and_unselectable_models(arena: Arena, caller: Caller) -> None:
    entries = {entry["id"]: entry for group in (await groups(caller)).values() for entry in group if "id" in entry}
    shown = {entry["publicName"]: entry.get("displayName") for entry in entries.values()}
    assert shown["kimi-k3-turbo"] == "kimi-k2.9-instruct"
    assert shown["olmo-4-32b-think-0210"] in shown  # the display name is another model's public name
    assert None in shown.values()
    hidden = {entry["publicName"] for entry in entries.values() if not entry["userSelectable"]}
    assert hidden == {model.public_name for model in arena.models if not model.user_selectable} != set()
    assert entries[arena.model("veo-4-edit").id]["capabilities"]["inputCapabilities"]["video"] == {"required": True}


async def test_a_catalog_that_is_not_served_is_not_found(arena: Arena, caller: Caller) -> None:
    arena.catalog_served = False
    answer = await caller.page(CATALOG)
    assert (answer.status, json.loads(answer.body)) == (404, {"error": "Not found"})


async def test_replaced_model_ids_are_not_found_and_the_new_ones_are_accepted(arena: Arena, caller: Caller) -> None:
    old = {model.public_name: model.id for model in arena.models}
    await caller.ask()
    evaluation = arena.calls[-1].evaluation_id or ""
    stale = [caller.create(), caller.follow_up(evaluation)]
    arena.replace_model_ids()
    assert {model.public_name for model in arena.models} == old.keys()
    assert not {model.id for model in arena.models} & set(old.values())
    path = f"/nextjs-api/stream/post-to-evaluation/{evaluation}"
    answers = [
        await caller.send("POST", "/nextjs-api/stream/create-evaluation", stale[0]),
        await caller.send("POST", path, stale[1]),
    ]
    expected = {"error": f"Models not found: {old['gpt-6.1-high']}"}
    assert [(answer.status, json.loads(answer.body)) for answer in answers] == [(404, expected)] * 2
    assert [(await caller.ask()).status, (await caller.ask_more(evaluation)).status] == [200, 200]
    assert (await groups(caller))["text"][0]["id"] == arena.models[0].id
