"""Tool calls and structured output from end to end, with one repair turn in the same evaluation."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from agents import Agents, answers, calls_released
from caller import calling
from frames import DONE, frames
from leaving import nobody_returns
from running import RunningBridge, running_bridge
from tool_forms import WEATHER, block, offering

from bridge.answering.chat import JsonFormat, Tools
from bridge.answering.events import AnswerEvent
from bridge.answering.tools.stage import ToolsStage
from upstream.arena import Arena, Line, Step, Turn, Until

GOOD = block([("get_weather", {"city": "Paris"})])
WRONG = block([("weather", {"city": "Paris"})])
FORMAT = JsonFormat(WEATHER.parameters)


@pytest.fixture
def agents() -> Agents:
    return Agents()


@pytest.fixture
async def bridge(arena: Arena, agents: Agents, tmp_path: Path) -> AsyncIterator[RunningBridge]:
    async with running_bridge(arena, tmp_path, dialects={"/agents": agents}) as bridge:
        yield bridge


def offer(agents: Agents, tools: Tools | None = None, json_format: JsonFormat | None = None) -> None:
    agents.change = lambda chat: chat._replace(tools=tools, json_format=json_format)


async def ask(bridge: RunningBridge, *messages: str, **body: object) -> tuple[int, Mapping[str, str], bytes]:
    url = f"{bridge.base_url}/agents"
    async with bridge.http.post(url, json=bridge.chat(*messages, **body), headers=bridge.headers) as answer:
        return answer.status, answer.headers, await answer.read()


def choice_of(body: bytes) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(body)["choices"][0]
    return found


def deltas_of(body: bytes) -> list[dict[str, Any]]:
    *chunks, done = frames(body)
    assert done == DONE
    return [orjson.loads(chunk)["choices"][0] for chunk in chunks]


async def test_a_tool_call_is_returned_in_an_unstreamed_answer(
    arena: Arena, bridge: RunningBridge, agents: Agents
) -> None:
    offer(agents, offering())
    arena.script = answers(["I look.", "\n<tool", *GOOD.removeprefix("<tool")])
    status, headers, body = await ask(bridge, "How is the weather?")
    choice = choice_of(body)
    assert (status, headers["x-bridge-tools"], choice["finish_reason"]) == (200, "called", "tool_calls")
    assert choice["message"]["content"] == "I look."
    (call,) = choice["message"]["tool_calls"]
    assert call["type"] == "function"
    assert call["function"] == {"name": "get_weather", "arguments": '{"city":"Paris"}'}
    usage = orjson.loads(body)["usage"]
    assert usage["completion_tokens"] > 0


async def test_a_tool_call_is_sent_in_a_stream(arena: Arena, bridge: RunningBridge, agents: Agents) -> None:
    offer(agents, offering())
    arena.script = answers(list(GOOD))
    status, headers, body = await ask(bridge, "How is the weather?", stream=True)
    first, called, last = deltas_of(body)
    assert (status, "x-bridge-tools" in headers) == (200, False)
    assert first["delta"] == {"role": "assistant", "content": None}
    (call,) = called["delta"]["tool_calls"]
    assert (call["index"], call["function"]["arguments"]) == (0, '{"city":"Paris"}')
    assert last["finish_reason"] == "tool_calls"


async def test_text_before_a_tool_call_is_streamed_at_once(arena: Arena, bridge: RunningBridge, agents: Agents) -> None:
    read = asyncio.Event()

    async def script(_: Turn) -> AsyncIterator[Step]:
        yield Line("a0", "I look.\n")
        yield Until(read)
        yield Line("a0", GOOD)
        yield Line("ad", {"finishReason": "stop"})

    offer(agents, offering())
    arena.script = script
    async with asyncio.timeout(10), calling(bridge.origin, bridge.key, path="/v1/agents") as caller:
        await caller.ask(bridge.chat("How is the weather?", stream=True))
        await caller.sees(b'"I look."')
        read.set()
        await caller.sees(b'"tool_calls"')
        await caller.sees(b"[DONE]")


@pytest.mark.parametrize("stream", [False, True])
async def test_an_unreadable_tool_call_is_repaired_in_the_same_evaluation(
    arena: Arena, bridge: RunningBridge, agents: Agents, stream: bool
) -> None:
    offer(agents, offering())
    arena.script = answers(f"I look.\n{WRONG}", GOOD)
    _, headers, body = await ask(bridge, "How is the weather?", stream=stream)
    create, repair = arena.chats
    assert (create.kind, repair.kind) == ("create", "follow-up")
    assert create.evaluation_id == repair.evaluation_id
    assert b'"get_weather"' in body
    assert b"tool_calls" in body
    if not stream:
        assert headers["x-bridge-tools"] == "repaired"
        assert choice_of(body)["message"]["content"] == "I look."
    assert bridge.calls_held == 0


async def test_a_repaired_answer_is_regenerated_in_a_new_evaluation(
    arena: Arena, bridge: RunningBridge, agents: Agents
) -> None:
    offer(agents, offering(required=True))
    arena.script = answers("I look.", GOOD, GOOD, GOOD)
    await ask(bridge, "How is the weather?")
    _, headers, _ = await ask(bridge, "How is the weather?")
    assert headers["x-bridge-conversation"].startswith("new")
    assert [call.kind for call in arena.chats] == ["create", "follow-up", "create"]


@pytest.mark.parametrize("stream", [False, True])
async def test_the_first_answer_is_returned_as_text_if_the_repair_fails(
    arena: Arena, bridge: RunningBridge, agents: Agents, stream: bool
) -> None:
    offer(agents, offering())
    text = f"I look.\n{WRONG}"
    arena.script = answers(text, WRONG)
    status, headers, body = await ask(bridge, "How is the weather?", stream=stream)
    assert status == 200
    if stream:
        *told, last = deltas_of(body)
        assert "".join(each["delta"].get("content") or "" for each in told) == text
    else:
        last = choice_of(body)
        assert last["message"]["content"] == text
        assert headers["x-bridge-tools"] == "unparsed"
    assert last["finish_reason"] == "stop"


@pytest.mark.parametrize("fault", ["rate_limited", "battle_turn", "model_failed_first", "model_failed_middle"])
async def test_the_first_answer_is_returned_as_text_if_the_site_refuses_the_repair(
    arena: Arena, bridge: RunningBridge, agents: Agents, fault: str
) -> None:
    offer(agents, offering())
    arena.script = answers(WRONG, GOOD)
    arena.faults.arm(fault, on="follow-up")
    status, headers, body = await ask(bridge, "How is the weather?")
    assert (status, headers["x-bridge-tools"]) == (200, "unparsed")
    assert choice_of(body)["message"]["content"] == WRONG
    assert bridge.calls_held == 0
    arena.script = answers("Hello.")
    offer(agents)
    status, _, _ = await ask(bridge, "How is the weather?")  # the evaluation's state is unknown: a new one


async def test_a_missing_required_tool_call_is_an_error(arena: Arena, bridge: RunningBridge, agents: Agents) -> None:
    offer(agents, offering(required=True))
    arena.script = answers("It is sunny.", "Really.")
    status, headers, body = await ask(bridge, "How is the weather?")
    assert (status, orjson.loads(body)["error"]["code"]) == (502, "invalid_model_output")
    assert headers["x-bridge-tools"] == "unparsed"
    arena.script = answers("It is sunny.", "Really.")
    status, _, body = await ask(bridge, "How is the weather there?", stream=True)
    if status == 200:  # its text had already been sent
        last = frames(body)[-1]
        assert orjson.loads(last)["error"]["code"] == "invalid_model_output"


async def test_an_error_before_a_streams_first_event_has_the_tools_header(
    arena: Arena, bridge: RunningBridge, agents: Agents
) -> None:
    offer(agents, offering(required=True))
    arena.script = answers(WRONG, WRONG)
    status, headers, body = await ask(bridge, "How is the weather?", stream=True)
    assert (status, orjson.loads(body)["error"]["code"]) == (502, "invalid_model_output")
    assert headers["x-bridge-tools"] == "unparsed"


@pytest.mark.parametrize("stream", [False, True])
async def test_several_answers_without_the_required_tool_call_are_an_error_with_the_tools_header(
    arena: Arena, bridge: RunningBridge, agents: Agents, stream: bool
) -> None:
    agents.change = lambda chat: chat._replace(tools=offering(required=True), choices=2)
    arena.script = answers(*[WRONG] * 4)
    status, headers, _ = await ask(bridge, "How is the weather?", stream=stream)
    assert (status, headers["x-bridge-tools"]) == (502, "unparsed")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_token_limit_also_bounds_the_repair(
    arena: Arena, bridge: RunningBridge, agents: Agents, stream: bool
) -> None:
    """An endless repair is closed upstream, and the first answer is delivered as plain text."""
    first = True

    async def script(_: Turn) -> AsyncIterator[Step]:
        nonlocal first
        if first:
            first = False
            yield Line("a0", f"I look.\n{WRONG}")
            yield Line("ad", {"finishReason": "stop"})
            return
        yield Line("a0", GOOD + " and so on" * 100)
        yield Until(asyncio.Event())  # for as long as the bridge keeps the call open

    agents.change = lambda chat: chat._replace(tools=offering(), max_tokens=100)
    arena.script = script
    async with asyncio.timeout(10):
        _, _, body = await ask(bridge, "How is the weather?", stream=stream)
        await arena.chats[-1].done.wait()
    assert len(arena.chats) == 2
    last = deltas_of(body)[-1] if stream else choice_of(body)
    assert last["finish_reason"] == "stop"
    assert b"get_weather" not in body
    if not stream:
        assert orjson.loads(body)["usage"]["completion_tokens"] <= 100


async def test_a_repair_within_the_token_limit_is_used(arena: Arena, bridge: RunningBridge, agents: Agents) -> None:
    agents.change = lambda chat: chat._replace(tools=offering(), max_tokens=100)
    arena.script = answers(f"I look.\n{WRONG}", GOOD)
    _, headers, _ = await ask(bridge, "How is the weather?")
    assert headers["x-bridge-tools"] == "repaired"


async def test_long_answers_are_parsed_outside_the_event_loop(
    arena: Arena, bridge: RunningBridge, agents: Agents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long answers are parsed in another thread so as not to block the event loop; short ones are not."""
    threads: list[bool] = []
    conclude = ToolsStage.conclude

    def seen(stage: ToolsStage, *, cut: bool, may_ask: bool) -> list[AnswerEvent]:
        threads.append(threading.current_thread() is not threading.main_thread())
        return conclude(stage, cut=cut, may_ask=may_ask)

    monkeypatch.setattr(ToolsStage, "conclude", seen)
    offer(agents, offering())
    nearly = block([("get_weather", {"city": "P" * 20_000})]).replace("}}", ",}}")
    arena.script = answers(GOOD, nearly)
    for city in ("Paris", "P" * 20_000):
        choice = choice_of((await ask(bridge, city[:1] * len(threads) + "?"))[2])
        arguments = choice["message"]["tool_calls"][0]["function"]["arguments"]
        assert orjson.loads(arguments) == {"city": city}
    assert threads == [False, True]


