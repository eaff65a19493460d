"""The site gives its models other ids while the bridge runs, or takes a model away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from answered import ask
from arrivals import Arrivals
from running import RunningBridge, running_bridge

from bridge.state.state import models_document
from handlers.request.appkeys import MODELS
from upstream.arena import Arena

PROMPT = "/say hello"
TALKS = "qwen4-max-preview"
SEARCHES = "gemini-4-pro-grounding"
DRAWS = "gpt-image-3"

streamed_and_not = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


@pytest.fixture
async def bridge(arena: Arena, tmp_path: Path) -> AsyncIterator[RunningBridge]:
    """A bridge that has read the list of models."""
    sessions = (arena.sign_in("ada@example.org"), arena.sign_in("bob@example.org"))
    async with running_bridge(arena, tmp_path / "state", sessions=sessions) as bridge:
        await bridge.app[MODELS].available()
        yield bridge


def readings(arena: Arena) -> int:
    """How often the list of models was read from the catalog."""
    return sum(call.kind == "catalog" for call in arena.calls)


def statuses(arena: Arena) -> list[int | None]:
    return [call.status for call in arena.chats]


def assert_no_account_marked(bridge: RunningBridge) -> None:
    assert not any(account.expired or account.cooldowns or account.bar for account in bridge.state.pool)
    assert bridge.calls_held == 0


async def draw(bridge: RunningBridge, **more: object) -> tuple[int, dict[str, Any]]:
    body = {"model": DRAWS, "prompt": "a cat", **more}
    async with bridge.http.post(f"{bridge.base_url}/images/generations", json=body, headers=bridge.headers) as answer:
        return answer.status, await answer.json()


def remove(arena: Arena, name: str) -> None:
    arena.models = tuple(model for model in arena.models if model.public_name != name)


# Other ids


@streamed_and_not
@pytest.mark.parametrize("model", [TALKS, SEARCHES, DRAWS])
async def test_a_changed_model_id_costs_one_refused_call_and_one_reading_of_the_list(
    model: str, stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    arena.replace_model_ids()
    answer = await ask(bridge, PROMPT, model=model, stream=stream)
    assert answer.is_good
    assert (statuses(arena), readings(arena)) == ([404, 200], 2)
    assert arena.chats[1].model_id == arena.model(model).id
    assert (await ask(bridge, PROMPT, model=model, stream=stream)).is_good
    assert (statuses(arena), readings(arena)) == ([404, 200, 200], 2)
    assert_no_account_marked(bridge)


async def test_concurrent_drawings_share_one_reading_of_the_changed_list(arena: Arena, bridge: RunningBridge) -> None:
    arena.replace_model_ids()
    status, body = await draw(bridge, n=4)
    assert (status, len(body["data"])) == (200, 4)
    assert readings(arena) == 2
    assert sorted(map(str, statuses(arena))) == ["200"] * 4 + ["404"] * 4
    assert_no_account_marked(bridge)


async def test_twenty_concurrent_chats_share_one_reading_of_the_changed_list(
    arena: Arena, bridge: RunningBridge
) -> None:
    arena.replace_model_ids()
    answers = await asyncio.gather(
        *(ask(bridge, PROMPT, model=TALKS, stream=n % 2 == 0, user=f"{n}") for n in range(20))
    )
    assert all(answer.is_good for answer in answers)
    assert readings(arena) == 2
    assert len(arena.chats) <= 40
    assert_no_account_marked(bridge)


async def test_chats_refused_during_a_reading_of_the_list_use_its_result(arena: Arena, bridge: RunningBridge) -> None:
    late = asyncio.Event()
    arena.faults.arm("no_headers", on="page", release=late)
    arena.replace_model_ids()
    arrivals = Arrivals(arena)
    first = asyncio.gather(*(ask(bridge, PROMPT, model=TALKS, user=f"{n}") for n in range(3)))
    await arrivals.calls(2, "page")
    others = asyncio.gather(*(ask(bridge, PROMPT, model=TALKS, user=f"{n}") for n in range(3, 6)))
    await arrivals.answered(6)
    late.set()
    assert all(answer.is_good for answer in (*await first, *await others))
    assert readings(arena) == 2


async def test_a_list_requested_before_the_ids_changed_is_read_again(arena: Arena, bridge: RunningBridge) -> None:
    late = asyncio.Event()
    arena.faults.arm("no_headers", on="page", release=late)
    arrivals = Arrivals(arena)
    bridge.app[MODELS].wake()
    await arrivals.calls(2, "page")
    await arrivals.calls(2, "catalog")  # which has been answered with the old ids
    arena.page_models = False
    arena.replace_model_ids()
    asking = asyncio.gather(ask(bridge, PROMPT, model=TALKS))
    await arrivals.answered(1)
    late.set()
    (answer,) = await asking
    assert answer.is_good
    assert (statuses(arena), readings(arena)) == ([404, 200], 3)


@streamed_and_not
async def test_conversations_restart_with_their_whole_history_after_an_id_change(
    stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    first = await ask(bridge, "Who are you?", model=TALKS, stream=stream)
    arena.replace_model_ids()
    history = ["Who are you?", first.text, "And I?"]
    second = await ask(bridge, *history, model=TALKS, stream=stream)
    assert (second.is_good, second.place) == (True, "new; why=unknown")
    assert [(call.kind, call.status) for call in arena.chats] == [("create", 200), ("follow-up", 404), ("create", 200)]
    shown = arena.evaluations[str(arena.chats[-1].evaluation_id)].messages[0].content
    assert all(text in shown for text in history)
    third = await ask(bridge, *history, second.text, "Both?", model=TALKS, stream=stream)
    assert (third.is_good, third.place) == (True, "follow-up; why=known")
    assert_no_account_marked(bridge)


@streamed_and_not
async def test_a_repeated_question_is_regenerated_after_an_id_change(
    stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    await ask(bridge, PROMPT, model=TALKS, stream=stream)
    arena.replace_model_ids()
    for place in ("regenerate; why=repeated", "regenerate; why=repeated"):
        answer = await ask(bridge, PROMPT, model=TALKS, stream=stream)
        assert (answer.is_good, answer.place) == (True, place)


async def test_each_of_several_id_changes_is_followed(arena: Arena, bridge: RunningBridge) -> None:
    for changes in range(1, 4):
        arena.replace_model_ids()
        assert (await ask(bridge, f"/say {changes}", model=TALKS)).is_good
        assert (len(arena.chats), readings(arena)) == (2 * changes, 1 + changes)


async def test_outdated_ids_saved_by_an_earlier_run_are_replaced(arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(arena, tmp_path / "state") as bridge:
        await bridge.app[MODELS].available()
    assert await models_document(bridge.folder).load()
    arena.replace_model_ids()
    arena.faults.arm("server_error", on="catalog")
    arena.faults.arm("server_error", on="page")
    async with running_bridge(arena, tmp_path / "state") as bridge:
        assert (await ask(bridge, PROMPT, model=TALKS)).is_good
        assert statuses(arena) == [404, 200]


# The model is gone


@streamed_and_not
async def test_the_list_is_read_again_once_for_a_model_that_is_gone(
    stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    remove(arena, TALKS)
    for asked in (1, 1):  # the second request is not sent upstream
        answer = await ask(bridge, PROMPT, model=TALKS, stream=stream)
        assert answer.said == (404, "model_not_found", "rejected")
        assert answer.error is not None
        assert answer.error["param"] == "model"
        assert answer.error["message"].startswith(f"The model '{TALKS}' does not exist.")
        assert (len(arena.chats), readings(arena)) == (asked, 2)
    assert_no_account_marked(bridge)


async def test_a_model_that_can_no_longer_be_chosen_is_refused(arena: Arena, bridge: RunningBridge) -> None:
    arena.models = tuple(replace(model, user_selectable=model.public_name != TALKS) for model in arena.models)
    answer = await ask(bridge, PROMPT, model=TALKS)
    assert answer.said == (404, "model_not_found", "rejected")
    assert answer.error is not None
    assert "it cannot be chosen" in answer.error["message"]
    assert (statuses(arena), readings(arena)) == ([400], 2)


@streamed_and_not
async def test_a_listed_model_whose_id_the_site_rejects_is_reported_as_such(
    stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    arena.faults.arm("client_error", None, status=404, message="Models not found: x")
    answer = await ask(bridge, PROMPT, model=TALKS, stream=stream)
    assert answer.said == (404, "model_not_found", "rejected")
    assert answer.error is not None
    assert answer.error["message"].startswith(f"LMArena lists the model '{TALKS}', but rejects its id")
    assert (len(arena.chats), readings(arena)) == (1, 2)
    assert_no_account_marked(bridge)


@streamed_and_not
async def test_a_changed_id_is_a_503_while_the_list_cannot_be_read(
    stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    arena.replace_model_ids()
    for on in ("catalog", "page"):
        arena.faults.arm("challenge", None, on=on)
    answer = await ask(bridge, PROMPT, model=TALKS, stream=stream)
    assert answer.said == (503, "models_unavailable", "challenge")
    assert answer.error is not None
    assert "cannot be read again" in answer.error["message"]
    assert len(arena.chats) == 1
    assert_no_account_marked(bridge)
    arena.faults.clear()
    assert (await ask(bridge, PROMPT, model=TALKS, stream=stream)).is_good
    assert statuses(arena) == [404, 404, 200]


async def test_a_changed_id_is_a_503_if_the_list_times_out(arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(arena, tmp_path / "state", {"upstream": {"connect_timeout": 0.3}}) as bridge:
        await bridge.app[MODELS].available()
        arena.replace_model_ids()
        for on in ("catalog", "page"):
            arena.faults.arm("no_headers", None, on=on)
        answer = await ask(bridge, PROMPT, model=TALKS)
        assert answer.said == (503, "models_unavailable", "timeout")
        assert_no_account_marked(bridge)


@pytest.mark.parametrize("broken", ["catalog", "page"])
async def test_changed_ids_are_learned_from_either_list(broken: str, arena: Arena, bridge: RunningBridge) -> None:
    arena.replace_model_ids()
    arena.faults.arm("server_error", None, on=broken)
    assert (await ask(bridge, PROMPT, model=TALKS)).is_good
    assert statuses(arena) == [404, 200]
