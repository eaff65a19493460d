"""`server.cors_origins`: which pages may call the API from a browser, and what their scripts may read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from running import RunningBridge, running_bridge

from handlers.request.cors import allows
from upstream.arena import Arena

PAGE = "http://localhost:3000"
DESKTOP = "app://obsidian.md"
STRANGER = "https://evil.example"

#: Headers that a page may send whether or not its preflight asks for them.
ALWAYS_ALLOWED = {
    "authorization",
    "x-api-key",
    "api-key",
    "anthropic-version",
    "anthropic-beta",
    "anthropic-dangerous-direct-browser-access",
    "content-type",
}


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
async def test_a_preflight_of_an_allowed_page_is_204_with_the_allowed_headers_and_methods(
    path: str, origin: str, bridge: RunningBridge
) -> None:
    asked = preflight(origin, **{"Access-Control-Request-Headers": "authorization,x-stainless-os"})
    answer = await bridge.http.options(bridge.origin + path, headers=asked)
    assert (answer.status, await answer.read()) == (204, b"")
    assert answer.headers["Access-Control-Allow-Origin"] == origin
    allowed = answer.headers["Access-Control-Allow-Headers"].split(", ")
    assert len(allowed) == len(set(allowed))
    assert set(allowed) == {*ALWAYS_ALLOWED, "x-stainless-os"}
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    assert answer.headers["Vary"] == "Origin"
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert "Access-Control-Allow-Private-Network" not in answer.headers


async def test_a_preflight_for_a_private_network_is_allowed(bridge: RunningBridge) -> None:
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
async def test_an_options_request_that_is_no_allowed_preflight_is_405(
    headers: dict[str, str], bridge: RunningBridge
) -> None:
    answer = await bridge.http.options(f"{bridge.base_url}/models", headers=headers)
    assert answer.status == 405
    assert "Access-Control-Allow-Methods" not in answer.headers


async def test_an_allowed_page_may_read_answers_streams_and_errors(bridge: RunningBridge) -> None:
    for body in (bridge.chat("hi"), bridge.chat("hi", stream=True), bridge.chat("hi", model="nobody"), b"{"):
        answer = await bridge.post(body, headers={"Origin": PAGE})
        assert answer.headers["Access-Control-Allow-Origin"] == PAGE
        exposed = answer.headers["Access-Control-Expose-Headers"].split(", ")
        for name in ("request-id", "x-request-id", "retry-after", "x-bridge-reason", "x-ratelimit-remaining-requests"):
            assert name in exposed
        await answer.read()


@pytest.mark.parametrize("origin", [STRANGER, "null", ""])
async def test_a_page_that_is_not_allowed_gets_no_cors_headers(origin: str, bridge: RunningBridge) -> None:
    answer = await bridge.post(bridge.chat("hi"), headers={"Origin": origin})
    assert answer.status == 200  # its key is valid; keeping the answer from the page is up to the browser
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert answer.headers["Vary"] == "Origin"


async def test_without_cors_origins_no_answer_has_cors_headers(arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(arena, tmp_path / "state") as bridge:
        answer = await bridge.post(bridge.chat("hi"), headers={"Origin": PAGE})
        assert not [name for name in answer.headers if name.startswith("Access-Control") or name == "Vary"]
        assert (await bridge.http.options(f"{bridge.base_url}/models", headers=preflight(PAGE))).status == 405


REFUSED = {
    "a web page": PAGE,
    "another site": STRANGER,
    "a desktop application": DESKTOP,
    "an extension": "chrome-extension://abcdefghijklmnop",
    "a sandboxed page": "null",
    "a page on an address": "http://192.168.1.20:8080",
}


@pytest.mark.parametrize("origin", REFUSED.values(), ids=REFUSED)
async def test_a_refused_preflight_says_which_setting_allows_it(
    origin: str, arena: Arena, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with running_bridge(arena, tmp_path / "state") as bridge:
        answer = await bridge.http.options(f"{bridge.base_url}/chat/completions", headers=preflight(origin))
        error = (await answer.json())["error"]
    assert (answer.status, error["code"], answer.headers["Allow"]) == (405, "cors_origin_not_allowed", "POST")
    assert f"The page {origin} " in error["message"]
    assert "server.cors_origins" in error["message"]
    assert f"the page {origin} may not call the API from a browser: server.cors_origins" in caplog.text


async def test_the_origin_of_a_refused_preflight_is_cleaned_and_cut(
    bridge: RunningBridge, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    answer = await bridge.http.options(f"{bridge.base_url}/models", headers=preflight("http://\x9b31m" + "a" * 4000))
    message = (await answer.json())["error"]["message"]
    assert answer.status == 405
    assert "\x9b" not in message + caplog.text
    assert len(message) < 500


ALLOWED_BY_PATTERN = {
    "any extension": ("chrome-extension://*", "chrome-extension://abcdefghijklmnop"),
    "any Firefox extension": ("moz-extension://*", "moz-extension://11111111-2222-3333-4444-555555555555"),
    "any desktop application": ("app://*", "app://obsidian.md"),
    "any port": ("http://localhost:*", "http://localhost:5173"),
    "the port that is not named": ("http://localhost:*", "http://localhost"),
    "any port of an address": ("http://127.0.0.1:*", "http://127.0.0.1:8080"),
    "any port of an IPv6 address": ("http://[::1]:*", "http://[::1]:3000"),
    "a sandboxed page": ("null", "null"),
    "every page": ("*", "https://chat.example"),
}
REFUSED_BY_PATTERN = {
    "another scheme": ("chrome-extension://*", "moz-extension://abc"),
    "a scheme without a host": ("chrome-extension://*", "chrome-extension://"),
    "a path behind the host": ("chrome-extension://*", "chrome-extension://abc/def"),
    "another host": ("http://localhost:*", "http://localhost.evil.example:80"),
    "a host that begins alike": ("http://localhost:*", "http://localhostage:80"),
    "a port that is none": ("http://localhost:*", "http://localhost:80.evil.example"),
    "a colon without a port": ("http://localhost:*", "http://localhost:"),
    "https for http": ("http://localhost:*", "https://localhost:3000"),
    "a sandboxed page": ("http://localhost:*", "null"),
    "a page where only sandboxed ones may": ("null", "https://null"),
}


@pytest.mark.parametrize(("pattern", "origin"), ALLOWED_BY_PATTERN.values(), ids=ALLOWED_BY_PATTERN)
def test_a_pattern_allows_the_origins_that_match_it(pattern: str, origin: str) -> None:
    assert allows(("https://other.example", pattern), origin)


@pytest.mark.parametrize(("pattern", "origin"), REFUSED_BY_PATTERN.values(), ids=REFUSED_BY_PATTERN)
def test_a_pattern_refuses_origins_that_do_not_match_it(pattern: str, origin: str) -> None:
    assert not allows((pattern,), origin)


async def test_a_star_allows_every_origin(arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(arena, tmp_path / "state", {"server": {"cors_origins": ["*"]}}) as bridge:
        for origin in (PAGE, STRANGER, "null"):
            answer = await bridge.http.options(f"{bridge.base_url}/models", headers=preflight(origin))
            assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (204, origin)