async def test_a_caller_that_leaves_closes_the_repair_call(arena: Arena, bridge: RunningBridge, agents: Agents) -> None:
    asked = asyncio.Event()
    first = True

    async def script(_: Turn) -> AsyncIterator[Step]:
        nonlocal first
        if first:
            first = False
            yield Line("a0", "I look.\n")
            yield Line("a0", WRONG)
            yield Line("ad", {"finishReason": "stop"})
            return
        asked.set()
        yield Line("a0", "<tool_call>")
        yield Until(asyncio.Event())  # for as long as the bridge keeps the call open

    offer(agents, offering())
    arena.script = script
    async with asyncio.timeout(10):
        async with calling(bridge.origin, bridge.key, path="/v1/agents") as caller:
            await caller.ask(bridge.chat("How is the weather?", stream=True))
            await caller.sees(b"I look.")
            await asked.wait()
            caller.vanish()
            await nobody_returns(bridge)
        await arena.chats[-1].done.wait()
        await calls_released(bridge)


async def test_requests_with_functions_are_answered_with_a_function_call(
    arena: Arena, bridge: RunningBridge, agents: Agents
) -> None:
    offer(agents, offering(parallel=False))
    agents.older_form = True
    arena.script = answers(GOOD)
    choice = choice_of((await ask(bridge, "How is the weather?"))[2])
    assert choice["finish_reason"] == "function_call"
    assert choice["message"]["function_call"] == {"name": "get_weather", "arguments": '{"city":"Paris"}'}


