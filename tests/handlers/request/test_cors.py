"""`server.cors_origins`: which pages may call the API from a browser, and what their scripts may read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from running import RunningBridge, running_bridge

from upstream.arena import Arena

PAGE = "http://localhost:3000"
DESKTOP = "app://obsidian.md"
STRANGER = "https://evil.example"


@pytest.fixture
async def bridge(arena: Arena, tmp_path: Path) -> AsyncIterator[RunningBridge]:
    """A bridge that two pages may call."""
    overrides = {"server": {"cors_origins": [PAGE, DESKTOP]}}
    async with running_bridge(arena, tmp_path / "state", overrides) as bridge:
        yield bridge


def preflight(origin: str, **more: str) -> dict[str, str]:
    return {"Origin": origin, "Access-Control-Request-Method": "POST", **more}


@pytest.mark.parametrize("origin", [PAGE, DESKTOP])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/v1/models", "/health", "/v1/nothing-here"])
async def test_a_preflight_of_an_allowed_page(path: str, origin: str, bridge: RunningBridge) -> None:
    asked = preflight(origin, **{"Access-Control-Request-Headers": "authorization,x-stainless-os"})
    answer = await bridge.http.options(bridge.origin + path, headers=asked)
    assert (answer.status, await answer.read()) == (204, b"")
    assert answer.headers["Access-Control-Allow-Origin"] == origin
    assert answer.headers["Access-Control-Allow-Headers"] == "authorization,x-stainless-os"
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    assert answer.headers["Vary"] == "Origin"
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert "Access-Control-Allow-Private-Network" not in answer.headers


async def test_a_preflight_into_a_private_network(bridge: RunningBridge) -> None:
    asked = preflight(PAGE, **{"Access-Control-Request-Private-Network": "true"})
    answer = await bridge.http.options(f"{bridge.base_url}/models", headers=asked)
    assert answer.headers["Access-Control-Allow-Private-Network"] == "true"


NO_PREFLIGHT = {
    "a stranger": preflight(STRANGER),
    "an origin that begins alike": preflight(f"{PAGE}.evil.example"),
    "null": preflight("null"),
    "no origin": {"Access-Control-Request-Method": "POST"},
    "no method": {"Origin": PAGE},
}


@pytest.mark.parametrize("headers", NO_PREFLIGHT.values(), ids=NO_PREFLIGHT)
async def test_what_is_no_preflight_of_an_allowed_page_is_405(headers: dict[str, str], bridge: RunningBridge) -> None:
    answer = await bridge.http.options(f"{bridge.base_url}/models", headers=headers)
    assert answer.status == 405
    assert "Access-Control-Allow-Methods" not in answer.headers


async def test_an_allowed_page_may_read_answers_streams_and_errors(bridge: RunningBridge) -> None:
    for body in (bridge.chat("hi"), bridge.chat("hi", stream=True), bridge.chat("hi", model="nobody"), b"{"):
        answer = await bridge.post(body, headers={"Origin": PAGE})
        assert answer.headers["Access-Control-Allow-Origin"] == PAGE
        for name in ("x-request-id", "retry-after", "x-bridge-reason", "x-ratelimit-remaining-requests"):
            assert name in answer.headers["Access-Control-Expose-Headers"]
        await answer.read()


@pytest.mark.parametrize("origin", [STRANGER, "null", ""])
async def test_a_strangers_page_may_read_nothing(origin: str, bridge: RunningBridge) -> None:
    answer = await bridge.post(bridge.chat("hi"), headers={"Origin": origin})
    assert answer.status == 200  # it showed a key; the browser is who keeps the answer from the page
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert answer.headers["Vary"] == "Origin"


async def test_without_the_setting_there_is_nothing_of_it(arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(arena, tmp_path / "state") as bridge:
        answer = await bridge.post(bridge.chat("hi"), headers={"Origin": PAGE})
        assert not [name for name in answer.headers if name.startswith("Access-Control") or name == "Vary"]
        assert (await bridge.http.options(f"{bridge.base_url}/models", headers=preflight(PAGE))).status == 405


async def test_a_star_allows_every_page_of_whatever_name(arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(arena, tmp_path / "state", {"server": {"cors_origins": ["*"]}}) as bridge:
        for origin in (PAGE, STRANGER, "null"):
            answer = await bridge.http.options(f"{bridge.base_url}/models", headers=preflight(origin))
            assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (204, origin)
