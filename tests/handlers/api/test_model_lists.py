"""Where the models come from: the site's catalog, its page, both, or neither."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from answered import ask
from running import RunningBridge, running_bridge

from handlers.request.appkeys import MODELS
from upstream.arena import Arena

PROMPT = "/say hello"
#: Models of the arena: one with another display name, one that cannot be chosen, and one that reads documents.
RENAMED, SHOWN_AS = "gpt-6.1-high", "GPT 6.1 (high)"
WITHHELD = "gpt-6.0"
READS = "archivist-2"

streamed_and_not = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


async def listed(bridge: RunningBridge) -> dict[str, dict[str, Any]]:
    """The models that a caller is shown, by name."""
    async with bridge.http.get(f"{bridge.base_url}/models", headers=bridge.headers) as answer:
        assert answer.status == 200
        return {model["id"]: model for model in (await answer.json())["data"]}


#: Which of the two lists can be read → faults, page_models, catalog_served.
SOURCES: dict[str, tuple[list[tuple[str, str]], bool, bool]] = {
    "both": ([], True, True),
    "the page has none": ([], False, True),
    "the page fails": ([("page", "server_error")], True, True),
    "the page is a challenge": ([("page", "challenge")], True, True),
    "the page is silent": ([("page", "no_headers")], True, True),
    "the page is gone": ([("page", "evaluation_gone")], True, True),
    "the catalog is not there": ([], True, False),
    "the catalog fails": ([("catalog", "server_error")], True, True),
    "the catalog is a page": ([("catalog", "html")], True, True),
    "the catalog is a challenge": ([("catalog", "challenge")], True, True),
    "the catalog is forbidden": ([("catalog", "recaptcha")], True, True),
    "the catalog breaks off": ([("catalog", "cut_chunked")], True, True),
    "the catalog is no longer read so": ([("catalog", "not_allowed")], True, True),
}


@pytest.mark.parametrize(("faults", "page_models", "catalog_served"), SOURCES.values(), ids=SOURCES)
async def test_models_are_listed_from_whichever_source_can_be_read(
    faults: list[tuple[str, str]], page_models: bool, catalog_served: bool, arena: Arena, tmp_path: Path
) -> None:
    arena.page_models, arena.catalog_served = page_models, catalog_served
    for on, fault in faults:
        arena.faults.arm(fault, None, on=on)
    async with running_bridge(arena, tmp_path / "state", {"upstream": {"connect_timeout": 1}}) as bridge:
        await bridge.app[MODELS].available()
        models = await listed(bridge)
        names = {model.public_name for model in arena.models if model.organization and model.user_selectable}
        assert names <= models.keys()
        assert WITHHELD not in models
        assert models[RENAMED]["display_name"] == SHOWN_AS
        assert models[READS]["capabilities"]["input"] == ["file", "text"]
        assert {models[name]["modality"] for name in names} == {"chat", "search", "image"} | {
            models["kling-3-pro"]["modality"]
        }
        ranked = page_models and ("page" not in dict(faults))
        assert models["gemini-4-pro"]["rank"] == (1 if ranked else None)
        for name in (RENAMED, SHOWN_AS):
            assert (await ask(bridge, PROMPT, model=name)).is_good
            assert arena.chats[-1].model_id == arena.model(RENAMED).id


async def test_models_are_listed_from_a_page_of_2025(tmp_path: Path) -> None:
    async with Arena(era=2025) as arena, running_bridge(arena, tmp_path / "state") as bridge:
        assert len(await listed(bridge)) > 30
        assert (await ask(bridge, PROMPT)).is_good


#: Why neither list can be read → page_models, catalog_served, faults, and the reason and message for the caller.
NEITHER: dict[str, tuple[bool, list[tuple[str, str]], str, str]] = {
    "not listed anywhere": (False, [], "upstream_error", "LMArena lists no model that can be read."),
    "both fail": (True, [("catalog", "server_error"), ("page", "server_error")], "upstream_error", "LMArena failed"),
    "a challenge": (True, [("catalog", "challenge"), ("page", "challenge")], "challenge", "cf_clearance"),
    "blocked": (True, [("page", "blocked")], "blocked", "blocks this network address"),
    "both are silent": (True, [("catalog", "no_headers"), ("page", "no_headers")], "timeout", "has not begun"),
}


@streamed_and_not
@pytest.mark.parametrize(("page_models", "faults", "reason", "says"), NEITHER.values(), ids=NEITHER)
async def test_requests_fail_while_neither_source_can_be_read(
    page_models: bool,
    faults: list[tuple[str, str]],
    reason: str,
    says: str,
    stream: bool,
    arena: Arena,
    tmp_path: Path,
) -> None:
    arena.page_models, arena.catalog_served = page_models, bool(faults) and faults[0][0] == "catalog"
    for on, fault in faults:
        arena.faults.arm(fault, None, on=on)
    async with running_bridge(arena, tmp_path / "state", {"upstream": {"connect_timeout": 0.3}}) as bridge:
        while bridge.app[MODELS].failure is None:
            await bridge.app[MODELS]._next_reading()
        answer = await ask(bridge, PROMPT, model="gpt-6.1-high", stream=stream)
        assert answer.said == (503, "models_unavailable", reason)
        assert answer.error is not None
        assert says in answer.error["message"]
        assert answer.headers["x-should-retry"] == "false"
        assert not arena.chats


@streamed_and_not
@pytest.mark.parametrize("name", [WITHHELD, "Faded Otter", "faded-otter"])
async def test_a_model_that_cannot_be_chosen_is_refused(
    name: str, stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    answer = await ask(bridge, PROMPT, model=name, stream=stream)
    assert answer.said == (404, "model_not_found", "rejected")
    assert answer.error is not None
    assert "it cannot be chosen" in answer.error["message"]
    assert not arena.chats
    async with bridge.http.get(f"{bridge.base_url}/models/{quote(name)}", headers=bridge.headers) as one:
        assert (one.status, (await one.json())["error"]) == (404, answer.error)


async def test_a_public_name_wins_over_another_models_display_name(arena: Arena, bridge: RunningBridge) -> None:
    """`olmo-4-32b-think-0210` is shown as `olmo-4-32b-think`, which is the public name of another one."""
    models = await listed(bridge)
    assert models["olmo-4-32b-think-0210"]["display_name"] == "olmo-4-32b-think"
    assert (await ask(bridge, PROMPT, model="olmo-4-32b-think")).is_good
    assert arena.chats[-1].model_id == arena.model("olmo-4-32b-think").id
