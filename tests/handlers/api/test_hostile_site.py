"""What callers get from a site that sends too much, quotes what it was sent, or answers with odd statuses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from answered import ask
from running import RunningBridge, running_bridge

from bridge.dialects.openai import chat_answer as chat_answers
from handlers.request.appkeys import CLIENT
from upstream.arena import Arena, Line, Step, Turn
from upstream.arena.steps import Unframed
from upstream.protocol import cookies

PROMPT = "/say one two three"
CLEARANCE = "Zk3vQ9.w8Tn_xY2-1764400000-1.2.1.1-aBcDeFgHiJkLmNoP"

streamed_and_not = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


# What the site quotes

QUOTED: dict[str, Callable[[str], str]] = {
    "the session": lambda session: session,
    "the session's first hundred": lambda session: session[:100],
    "the middle of the session": lambda session: session[150:200],
    "the access token": lambda session: str(cookies.contents(session)["access_token"]),
    "the refresh token": lambda session: str(cookies.contents(session)["refresh_token"]),
    "the clearance": lambda _: f"cf_clearance={CLEARANCE}",
    "the clearance's middle": lambda _: CLEARANCE[10:40],
}

#: The faults whose messages quote them.
PLACES = {
    "400": "rejected",
    "400 of the schema": "rejected_zod",
    "418": "client_error",
    "a3, an object": "model_failed_object",
    "a3, JSON in a string": "model_failed_json",
    "ae": "explained_empty",
}


@pytest.fixture
async def cleared(arena: Arena, tmp_path: Path) -> AsyncIterator[RunningBridge]:
    """A bridge that also sends a clearance cookie."""
    overrides = {"upstream": {"cf_clearance": CLEARANCE, "user_agent": "a browser's"}}
    async with running_bridge(arena, tmp_path / "state", overrides) as bridge:
        yield bridge


@streamed_and_not
@pytest.mark.parametrize("fault", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("quote", QUOTED.values(), ids=QUOTED)
async def test_cookies_quoted_by_the_site_are_hidden_from_callers_and_logs(
    quote: Callable[[str], str],
    fault: str,
    stream: bool,
    arena: Arena,
    cleared: RunningBridge,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await cleared.logins_checked()
    (account,) = cleared.state.pool
    secret = quote(account.session.value)
    arena.faults.arm(fault, None, message=f"The site saw '{secret}' here")
    answer = await ask(cleared, PROMPT, stream=stream)
    assert answer.error is not None
    told = json.dumps([dict(answer.headers), answer.error, answer.text]) + caplog.text
    assert "The site saw '" in told
    assert "[secret]" in told
    assert secret.rpartition("=")[2][:12] not in told


async def test_cookies_quoted_by_the_site_in_mid_stream_are_hidden(arena: Arena, cleared: RunningBridge) -> None:
    (account,) = cleared.state.pool

    async def script(_turn: Turn) -> AsyncIterator[Step]:
        yield Line("a0", "one ")
        yield Line("a3", {"message": f"Bad session {account.session.value}"})

    arena.script = script
    answer = await ask(cleared, PROMPT, stream=True)
    assert answer.error is not None
    assert answer.text == "one "
    assert answer.error["message"].startswith("The model failed: Bad session [secret].")


# How much the site sends


def on_and_on(line: Line) -> Callable[[Turn], AsyncIterator[Step]]:
    async def script(_turn: Turn) -> AsyncIterator[Step]:
        for _ in range(10_000):
            yield line
            await asyncio.sleep(0)

    return script


@pytest.mark.parametrize("tag", ["a0", "ag"])
async def test_an_endless_unstreamed_answer_is_an_error(
    tag: str, arena: Arena, bridge: RunningBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_answers, "MAX_WHOLE_CHARS", 300_000)
    arena.script = on_and_on(Line(tag, "x" * 10_000))
    answer = await ask(bridge, PROMPT, stream=False)
    assert answer.said == (502, "upstream_error", "upstream_error")
    assert answer.error is not None
    assert "not streamed" in answer.error["message"]
    assert answer.headers["x-should-retry"] == "false"
    assert bridge.calls_held == 0


async def test_unstreamed_answers_share_a_memory_limit_that_streams_do_not_have(
    arena: Arena, bridge: RunningBridge
) -> None:
    held = bridge.app[CLIENT]._memory_budget
    held.limit = 1_000_000

    async def script(_turn: Turn) -> AsyncIterator[Step]:
        for _ in range(150):
            yield Line("a0", "x" * 10_000)
        yield Line("ad", {"finishReason": "stop"})

    arena.script = script
    whole = await ask(bridge, PROMPT, stream=False)
    assert whole.said == (503, "overloaded", "rate_limited")
    assert whole.headers["Retry-After"] == "1"
    streamed = await ask(bridge, PROMPT, stream=True)
    assert (streamed.is_good, len(streamed.text)) == (True, 1_500_000)
    assert held.total == 0


@streamed_and_not
async def test_an_answer_with_too_many_trailers_breaks_off(stream: bool, arena: Arena, tmp_path: Path) -> None:
    async def script(_turn: Turn) -> AsyncIterator[Step]:
        yield Line("a0", "one ")
        yield Unframed(b"0\r\n")
        for _ in range(1000):  # 6 MB
            yield Unframed(b"A: b\r\n" * 1000)
            await asyncio.sleep(0)

    arena.script = script
    async with running_bridge(arena, tmp_path, {"upstream": {"recover": False}}) as bridge:
        answer = await ask(bridge, PROMPT, stream=stream)
        assert answer.said == (200 if stream else 502, "upstream_error", "truncated")
        assert bridge.calls_held == 0


# Statuses


@pytest.mark.parametrize("status", [101, 201, 202, 204, 205, 206, 226])
async def test_an_unexpected_success_status_is_reported_as_a_changed_site(
    status: int, arena: Arena, bridge: RunningBridge
) -> None:
    arena.faults.arm("odd_status", status=status)
    answer = await ask(bridge, PROMPT, stream=False)
    assert answer.said == (502, "upstream_error", "site_changed")
    assert answer.error is not None
    assert str(status) in answer.error["message"]
    assert len(bridge.state.pool.usable("chat")) == 1
    assert (await ask(bridge, PROMPT, stream=False)).is_good
