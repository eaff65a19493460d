"""Stop strings and limits end the answer in each API, with its finish reason, and close the upstream call at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from described import hold
from running import RunningBridge

from upstream.arena import Arena, Line, Step, Turn, Until

Json = dict[str, Any]
HI: Json = {"messages": [{"role": "user", "content": "go on"}]}


@dataclass(frozen=True, slots=True)
class End:
    """How a request asks for an early end, and how the answer reports it."""

    path: str
    asked: Json
    told: bytes


ENDS = {
    "chat, a stop string": End("chat/completions", {**HI, "stop": "STOP"}, b'"finish_reason":"stop"'),
    "chat, a limit": End("chat/completions", {**HI, "max_tokens": 2}, b'"finish_reason":"length"'),
    "responses, a limit": End("responses", {"input": "go on", "max_output_tokens": 2}, b'"reason":"max_output_tokens"'),
    "messages, a stop string": End(
        "messages", {**HI, "max_tokens": 9000, "stop_sequences": ["STOP"]}, b'"stop_sequence":"STOP"'
    ),
    "messages, a limit": End("messages", {**HI, "max_tokens": 2}, b'"stop_reason":"max_tokens"'),
    "completions, a stop string": End("completions", {"prompt": "go on", "stop": "STOP"}, b'"finish_reason":"stop"'),
    "completions, a limit": End("completions", {"prompt": "go on", "max_tokens": 2}, b'"finish_reason":"length"'),
}


async def script(_: Turn) -> AsyncIterator[Step]:
    """Send three deltas, then nothing until the call is closed."""
    for word in ("one ", "two ST", "OP three"):
        yield Line("a0", word)
    yield Until(asyncio.Event())


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
async def test_stop_strings_and_limits_end_the_answer_and_close_the_upstream_call(
    end: End, stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    arena.script = script
    body = orjson.dumps({"model": bridge.model(), "stream": stream, **end.asked})
    headers = {**bridge.headers, "Content-Type": "application/json"}
    async with asyncio.timeout(10):
        async with bridge.http.post(f"{bridge.base_url}/{end.path}", data=body, headers=headers) as answer:
            told = await hold(answer)
        assert answer.status == 200
    await asyncio.wait_for(arena.chats[-1].closed.wait(), 10)
    assert end.told in told
    assert b"one" in told
    assert b"OP" not in told.replace(b'"STOP"', b"")
    assert bridge.calls_held == 0