async def test_structured_output_is_repaired_or_refused(arena: Arena, bridge: RunningBridge, agents: Agents) -> None:
    offer(agents, json_format=FORMAT)
    arena.script = answers('Here:\n```json\n{"city": "Paris"}\n```\nDone.')
    assert choice_of((await ask(bridge, "one"))[2])["message"]["content"] == '{"city": "Paris"}'
    arena.script = answers('{"town": "Paris"}', '{"city": "Paris"}')
    assert choice_of((await ask(bridge, "two"))[2])["message"]["content"] == '{"city": "Paris"}'
    arena.script = answers('{"city": 1}', '{"city": 2}')
    status, _, body = await ask(bridge, "three")
    error = orjson.loads(body)["error"]
    assert (status, error["code"]) == (502, "invalid_model_output")
    assert "'city'" in error["message"]


async def test_streamed_json_that_violates_the_schema_ends_with_an_error(
    arena: Arena, bridge: RunningBridge, agents: Agents
) -> None:
    offer(agents, json_format=FORMAT)
    arena.script = answers(list('{"city": 1}'))
    status, _, body = await ask(bridge, "one", stream=True)
    *chunks, last = frames(body)
    assert status == 200
    told = [orjson.loads(chunk)["choices"][0]["delta"].get("content") or "" for chunk in chunks]
    assert "".join(told) == '{"city": 1}'
    assert orjson.loads(last)["error"]["code"] == "invalid_model_output"


