"""Upstream is silent or sends only heartbeats: how long the bridge waits, what it repeats, and what callers get."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from answered import ask
from running import RunningBridge, running_bridge

from upstream.arena import Arena, Line

PROMPT = "/say one two three four five"
TEXT = "one two three four five"
DRAWS = "gpt-image-3"

#: The timeout for the first byte and for silence in the middle, in seconds; heartbeats come four times as often.
PATIENCE = 0.8
BEAT = PATIENCE / 4
IMPATIENT: dict[str, dict[str, object]] = {
    "upstream": {"first_byte_timeout": PATIENCE, "image_first_byte_timeout": PATIENCE, "idle_timeout": PATIENCE},
    "stream": {"keepalive_seconds": PATIENCE / 3},
}

streamed_and_not = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


@pytest.fixture
async def bridge(arena: Arena, tmp_path: Path) -> AsyncIterator[RunningBridge]:
    async with running_bridge(arena, tmp_path / "state", IMPATIENT) as bridge:
        yield bridge


@pytest.fixture
async def quiet(arena: Arena, tmp_path: Path) -> AsyncIterator[RunningBridge]:
    """The same without keep-alives before an answer: failures have their true status, and answers all their headers."""
    async with running_bridge(arena, tmp_path / "state", {"upstream": IMPATIENT["upstream"]}) as bridge:
        yield bridge


async def draw(bridge: RunningBridge) -> tuple[int, dict[str, Any]]:
    body = {"model": DRAWS, "prompt": "a cat"}
    async with bridge.http.post(f"{bridge.base_url}/images/generations", json=body, headers=bridge.headers) as response:
        return response.status, await response.json()


def assert_unharmed(bridge: RunningBridge) -> None:
    """No account is blamed, the circuit is closed, nothing is held."""
    assert len(bridge.state.pool.usable("image")) == len(bridge.state.pool)
    assert bridge.calls_held == 0


# Heartbeats


async def test_a_drawing_is_awaited_through_long_heartbeats(arena: Arena, bridge: RunningBridge) -> None:
    arena.faults.arm("heartbeats", count=8, every=BEAT)
    status, body = await draw(bridge)
    assert (status, len(body["data"])) == (200, 1)
    assert len(arena.chats) == 1


@streamed_and_not
@pytest.mark.parametrize("model", [DRAWS, None], ids=["a picture", "text"])
async def test_a_chat_answer_is_awaited_through_long_heartbeats(
    model: str | None, stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    arena.faults.arm("heartbeats", count=8, every=BEAT)
    answer = await ask(bridge, PROMPT, model=model or bridge.model(), stream=stream)
    assert answer.is_good
    assert answer.text.startswith("![image](") if model else answer.text == TEXT
    assert (answer.keepalives > 0) == stream  # a streaming caller gets keep-alives while it waits
    assert len(arena.chats) == 1


@streamed_and_not
async def test_silence_after_heartbeats_is_a_timeout(stream: bool, arena: Arena, bridge: RunningBridge) -> None:
    arena.faults.arm("heartbeats", None, count=3, every=0.01, release=asyncio.Event())
    answer = await ask(bridge, PROMPT, stream=stream)
    assert answer.said == (200 if stream else 504, "upstream_timeout", "timeout")  # a keep-alive was sent before
    assert answer.error is not None
    assert "sent no answer" in answer.error["message"]
    assert answer.text == ""
    assert len(arena.chats) == 2
    assert_unharmed(bridge)


async def test_a_drawing_silent_after_heartbeats_is_a_timeout(arena: Arena, bridge: RunningBridge) -> None:
    arena.faults.arm("heartbeats", None, count=3, every=0.01, release=asyncio.Event())
    status, body = await draw(bridge)
    assert (status, body["error"]["code"]) == (504, "upstream_timeout")
    assert len(arena.chats) == 2
    assert_unharmed(bridge)


async def test_endless_heartbeats_end_with_the_total_timeout(arena: Arena, tmp_path: Path) -> None:
    overrides = {"upstream": {**IMPATIENT["upstream"], "total_timeout": 4 * PATIENCE}}
    async with running_bridge(arena, tmp_path / "state", overrides) as bridge:
        arena.faults.arm("heartbeats_only", None)
        answer = await ask(bridge, PROMPT)
        assert answer.said == (504, "upstream_timeout", "timeout")
        assert len(arena.chats) == 1
        assert_unharmed(bridge)


@streamed_and_not
@pytest.mark.parametrize("fails_again", [False, True], ids=["once", "each time"])
async def test_a_failure_after_heartbeats_is_repeated_and_then_has_its_true_status(
    fails_again: bool, stream: bool, arena: Arena, tmp_path: Path
) -> None:
    async with running_bridge(arena, tmp_path / "state") as bridge:
        attempts = [True, fails_again]
        arena.script = lambda _: beating(fails=attempts.pop(0))
        answer = await ask(bridge, PROMPT, stream=stream)
        if fails_again:
            assert answer.said == (502, "upstream_error", "upstream_error")  # not a stream that says 200
            assert answer.error is not None
            assert answer.error["message"].startswith("The model failed: Tired.")
        else:
            assert (answer.is_good, answer.text) == (True, "hello")
        assert len(arena.chats) == 2


def beating(*, fails: bool) -> list[Line]:
    """Heartbeats, and then a failure or an answer."""
    heartbeat = Line("a2", [{"type": "heartbeat"}])
    if fails:
        return [heartbeat, heartbeat, Line("a3", "Tired")]
    return [heartbeat, Line("a0", "hello"), Line("ad", {"finishReason": "stop"})]


# Silence


@streamed_and_not
async def test_a_silent_answer_is_replaced_by_a_new_evaluation(
    stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    arena.faults.arm("silent_start")
    answer = await ask(bridge, PROMPT, stream=stream)
    assert (answer.is_good, answer.text) == (True, TEXT)
    assert [call.kind for call in arena.chats] == ["create", "create"]
    first, second = (call.evaluation_id for call in arena.chats)
    assert first != second
    await arena.chats[0].closed.wait()  # the silent call is closed
    assert_unharmed(bridge)


@streamed_and_not
async def test_a_silent_follow_up_is_replaced_by_a_new_evaluation_with_the_whole_history(
    stream: bool, arena: Arena, quiet: RunningBridge
) -> None:
    first = await ask(quiet, "Who are you?", stream=stream)
    arena.faults.arm("silent_start")
    second = await ask(quiet, "Who are you?", first.text, "And I?", stream=stream)
    assert (second.is_good, second.place) == (True, "new; why=uncertain")
    assert [call.kind for call in arena.chats] == ["create", "follow-up", "create"]
    shown = arena.evaluations[str(arena.chats[-1].evaluation_id)].messages[0].content
    assert all(text in shown for text in ("Who are you?", first.text, "And I?"))
    third = await ask(quiet, "Who are you?", first.text, "And I?", second.text, "Both?", stream=stream)
    assert (third.is_good, third.place) == (True, "follow-up; why=known")
    assert arena.chats[-1].evaluation_id == arena.chats[-2].evaluation_id


async def test_a_chat_with_a_silent_account_is_repeated_with_another(arena: Arena, tmp_path: Path) -> None:
    ada, bob = arena.sign_in("ada@example.org"), arena.sign_in("bob@example.org")
    async with running_bridge(
        arena, tmp_path / "state", {"upstream": IMPATIENT["upstream"]}, sessions=(ada, bob)
    ) as bridge:
        arena.faults.arm("silent_start", None, account=ada.user_id)
        for number in range(2):
            assert (await ask(bridge, f"/say {number}")).is_good
            assert arena.chats[-1].account == bob.user_id
        assert_unharmed(bridge)


@streamed_and_not
async def test_a_call_that_is_silent_twice_is_a_timeout(stream: bool, arena: Arena, quiet: RunningBridge) -> None:
    arena.faults.arm("silent_start", None)
    answer = await ask(quiet, PROMPT, stream=stream)
    assert answer.said == (504, "upstream_timeout", "timeout")
    assert answer.headers["x-should-retry"] == "false"
    assert len(arena.chats) == 2
    assert_unharmed(quiet)


@streamed_and_not
async def test_a_call_without_response_headers_is_not_repeated(
    stream: bool, arena: Arena, quiet: RunningBridge
) -> None:
    arena.faults.arm("no_headers", None)
    answer = await ask(quiet, PROMPT, stream=stream)
    assert answer.said == (504, "upstream_timeout", "timeout")
    assert len(arena.chats) == 1
    assert_unharmed(quiet)
