"""The page with its models, the scripts with the action ids, and the changes of a deployment."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from uuid import UUID

from upstream.arena import Arena

if TYPE_CHECKING:
    from tests.upstream.arena.conftest import Answer, Caller

NO_RANK = 9_007_199_254_740_991
PUSH = re.compile(r'self\.__next_f\.push\(\[1,("(?:[^"\\]|\\.)*")\]\)')
SCRIPT = re.compile(r'src="(/_next/static/chunks/[^"]+\.js\?dpl=[^"]+)"')
BARE = re.compile(r'"(static/chunks/[^"]+\.js)"')
REFERENCE = re.compile(
    r'createServerReference\)\("([0-9a-f]{40,42})",\w+\.callServer,void 0,\w+\.findSourceMapURL,"(\w+)"\)'
)


def pieces(page: Answer) -> list[str]:
    return [json.loads(literal) for literal in PUSH.findall(page.body.decode())]


def models(page: Answer) -> list[dict[str, Any]]:
    _, _, after = "".join(pieces(page)).partition('"initialModels":')
    found: list[dict[str, Any]] = json.JSONDecoder().raw_decode(after)[0]
    return found


async def action_ids(caller: Caller) -> dict[str, str]:
    page = await caller.page()
    named = SCRIPT.findall(page.body.decode())
    bare = [f"/_next/{path}" for path in BARE.findall("".join(pieces(page)))]
    assert all(path.startswith("/_next/static/chunks/app-page-") for path in bare if path not in str(named))
    scripts = [(await caller.page(path)).body.decode() for path in {*named, *bare}]
    assert len(scripts) > 1
    return {name: found for script in scripts for found, name in REFERENCE.findall(script)}


async def test_the_page_holds_the_models_in_order(arena: Arena, caller: Caller) -> None:
    page = await caller.page()
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    readable = [entry for entry in models(page) if "id" in entry]
    assert readable == [model.page_entry(arena.era) for model in arena.models]
    shown = {"displayName", "userSelectable"}
    assert shown & set().union(*readable) == (shown if arena.era == 2026 else set())
    assert len(models(page)) == len(readable) + 1


async def test_the_flight_data_is_cut_within_models(caller: Caller) -> None:
    found = pieces(await caller.page())
    assert len(found) > 5
    assert any(piece.count("{") > piece.count("}") for piece in found)
    text = "".join(found)
    assert '\\"' in text
    assert not text.isascii()


def test_the_models_of_the_page_cover_every_kind(arena: Arena) -> None:
    entries = [model.page_entry() for model in arena.models]
    outputs = {"+".join(entry["capabilities"]["outputCapabilities"]) for entry in entries}
    assert outputs == {"text", "text+web", "web", "search", "image", "video"}
    seen = [entry["capabilities"]["inputCapabilities"].get("image") for entry in entries]
    assert {value for value in seen if not isinstance(value, dict)} == {True, False, None}
    assert {value["multipleImages"] for value in seen if isinstance(value, dict)} == {True, False}
    stealth = [entry for entry in entries if "organization" not in entry]
    assert 0.25 < len(stealth) / len(entries) < 0.45
    assert {"provider" in entry for entry in entries} == {"name" in entry for entry in entries} == {True, False}
    assert {None, NO_RANK, 1} <= {entry.get("rank") for entry in entries}
    names = [entry["publicName"] for entry in entries]
    assert len(names) - len(set(names)) >= 3
    assert any(" (" in name for name in names)


def test_model_ids_are_fixed_and_of_uuid_versions_4_and_7(arena: Arena) -> None:
    ids = [model.id for model in arena.models]
    assert ids == [model.id for model in Arena().models]
    assert ids[0] == "69ef5b44-dd1b-431d-bf90-d91dc9867a12"
    assert {UUID(model_id).version for model_id in ids} == {4, 7}
    assert len({model_id[-4:] for model_id in ids}) == len(ids)


async def test_the_scripts_contain_the_ids_of_the_actions_among_others(arena: Arena, caller: Caller) -> None:
    found = await action_ids(caller)
    assert {"generateUploadUrl", "getSignedUrl"} < found.keys()
    assert {name: found[name] for name in arena.deployment.actions} == dict(arena.deployment.actions)
    assert {len(action) for action in arena.deployment.actions.values()} == {40, 42}


async def test_a_deployment_changes_ids_and_scripts(arena: Arena, caller: Caller) -> None:
    old_ids = await action_ids(caller)
    [old_script, *_] = SCRIPT.findall((await caller.page()).body.decode())
    arena.deploy()
    new_ids = await action_ids(caller)
    assert new_ids.keys() == old_ids.keys()
    assert not set(new_ids.values()) & set(old_ids.values())
    assert (await caller.page(old_script)).status == 404


async def test_an_action_is_called_by_its_known_id_or_not_found(caller: Caller) -> None:
    known = (await action_ids(caller))["generateUploadUrl"]
    unknown = await caller.act("generateUploadUrl", "cat.png", "image/png", next_action="0" * 40)
    assert (unknown.status, unknown.headers["x-nextjs-action-not-found"]) == (404, "1")
    assert (await caller.act("generateUploadUrl", "cat.png", "image/png", next_action=known)).status == 200
