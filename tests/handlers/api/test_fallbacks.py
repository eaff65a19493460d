"""Aliases that stand for several models: if one does not answer, the next one is asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pictures import picture_part, png
from running import RunningBridge, running_bridge

from bridge.access import keys
from bridge.access.keys import KeyRing
from upstream.arena import Arena, Model

FIRST, SECOND, SEARCH = (
    Model(f"6f1c1a52-0000-4000-8000-00000000000{at}", name, does, organization="acme")
    for at, (name, does) in enumerate(
        (("first", {"text": True}), ("first-2", {"text": True}), ("finder", {"search": True}))
    )
)
#: The glob also matches its targets' own names, which are not looked up as aliases again.
ALIASES = {"first*": ["first", "gone", "first-2"], "any": ["gone", "first", "finder"], "one": "first", "none": ["gone"]}

streamed_and_not = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


@pytest.fixture
async def arena() -> AsyncIterator[Arena]:
    async with Arena(models=(FIRST, SECOND, SEARCH)) as arena:
        yield arena


@pytest.fixture
async def bridge(arena: Arena, tmp_path: Path) -> AsyncIterator[RunningBridge]:
    async with running_bridge(arena, tmp_path / "state", {"models": {"aliases": ALIASES}}) as bridge:
        await bridge.logins_checked()
        yield bridge


def asked(arena: Arena) -> list[str]:
    """The models that were asked, in order; repeated attempts count once."""
    names = {model.id: model.public_name for model in (FIRST, SECOND, SEARCH)}
    return list(dict.fromkeys(names[str(call.model_id)] for call in arena.chats))


async def ask(bridge: RunningBridge, model: str, stream: bool) -> Any:
    return await bridge.post(bridge.chat("/say hello", model=model, stream=stream))


@streamed_and_not
async def test_the_first_listed_model_of_an_alias_answers(stream: bool, arena: Arena, bridge: RunningBridge) -> None:
    for alias in ("first-of-all", "any"):
        answer = await ask(bridge, alias, stream)
        assert (answer.status, answer.headers["x-bridge-model"]) == (200, "first")
        assert b"hello" in await answer.read()
    assert asked(arena) == ["first"]


FAULTS: dict[str, dict[str, Any]] = {
    "model_failed_first": {},
    "server_error": {},
    "rejected": {},
    "empty_answer": {},
    "eof_middle": {"after": 0},
}


@streamed_and_not
@pytest.mark.parametrize(("fault", "parameters"), FAULTS.items(), ids=FAULTS)
async def test_the_next_model_answers_if_one_fails_before_its_first_delta(
    fault: str, parameters: dict[str, Any], stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    arena.faults.arm(fault, 1 if fault == "rejected" else 2, **parameters)  # a rejected request is not repeated
    answer = await ask(bridge, "first-of-all", stream)
    assert (answer.status, answer.headers["x-bridge-model"]) == (200, "first-2")
    assert b"hello" in await answer.read()
    assert asked(arena) == ["first", "first-2"]
    assert bridge.calls_held == 0


@streamed_and_not
async def test_a_rate_limit_puts_an_account_on_cooldown_for_one_kind_of_model_only(
    stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    arena.faults.arm("rate_limited", retry_after="3600")
    for _ in range(2):  # the second request finds the account on cooldown
        answer = await ask(bridge, "any", stream)
        assert (answer.status, answer.headers["x-bridge-model"]) == (200, "finder")
    assert [str(call.model_id) for call in arena.chats] == [FIRST.id, SEARCH.id, SEARCH.id]


async def test_the_caller_gets_the_last_models_error_if_all_fail(arena: Arena, bridge: RunningBridge) -> None:
    arena.faults.arm("model_failed_first", None, message="Out of capacity")
    answer = await ask(bridge, "first-of-all", False)
    assert (answer.status, asked(arena)) == (502, ["first", "first-2"])
    assert "Out of capacity" in (await answer.json())["error"]["message"]


@streamed_and_not
async def test_a_failure_after_the_first_delta_uses_no_fallback(
    stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    arena.faults.arm("model_failed_middle")
    answer = await bridge.post(bridge.chat("/say one two three four", model="any", stream=stream))
    assert b"error" in await answer.read()
    assert asked(arena) == ["first"]


@pytest.mark.parametrize("fault", ["moderated"])
async def test_a_moderated_request_uses_no_fallback(fault: str, arena: Arena, bridge: RunningBridge) -> None:
    arena.faults.arm(fault, None)
    assert (await ask(bridge, "any", False)).status == 400
    assert asked(arena) == ["first"]


async def test_an_alias_of_one_model_has_no_fallback(arena: Arena, bridge: RunningBridge) -> None:
    arena.faults.arm("model_failed_first", 2)
    assert (await ask(bridge, "one", False)).status == 502
    answer = await ask(bridge, "none", False)
    assert (answer.status, "[models.aliases]" in (await answer.json())["error"]["message"]) == (404, True)
    assert asked(arena) == ["first"]


async def test_an_alias_opens_no_model_that_the_key_may_not_use(bridge: RunningBridge) -> None:
    secret, key = keys.generate("other", now=0.0, models=("finder",))
    bridge.state.keys = KeyRing(keys.add(bridge.state.keys, key))
    bridge.key = secret
    assert (await ask(bridge, "any", False)).status == 403


async def test_several_answers_each_have_their_own_fallback(arena: Arena, bridge: RunningBridge) -> None:
    arena.faults.arm("rejected")
    answer = await bridge.post(bridge.chat("/say hello", model="first-of-all", n=2))
    assert [choice["message"]["content"] for choice in (await answer.json())["choices"]] == ["hello"] * 2
    assert len(arena.chats) == 3


async def test_parameters_ignored_only_by_a_model_that_failed_are_not_named(tmp_path: Path) -> None:
    sees = Model("6f1c1a52-0000-4000-8000-000000000009", "sees", {"text": True}, {"text": True, "image": True}, "acme")
    aliases = {"any": ["first", "sees"]}
    async with (
        Arena(models=(FIRST, sees)) as arena,
        running_bridge(arena, tmp_path / "state", {"models": {"aliases": aliases}}) as bridge,
    ):
        arena.faults.arm("rejected")
        content = [{"type": "text", "text": "/say hello"}, picture_part(png())]
        answer = await bridge.post(bridge.chat(messages=[{"role": "user", "content": content}], model="any"))
        assert (answer.status, answer.headers["x-bridge-model"]) == (200, "sees")
        assert "x-bridge-ignored" not in answer.headers