@pytest.mark.parametrize("stream", [False, True])
async def test_stop_strings_and_token_limits_close_the_upstream_call_at_once(
    arena: Arena, bridge: RunningBridge, agents: Agents, stream: bool
) -> None:
    async def script(_: Turn) -> AsyncIterator[Step]:
        for word in ("one ", "two ST", "OP three"):
            yield Line("a0", word)
        yield Until(asyncio.Event())

    arena.script = script
    for change, finish, text in (({"stops": ("STOP",)}, "stop", "one two "), ({"max_tokens": 1}, "length", None)):
        agents.change = lambda chat, change=change: chat._replace(**change)  # type: ignore[misc]  # mypy infers none
        async with asyncio.timeout(10):
            _, _, body = await ask(bridge, "go on", stream=stream)
            await arena.chats[-1].done.wait()
        if stream:
            *told, last = deltas_of(body)
            said = "".join(each["delta"].get("content") or "" for each in told)
        else:
            last = choice_of(body)
            said = last["message"]["content"]
            assert orjson.loads(body)["usage"]["completion_tokens"] <= 4
        assert last["finish_reason"] == finish
        assert said == text or (text is None and "one two".startswith(said))
        turns = [{"role": "user", "content": "go on"}, {"role": "assistant", "content": said}]
        _, headers, _ = await ask_not_further(bridge, [*turns, {"role": "user", "content": "more"}])
        assert headers["x-bridge-conversation"].startswith("new; why=unknown")


async def ask_not_further(bridge: RunningBridge, messages: object) -> tuple[int, Mapping[str, str], bytes]:
    return await ask(bridge, messages=messages)


async def test_a_request_without_tools_gets_the_text_unchanged(arena: Arena, bridge: RunningBridge) -> None:
    """The text contains markers, calls and stop strings, but no stage processes it."""
    pieces = ["  a ", "<tool_call>", '{"name": "now"}', "</tool_call>\n", "[TOOL_CALLS]", "```", "STOP "]
    arena.script = answers(pieces, "".join(pieces))
    async with await bridge.post(bridge.chat("one", stream=True)) as answer:
        assert "x-bridge-tools" not in answer.headers
        *chunks, done = frames(await answer.read())
    assert done == DONE
    told = [orjson.loads(chunk)["choices"][0]["delta"].get("content") for chunk in chunks]
    assert told == ["", *pieces, None] or "".join(each or "" for each in told) == "".join(pieces)
    async with await bridge.post(bridge.chat("two")) as answer:
        assert "x-bridge-tools" not in answer.headers
        message = orjson.loads(await answer.read())["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "".join(pieces), "refusal": None}
