"""docs/behaviour.md, "Errors": keys that have expired, are paused, or have used up their budget of the day."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from running import running_bridge
from several_bridges import several_bridges

from bridge.access.budgets import DAY_SECONDS
from bridge.state import budgets
from handlers.request.appkeys import BUDGETS
from upstream.arena import Arena

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "expired": ({"expires": time.time() - 1}, "key_expired"),
    "paused": ({"paused": True}, "key_paused"),
}


@pytest.mark.parametrize(("options", "code"), REFUSED.values(), ids=REFUSED)
async def test_an_expired_or_paused_key_is_401_with_the_reason(
    options: dict[str, Any], code: str, arena: Arena, tmp_path: Path
) -> None:
    async with running_bridge(arena, tmp_path / "state", key_options=options) as bridge:
        answer = await bridge.post(bridge.chat("hi"))
        error = (await answer.json())["error"]
        assert (answer.status, error["code"], answer.headers["x-bridge-reason"]) == (401, code, "rejected")
        assert "operator" in error["message"]
        messages = {"model": bridge.model(), "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
        headers = {**bridge.headers, "anthropic-version": "2023-06-01"}
        async with bridge.http.post(f"{bridge.base_url}/messages", json=messages, headers=headers) as other:
            assert (other.status, (await other.json())["error"]["type"]) == (401, "authentication_error")
        async with bridge.http.get(f"{bridge.base_url}/models", headers=bridge.headers) as models:
            assert models.status == 401


async def test_a_budget_of_requests_is_exact_under_concurrent_requests(arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(arena, tmp_path / "state", key_options={"day_requests": 5}) as bridge:
        answers = await asyncio.gather(*(bridge.post(bridge.chat(f"/say {number}")) for number in range(12)))
        assert sorted(answer.status for answer in answers) == [200] * 5 + [429] * 7
        refused = next(answer for answer in answers if answer.status == 429)
        error = (await refused.json())["error"]
        assert (error["code"], refused.headers["x-bridge-reason"]) == ("budget_exceeded", "rate_limited")
        assert "daily budget of 5 requests" in error["message"]
        assert 0 < int(refused.headers["Retry-After"]) <= DAY_SECONDS


async def test_the_request_that_uses_up_a_budget_of_tokens_is_completed(arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(arena, tmp_path / "state", key_options={"day_tokens": 20}) as bridge:
        first = await bridge.post(bridge.chat("/count 100", stream=True))
        assert (first.status, (await first.text()).endswith("data: [DONE]\n\n")) == (200, True)
        refused = await bridge.post(bridge.chat("hi"))
        assert (refused.status, (await refused.json())["error"]["code"]) == (429, "budget_exceeded")
        (key,) = bridge.state.keys
        assert bridge.app[BUDGETS].used(key.id).requests == 1
        assert bridge.app[BUDGETS].used(key.id).tokens > 100


async def test_the_used_part_of_a_budget_survives_a_restart(arena: Arena, tmp_path: Path) -> None:
    options = {"day_requests": 2}
    async with running_bridge(arena, tmp_path / "state", key_options=options) as bridge:
        assert [(await bridge.post(bridge.chat("hi"))).status for _ in range(2)] == [200, 200]
        (key,) = bridge.state.keys
    async with running_bridge(arena, tmp_path / "state", key_options=options) as bridge:
        assert bridge.app[BUDGETS].used(key.id).requests == 2


async def test_rejected_requests_do_not_count_towards_the_budget(arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(arena, tmp_path / "state", key_options={"day_requests": 1}) as bridge:
        assert (await bridge.post({"model": bridge.model()})).status == 400
        assert [(await bridge.post(bridge.chat("hi"))).status for _ in range(2)] == [200, 429]


async def test_requests_refused_by_another_process_do_not_count_towards_the_budget(
    arena: Arena, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budgets, "SAVE_SECONDS", 600.0)
    options = {"day_requests": 3, "rpm": 2}
    async with several_bridges(arena, tmp_path, 2, key_options=options) as several:
        statuses = [(await several[at % 2].post(several[at % 2].chat(f"/say {at}"))).status for at in range(4)]
        assert statuses == [200, 200, 429, 429]
        (key,) = several[0].state.keys
        assert [bridge.app[BUDGETS].used(key.id).requests for bridge in several.bridges] == [1, 1]
