"""GET /health: 200 while a chat could be served, else 503; what is degraded, in the vocabulary of diagnosis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from running import RunningBridge, running_bridge

from upstream.arena import Arena
from upstream.gate import FAILURES_TO_OPEN


async def health(bridge: RunningBridge, path: str = "/health") -> tuple[int, dict[str, Any]]:
    """What anybody sees of it, without a key and without a secret in it."""
    answer = await bridge.http.get(bridge.origin + path)
    text = await answer.text()
    assert answer.content_type == "application/json"
    assert not any(account.session.value in text for account in bridge.state.pool)
    assert bridge.key not in text
    assert "ada@example.org" not in text
    body: dict[str, Any] = await answer.json()
    assert answer.headers["x-bridge-reason"] == body["reason"]
    return answer.status, body


def troubles(body: dict[str, Any]) -> list[tuple[str, str]]:
    assert all(trouble["message"] for trouble in body["degraded"])
    return [(trouble["part"], trouble["reason"]) for trouble in body["degraded"]]


@pytest.mark.parametrize("path", ["/health", "/v1/health", "/api/v1/health"])
async def test_all_is_well(path: str, arena: Arena, bridge: RunningBridge) -> None:
    await bridge.http.get(f"{bridge.base_url}/models", headers=bridge.headers)  # waits for the first reading
    assert await health(bridge, path) == (
        200,
        {
            "status": "ok",
            "reason": "ok",
            "degraded": [],
            "accounts": {"total": 1, "usable": 1},
            "models": len(arena.models),
            "answering": 0,
        },
    )


async def test_no_account(arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(arena, tmp_path / "state", sessions=()) as bridge:
        await bridge.http.get(f"{bridge.base_url}/models", headers=bridge.headers)
        status, body = await health(bridge)
        assert (status, body["status"], body["reason"]) == (503, "down", "no_account")
        assert troubles(body) == [("accounts", "no_account")]


async def test_no_list_of_models(arena: Arena, tmp_path: Path) -> None:
    arena.faults.arm("challenge", None, on="page")
    async with running_bridge(arena, tmp_path / "state") as bridge:
        await bridge.http.get(f"{bridge.base_url}/models", headers=bridge.headers)
        status, body = await health(bridge)
        assert (status, body["status"], body["models"]) == (503, "down", 0)
        assert troubles(body) == [("models", "challenge")]


FAULTS: dict[str, tuple[int, str, list[tuple[str, str]]]] = {
    "expired": (503, "down", [("account 1", "expired")]),
    "rate_limited": (503, "down", [("account 1", "rate_limited")]),
    "challenge": (503, "down", [("site", "challenge")]),
    "blocked": (503, "down", [("site", "blocked")]),
    "recaptcha": (503, "down", [("site", "recaptcha")]),
    "moderated": (200, "ok", []),
    "model_failed_first": (200, "ok", []),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_what_a_call_has_met_is_told(fault: str, arena: Arena, bridge: RunningBridge) -> None:
    status, word, expected = FAULTS[fault]
    arena.faults.arm(fault)
    await (await bridge.post(bridge.chat("hi"))).read()
    found, body = await health(bridge)
    assert (found, body["status"], troubles(body)) == (status, word, expected)


async def test_one_of_two_accounts_expired_is_degraded(arena: Arena, tmp_path: Path) -> None:
    ada, bob = arena.sign_in("ada@example.org"), arena.sign_in("bob@example.org")
    async with running_bridge(arena, tmp_path / "state", sessions=(ada, bob)) as bridge:
        arena.expire(ada)
        for text in ("hi", "hello"):  # one of them is first sent with the dead cookie
            assert (await bridge.post(bridge.chat(text))).status == 200
        status, body = await health(bridge)
        assert (status, body["status"], body["reason"]) == (200, "degraded", "expired")
        assert body["accounts"] == {"total": 2, "usable": 1}


async def test_an_account_near_its_end_is_degraded(arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(arena, tmp_path / "state", sessions=(arena.sign_in(expires_in=7200),)) as bridge:
        await bridge.http.get(f"{bridge.base_url}/models", headers=bridge.headers)
        status, body = await health(bridge)
        assert (status, body["status"], troubles(body)) == (200, "degraded", [("account 1", "expired")])
        assert "renew it in time" in body["degraded"][0]["message"]


async def test_an_outage(arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(arena, tmp_path / "state", {"upstream": {"max_attempts": 1}}) as bridge:
        arena.faults.arm("server_error", FAILURES_TO_OPEN)
        for _ in range(FAILURES_TO_OPEN):
            assert (await bridge.post(bridge.chat("hi"))).status == 502
        _, body = await health(bridge)
        assert troubles(body) == [("site", "upstream_error")]


async def test_a_wall_is_forgotten_with_the_next_answer(arena: Arena, bridge: RunningBridge) -> None:
    arena.faults.arm("challenge")
    for status in (503, 200):
        await (await bridge.post(bridge.chat("hi"))).read()
        assert (await health(bridge))[0] == status
