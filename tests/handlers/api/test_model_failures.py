"""If a model fails before its first word, the request is repeated once; then the caller gets the model's own words."""

from __future__ import annotations

from typing import Any

import pytest
from answered import ask
from running import RunningBridge

from upstream.arena import Arena, Eof, Line

PROMPT = "/say one two three four five"
TEXT = "one two three four five"
WORDS = "Out of capacity"

streamed_and_not = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])

#: How a model fails → the fault, its parameters, and the message that the caller reads.
FIRST: dict[str, tuple[str, dict[str, Any], str]] = {
    "hasArenaError": ("arena_error", {"after": 0}, "The model failed."),
    "an object": ("model_failed_object", {"after": 0, "message": WORDS}, f"The model failed: {WORDS}."),
    "JSON in a string": ("model_failed_json", {"after": 0, "message": WORDS}, f"The model failed: {WORDS}."),
    "words before an empty end": ("explained_empty", {"message": WORDS}, f"The model failed: {WORDS}."),
}
MIDDLE: dict[str, tuple[str, dict[str, Any], str]] = {
    "hasArenaError": ("arena_error", {}, "The model failed."),
    "an object": ("model_failed_object", {"message": WORDS}, f"The model failed: {WORDS}."),
    "JSON in a string": ("model_failed_json", {"message": WORDS}, f"The model failed: {WORDS}."),
}


def assert_unharmed(bridge: RunningBridge) -> None:
    """No account is blamed, the circuit is closed, nothing is held and nothing remembered."""
    assert len(bridge.state.pool.usable("chat")) == len(bridge.state.pool)
    assert len(bridge.relay._conversations) == 0
    assert bridge.calls_held == 0


@streamed_and_not
@pytest.mark.parametrize(("fault", "parameters", "says"), FIRST.values(), ids=FIRST)
async def test_a_repeated_failure_before_any_text_is_reported_in_the_models_words(
    fault: str, parameters: dict[str, Any], says: str, stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    arena.faults.arm(fault, None, **parameters)
    answer = await ask(bridge, PROMPT, stream=stream)
    assert answer.said == (502, "upstream_error", "upstream_error")
    assert answer.error is not None
    assert answer.error["message"].startswith(says)
    assert answer.headers["x-should-retry"] == "false"
    assert len(arena.chats) == 2
    assert_unharmed(bridge)


@streamed_and_not
@pytest.mark.parametrize("how", FIRST)
async def test_a_single_failure_before_any_text_is_repeated_unnoticed(
    how: str, stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    fault, parameters, _ = FIRST[how]
    arena.faults.arm(fault, **parameters)
    answer = await ask(bridge, PROMPT, stream=stream)
    assert (answer.is_good, answer.text) == (True, TEXT)
    assert len(arena.chats) == 2


@streamed_and_not
@pytest.mark.parametrize(("fault", "parameters", "says"), MIDDLE.values(), ids=MIDDLE)
async def test_a_failure_after_text_is_reported_without_a_repetition(
    fault: str, parameters: dict[str, Any], says: str, stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    arena.keeps_generating = True  # the transport did not break, so nothing is read back
    arena.faults.arm(fault, None, **parameters)
    answer = await ask(bridge, PROMPT, stream=stream)
    assert answer.said == (200 if stream else 502, "upstream_error", "upstream_error")
    assert answer.error is not None
    assert answer.error["message"].startswith(says)
    assert answer.text == ("one two " if stream else "")
    assert (len(arena.chats), kinds(arena).count("evaluation")) == (1, 0)
    assert_unharmed(bridge)


@pytest.mark.parametrize("fails", [1, None], ids=["once", "each time"])
@pytest.mark.parametrize("how", FIRST)
async def test_a_failed_drawing_is_repeated_once(
    how: str, fails: int | None, arena: Arena, bridge: RunningBridge
) -> None:
    fault, parameters, says = FIRST[how]
    arena.faults.arm(fault, fails, **parameters)
    body = {"model": "gpt-image-3", "prompt": "a cat"}
    async with bridge.http.post(f"{bridge.base_url}/images/generations", json=body, headers=bridge.headers) as answer:
        document = await answer.json()
    assert len(arena.chats) == 2
    if fails:
        assert (answer.status, len(document["data"])) == (200, 1)
    else:
        assert (answer.status, document["error"]["code"]) == (502, "upstream_error")
        assert document["error"]["message"].startswith(says)
    assert_unharmed(bridge)


@streamed_and_not
async def test_the_error_quotes_the_last_message_of_the_bookkeeping_lines(
    stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    arena.script = lambda _: [
        Line("ae", {"isContinued": False}),
        Line("ae", {"message": "Busy"}),
        Line("ag", ""),
        Line("a2", [{"type": "heartbeat"}]),
        Line("ae", {"message": "The lab has closed this model"}),
        Line("a0", "hasArenaError"),
        Eof(),
    ]
    answer = await ask(bridge, PROMPT, stream=stream)
    assert answer.said == (502, "upstream_error", "upstream_error")
    assert answer.error is not None
    assert answer.error["message"].startswith("The model failed: The lab has closed this model.")


@streamed_and_not
async def test_the_sites_error_marker_may_occur_in_an_answer(stream: bool, arena: Arena, bridge: RunningBridge) -> None:
    arena.script = lambda _: [
        Line("a0", "The word is "),
        Line("a0", "hasArenaError."),
        Line("a0", " hasArenaError"),
        Line("ad", {"finishReason": "stop"}),
    ]
    answer = await ask(bridge, PROMPT, stream=stream)
    assert (answer.is_good, answer.text) == (True, "The word is hasArenaError. hasArenaError")
    assert len(arena.chats) == 1


def kinds(arena: Arena) -> list[str]:
    return [call.kind for call in arena.calls]
