"""docs/behaviour.md, "Models" and "Model names": the list of models, one model, and every name that a
model answers to.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from model_entries import capable, entry
from running import RunningBridge, api_key, running_bridge

from bridge.access import keys
from bridge.access.keys import KeyRing
from handlers.request.appkeys import MODELS as KNOWN
from upstream.arena import Arena, Model, builtin_models
from upstream.protocol.catalog import Catalog
from upstream.protocol.models import read_catalog

V7 = "0199e8a2-8a3c-7d52-9f2b-2c52a1f0c001"  # made at unix time 1760544590.396
TWIN_A = "6f1c1a52-0000-4000-8000-00000000aaaa"
TWIN_B = "6f1c1a52-0000-4000-8000-00000000bbbb"
STEALTH = "6f1c1a52-0000-4000-8000-00000000cccc"
SLASHED = "6f1c1a52-0000-4000-8000-00000000dddd"
SPACED = "6f1c1a52-0000-4000-8000-00000000eeee"
HIDDEN = "6f1c1a52-0000-4000-8000-00000000ffff"

MODELS = (
    Model(V7, "otter-1", {"text": True, "web": True}, {"text": True, "image": True}, "acme", rank=1),
    Model(TWIN_A, "twin", {"text": True}, organization="acme"),
    Model(TWIN_B, "twin", {"search": True}, organization="acme"),
    Model(STEALTH, "night-fog", {"text": True}),
    Model(SLASHED, "acme/otter/2", {"text": True}, organization="acme"),
    Model(SPACED, "otter 2k (nano-mango)", {"image": True}, organization="acme"),
    Model(HIDDEN, "old-otter", {"text": True}, organization="acme"),
)
#: By modality (chat, search, image), ranked models before unranked, otherwise in the site's order; with aliases.
LISTED = ["otter-1", "gpt-4o", "twin", "acme/otter/2", "twin@bbbb", "otter 2k (nano-mango)"]

HIDE = {"models": {"hide": ["old-*"], "aliases": {"gpt-4o": ["gone", "otter-1"], "claude-*": "twin@bbbb"}}}


@pytest.fixture
async def arena() -> AsyncIterator[Arena]:
    async with Arena(models=MODELS) as arena:
        yield arena


@pytest.fixture
async def bridge(arena: Arena, tmp_path: Path) -> AsyncIterator[RunningBridge]:
    async with running_bridge(arena, tmp_path / "state", HIDE) as bridge:
        yield bridge


async def get(bridge: RunningBridge, path: str, *, prefix: str = "/v1") -> tuple[int, dict[str, Any]]:
    answer = await bridge.http.get(f"{bridge.origin}{prefix}{path}", headers=bridge.headers)
    assert answer.headers["x-bridge-reason"] == ("ok" if answer.status == 200 else "rejected")
    return answer.status, await answer.json()


async def listed(bridge: RunningBridge) -> list[str]:
    _, body = await get(bridge, "/models")
    return [model["id"] for model in body["data"]]


@pytest.mark.parametrize("prefix", ["/v1", "/api/v1"])
async def test_the_list_of_models_has_every_field_of_each_model(prefix: str, bridge: RunningBridge) -> None:
    status, body = await get(bridge, "/models", prefix=prefix)
    assert (status, body["object"]) == (200, "list")
    assert [model["id"] for model in body["data"]] == LISTED
    assert body["data"][0] == {
        "id": "otter-1",
        "object": "model",
        "created": 1_760_544_590,
        "owned_by": "acme",
        "capabilities": {"input": ["image", "text"], "output": ["text", "web"]},
        "modality": "chat",
        "rank": 1,
        "context_window": 28_250,
    }
    assert {model["id"]: model["modality"] for model in body["data"]} == {
        "otter-1": "chat",
        "gpt-4o": "chat",
        "twin": "chat",
        "twin@bbbb": "search",
        "acme/otter/2": "chat",
        "otter 2k (nano-mango)": "image",
    }


@pytest.mark.parametrize("prefix", ["/v1", "/api/v1"])
@pytest.mark.parametrize("name", LISTED)
async def test_each_listed_model_can_be_retrieved_by_its_name(name: str, prefix: str, bridge: RunningBridge) -> None:
    _, body = await get(bridge, "/models")
    (entry,) = (model for model in body["data"] if model["id"] == name)
    assert await get(bridge, f"/models/{quote(name)}", prefix=prefix) == (200, entry)
    assert await get(bridge, f"/models/{quote(name, safe='')}", prefix=prefix) == (200, entry)


ALIASES = {
    "a qualified name": ("otter-1@c001", "chat"),
    "an id": (V7, "chat"),
    "a double name, the first": ("twin", "chat"),
    "a double name, the first qualified": ("twin@aaaa", "chat"),
    "a double name, the second qualified": ("twin@bbbb", "search"),
    "a double name, the second's id": (TWIN_B, "search"),
}


@pytest.mark.parametrize(("alias", "modality"), ALIASES.values(), ids=ALIASES)
async def test_an_alias_is_retrieved_and_called_under_its_own_name(
    alias: str, modality: str, bridge: RunningBridge
) -> None:
    status, body = await get(bridge, f"/models/{alias}")
    assert (status, body["id"], body["modality"]) == (200, alias, modality)
    answer = await bridge.post(bridge.chat("/say hello", model=alias))
    assert (answer.status, (await answer.json())["model"]) == (200, alias)


async def test_ambiguous_names_reach_the_right_models(arena: Arena, bridge: RunningBridge) -> None:
    for name, model_id in (("twin", TWIN_A), ("twin@bbbb", TWIN_B), ("acme/otter/2", SLASHED)):
        assert (await bridge.post(bridge.chat("/say hello", model=name))).status == 200
        assert arena.chats[-1].model_id == model_id


async def test_the_list_of_models_is_the_same_from_call_to_call(bridge: RunningBridge) -> None:
    first, second = [(await get(bridge, "/models"))[1] for _ in range(2)]
    assert first == second


UNKNOWN = ["nobody", "otter", "twin@dddd", HIDDEN, "old-otter", "old-otter@ffff", "x" * 5000, "«ö»/\0"]


@pytest.mark.parametrize("name", UNKNOWN, ids=lambda name: name[:20].replace("\0", "NUL"))
async def test_an_unknown_or_hidden_model_is_404(name: str, arena: Arena, bridge: RunningBridge) -> None:
    status, body = await get(bridge, f"/models/{quote(name, safe='')}")
    error = body["error"]
    assert (status, error["type"], error["code"]) == (404, "invalid_request_error", "model_not_found")
    assert error["param"] == "model"
    assert name[:200] in error["message"]
    for stream in (True, False):
        answer = await bridge.post(bridge.chat("hi", model=name, stream=stream))
        assert (answer.status, (await answer.json())["error"]) == (404, error)
        assert answer.headers["x-bridge-reason"] == "rejected"
    assert not any(call.kind == "create" for call in arena.calls)


async def test_close_names_are_suggested_if_the_key_may_use_them(bridge: RunningBridge) -> None:
    _, body = await get(bridge, "/models/Oter-1")
    assert "'otter-1'" in body["error"]["message"]
    assert "map them in [models.aliases] of bridge.toml: 'Oter-1' = 'otter-1'." in body["error"]["message"]
    _, body = await get(bridge, "/models/otter%20x")
    assert "map them in [models.aliases] of bridge.toml." in body["error"]["message"]
    _, body = await get(bridge, "/models/night-frog")
    assert "night-fog" not in body["error"]["message"]


async def test_an_unknown_name_causes_a_new_reading_of_the_page_once_a_minute(
    arena: Arena, bridge: RunningBridge
) -> None:
    await listed(bridge)
    new = Model("6f1c1a52-0000-4000-8000-000000001111", "otter-3", {"text": True}, organization="acme")
    arena.models = (*MODELS, new)
    assert (await get(bridge, "/models/otter-3"))[0] == 200
    pages = sum(call.kind == "page" for call in arena.calls)
    assert (await get(bridge, "/models/otter-4"))[0] == 404
    assert sum(call.kind == "page" for call in arena.calls) == pages


@pytest.mark.parametrize(
    ("models", "level"), [(MODELS[1:], "WARNING"), (builtin_models()[1:], "INFO")], ids=["few", "many"]
)
async def test_the_log_counts_unreadable_entries_and_warns_if_their_share_is_large(
    models: tuple[Model, ...], level: str, arena: Arena, bridge: RunningBridge, caplog: pytest.LogCaptureFixture
) -> None:
    await listed(bridge)
    arena.models = models
    caplog.clear()
    with caplog.at_level("INFO", "bridge.models"):
        await bridge.app[KNOWN].refresh()
    told = f"{len(models)} models (2 further entries of the site's lists cannot be read)"
    assert [(each.levelname, each.getMessage()) for each in caplog.records] == [(level, told)]


# Display names, files, and models that nobody may choose


def shown_catalog() -> Catalog:
    """A catalog of the site with three models."""
    texts = [
        entry(id=V7, publicName="otter-1", displayName="Otter One", organization="acme"),
        entry(
            id=TWIN_A,
            publicName="reader",
            displayName=...,
            organization="acme",
            capabilities=capable({"text": True, "file": True}, {"text": True}),
        ),
        entry(id=TWIN_B, publicName="closed", displayName="Closed Otter", organization="acme", userSelectable=False),
    ]
    return Catalog(read_catalog(json.dumps([{"arena": "text", "models": texts, "complete": True}]).encode()).models)


@pytest.fixture
async def shown(bridge: RunningBridge) -> RunningBridge:
    """A bridge that has read the page, and whose models were then replaced by `shown_catalog`."""
    await bridge.app[KNOWN].available()
    bridge.app[KNOWN].catalog = shown_catalog()
    return bridge


async def test_the_list_of_models_has_display_names_and_file_inputs(shown: RunningBridge) -> None:
    _, body = await get(shown, "/models")
    assert [(model["id"], model.get("display_name")) for model in body["data"]] == [
        ("otter-1", "Otter One"),
        ("reader", None),
    ]
    assert [model["capabilities"]["input"] for model in body["data"]] == [["image", "text"], ["file", "text"]]
    assert "display_name" not in body["data"][1]


async def test_a_model_can_be_called_by_its_display_name(arena: Arena, shown: RunningBridge) -> None:
    status, body = await get(shown, "/models/Otter%20One")
    assert (status, body["id"], body["display_name"]) == (200, "Otter One", "Otter One")
    answer = await shown.post(shown.chat("/say hello", model="Otter One"))
    assert (answer.status, (await answer.json())["model"]) == (200, "Otter One")
    assert arena.chats[-1].model_id == V7


async def test_a_key_limited_to_a_display_name_does_not_admit_its_model(shown: RunningBridge) -> None:
    secret, key = api_key(models=("Otter One", "reader"), rpm=1000)
    shown.state.keys = KeyRing(keys.add(shown.state.keys, key))
    shown.key = secret
    assert await listed(shown) == ["reader"]
    status, body = await get(shown, "/models/Otter%20One")
    assert (status, body["error"]["code"]) == (403, "model_not_allowed")


@pytest.mark.parametrize("name", ["closed", "closed@bbbb", TWIN_B, "Closed Otter"])
async def test_a_model_that_cannot_be_chosen_is_refused_with_an_explanation(
    name: str, arena: Arena, shown: RunningBridge
) -> None:
    pages = sum(call.kind == "page" for call in arena.calls)
    status, body = await get(shown, f"/models/{quote(name)}")
    error = body["error"]
    assert (status, error["type"], error["code"]) == (404, "invalid_request_error", "model_not_found")
    assert error["param"] == "model"
    assert error["message"].startswith(f"LMArena lists the model '{name}', but it cannot be chosen at the moment.")
    answer = await shown.post(shown.chat("hi", model=name))
    assert (answer.status, (await answer.json())["error"]) == (404, error)
    # The list already says so, so the page is not read again.
    assert sum(call.kind == "page" for call in arena.calls) == pages
    assert not any(call.kind == "create" for call in arena.calls)


# Rights


@pytest.mark.parametrize(("operator", "key"), [(True, True), (True, False), (False, True), (False, False)])
async def test_stealth_models_need_permission_in_both_the_configuration_and_the_key(
    operator: bool, key: bool, arena: Arena, tmp_path: Path
) -> None:
    overrides = {"models": {"stealth": operator}}
    async with running_bridge(arena, tmp_path / "state", overrides, key_options={"stealth": key}) as bridge:
        allowed = operator and key
        assert ("night-fog" in await listed(bridge)) == allowed
        for name in ("night-fog", "night-fog@cccc", STEALTH):
            status, body = await get(bridge, f"/models/{name}")
            answer = await bridge.post(bridge.chat("/say hello", model=name))
            if allowed:
                assert (status, body["owned_by"], answer.status) == (200, "stealth", 200)
            else:
                error = (await answer.json())["error"]
                assert (status, answer.status, body["error"]) == (403, 403, error)
                assert (error["type"], error["code"]) == ("permission_error", "model_not_allowed")
                assert error["param"] == "model"


GLOBS = {
    "a name": (("twin",), ["twin", "twin@bbbb"]),
    "a glob": (("otter*",), ["otter-1", "gpt-4o", "otter 2k (nano-mango)"]),
    "a qualified name": (("twin@bbbb",), ["twin@bbbb"]),
    "an id": ((V7,), ["otter-1", "gpt-4o"]),
    "several": (("otter-1", "acme/*"), ["otter-1", "gpt-4o", "acme/otter/2"]),
    "none that exists": (("nobody",), []),
}


@pytest.mark.parametrize(("globs", "names"), GLOBS.values(), ids=GLOBS)
async def test_a_key_lists_and_uses_only_its_models(
    globs: tuple[str, ...], names: list[str], bridge: RunningBridge
) -> None:
    secret, key = api_key(models=globs, rpm=1000)
    bridge.state.keys = KeyRing(keys.add(bridge.state.keys, key))
    bridge.key = secret
    assert await listed(bridge) == names
    for name in LISTED:
        status, body = await get(bridge, f"/models/{quote(name)}")
        assert status == (200 if name in names else 403)
        answer = await bridge.post(bridge.chat("/say hello", model=name))
        assert answer.status == status
        assert status == 200 or body["error"]["code"] == "model_not_allowed"


@pytest.mark.parametrize("path", ["/models", "/models/otter-1"])
async def test_the_list_of_models_needs_a_key(path: str, bridge: RunningBridge) -> None:
    answer = await bridge.http.get(bridge.base_url + path)
    assert (answer.status, (await answer.json())["error"]["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize(
    ("name", "id_"),
    [("gpt-4o", V7), ("openai/gpt-4o:latest", V7), ("claude-9-opus", TWIN_B), ("OTTER-1", V7), ("lmarena/otter-1", V7)],
)
async def test_aliases_and_mangled_names_reach_the_model(
    name: str, id_: str, arena: Arena, bridge: RunningBridge
) -> None:
    status, _ = await get(bridge, f"/models/{quote(name, safe='')}")
    assert status == 200
    answer = await bridge.post(bridge.chat("/say hello", model=name))
    assert answer.status == 200, await answer.text()
    assert (await answer.json())["model"] == name
    assert id_ in arena.chats[-1].body.decode()
