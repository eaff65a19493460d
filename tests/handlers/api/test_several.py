"""Several answers to one request, side by side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from agents import Agents, calls_released
from caller import calling
from frames import DONE, frames
from leaving import nobody_returns
from running import RunningBridge, running_bridge
from tool_forms import block, offering

from upstream.arena import Arena, Line, Step, Turn, Until


@pytest.fixture
def agents() -> Agents:
    agents = Agents()
    agents.change = lambda chat: chat._replace(choices=3)
    return agents


@pytest.fixture
async def bridge(arena: Arena, agents: Agents, tmp_path: Path) -> AsyncIterator[RunningBridge]:
    async with running_bridge(arena, tmp_path, dialects={"/agents": agents}) as bridge:
        yield bridge


def numbered(play: Callable[[int], AsyncIterator[Step]]) -> Callable[[Turn], AsyncIterator[Step]]:
    """A script that passes each answer its number."""
    number = iter(range(100))
    return lambda _: play(next(number))


async def words(number: int) -> AsyncIterator[Step]:
    for word in ("answer ", "number ", str(number)):
        yield Line("a0", word)
    yield Line("ad", {"finishReason": "stop"})


async def ask(bridge: RunningBridge, **body: object) -> tuple[int, dict[str, str], bytes]:
    url = f"{bridge.base_url}/agents"
    async with bridge.http.post(url, json=bridge.chat("hi", **body), headers=bridge.headers) as answer:
        return answer.status, dict(answer.headers), await answer.read()


async def test_several_answers_are_returned_in_one_unstreamed_body(
    arena: Arena, bridge: RunningBridge, agents: Agents
) -> None:
    arena.script = numbered(words)
    status, _, body = await ask(bridge)
    document = orjson.loads(body)
    assert status == 200
    assert [choice["index"] for choice in document["choices"]] == [0, 1, 2]
    texts = {choice["message"]["content"] for choice in document["choices"]}
    assert texts == {f"answer number {number}" for number in range(3)}
    assert len({call.evaluation_id for call in arena.chats}) == 3
    agents.change = lambda chat: chat
    arena.script = numbered(words)
    one = orjson.loads((await ask(bridge, messages=[{"role": "user", "content": "hi "}]))[2])["usage"]
    assert document["usage"]["completion_tokens"] == 3 * one["completion_tokens"]
    assert document["usage"]["prompt_tokens"] >= 3
    assert bridge.calls_held == 0


async def test_several_answers_are_sent_in_one_stream(arena: Arena, bridge: RunningBridge) -> None:
    arena.script = numbered(words)
    _, _, body = await ask(bridge, stream=True, stream_options={"include_usage": True})
    *chunks, done = frames(body)
    assert done == DONE
    *told, last = [orjson.loads(chunk) for chunk in chunks]
    texts: dict[int, str] = {}
    finishes: list[int] = []
    for chunk in told:
        (choice,) = chunk["choices"]
        assert choice["index"] not in finishes
        texts[choice["index"]] = texts.get(choice["index"], "") + (choice["delta"].get("content") or "")
        finishes += [choice["index"]] if choice["finish_reason"] else []
    assert sorted(finishes) == [0, 1, 2]
    assert set(texts.values()) == {f"answer number {number}" for number in range(3)}
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] > 0


async def test_several_answers_are_streamed_without_waiting_for_each_other(arena: Arena, bridge: RunningBridge) -> None:
    go_on = asyncio.Event()

    async def play(number: int) -> AsyncIterator[Step]:
        yield Line("a0", f"<{number}>")
        if number:
            yield Until(go_on)
        yield Line("a0", f"<{number} again>")
        yield Line("ad", {"finishReason": "stop"})

    arena.script = numbered(play)
    async with asyncio.timeout(10), calling(bridge.origin, bridge.key, path="/v1/agents") as caller:
        await caller.ask(bridge.chat("hi", stream=True))
        await caller.sees(b"<0 again>")
        go_on.set()
        await caller.sees(b"[DONE]")


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_fails_before_its_first_delta_fails_the_request(
    arena: Arena, bridge: RunningBridge, stream: bool
) -> None:
    async def play(number: int) -> AsyncIterator[Step]:
        if number:
            yield Line("a3", "no more")
            return
        yield Line("a0", "words")
        yield Until(asyncio.Event())

    arena.script = numbered(play)
    async with asyncio.timeout(10):
        status, _, body = await ask(bridge, stream=stream)
        assert (status, orjson.loads(body)["error"]["code"]) == (502, "upstream_error")
        for call in arena.chats:
            await call.done.wait()
        await calls_released(bridge)


async def test_an_answer_that_fails_in_mid_stream_ends_all_with_one_error(arena: Arena, bridge: RunningBridge) -> None:
    fail = asyncio.Event()

    async def play(number: int) -> AsyncIterator[Step]:
        yield Line("a0", f"<{number}>")
        if number == 1:
            yield Until(fail)
            yield Line("a3", "no more")
            return
        yield Until(asyncio.Event())

    arena.script = numbered(play)
    async with asyncio.timeout(10), calling(bridge.origin, bridge.key, path="/v1/agents") as caller:
        await caller.ask(bridge.chat("hi", stream=True))
        for _ in range(3):
            await caller.sees(b'>"')
        fail.set()
        rest = await caller.sees(b"\r\n0\r\n\r\n")
        assert rest.count(b'"error"') == 1
        assert b"[DONE]" not in rest
        for call in arena.chats:
            await call.done.wait()


async def test_a_caller_that_leaves_closes_all_upstream_calls(arena: Arena, bridge: RunningBridge) -> None:
    async def play(number: int) -> AsyncIterator[Step]:
        yield Line("a0", f"<{number}>")
        yield Until(asyncio.Event())

    arena.script = numbered(play)
    async with asyncio.timeout(10):
        async with calling(bridge.origin, bridge.key, path="/v1/agents") as caller:
            await caller.ask(bridge.chat("hi", stream=True))
            for _ in range(3):
                await caller.sees(b'>"')
            caller.vanish()
            await nobody_returns(bridge)
        for call in arena.chats:
            await call.done.wait()
        await calls_released(bridge)


async def test_the_tools_header_names_the_worst_outcome_of_all_answers(
    arena: Arena, bridge: RunningBridge, agents: Agents
) -> None:
    agents.change = lambda chat: chat._replace(choices=2, tools=offering())

    async def play(number: int) -> AsyncIterator[Step]:
        yield Line("a0", block([("now", {})]) if number == 0 else "No call.")
        yield Line("ad", {"finishReason": "stop"})

    arena.script = numbered(play)
    _, headers, body = await ask(bridge)
    choices: list[dict[str, Any]] = orjson.loads(body)["choices"]
    assert headers["x-bridge-tools"] == "none"
    assert {choice["finish_reason"] for choice in choices} == {"tool_calls", "stop"}
