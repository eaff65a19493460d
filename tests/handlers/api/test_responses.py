"""The Responses API as the openai SDK uses it: asking, waiting, counting, and what is not supported."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pydantic
import pytest
from openresponses import check_event, check_object
from response_calls import ask, error_of, get, post
from response_events import events_of, read_events
from running import RunningBridge, running_bridge

from upstream.arena import JSON_MODEL, Arena, Line, Step, Turn, builtin_models, tool_models

SEARCHES = "gemini-4-pro-grounding"
UNKNOWN = "resp_" + "0" * 32

streamed_and_not = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


@pytest.fixture
async def arena() -> AsyncIterator[Arena]:
    async with Arena(models=(*builtin_models(), *tool_models(JSON_MODEL))) as arena:
        yield arena


# Asking


async def test_the_sdk_reads_whole_and_streamed_answers(bridge: RunningBridge) -> None:
    sdk, model = bridge.sdk(), bridge.model()
    whole = await sdk.responses.create(model=model, input="/say Hello there.", instructions="Be kind.")
    assert (whole.status, whole.output_text, whole.instructions) == ("completed", "Hello there.", "Be kind.")
    assert whole.usage is not None
    assert whole.usage.total_tokens == whole.usage.input_tokens + whole.usage.output_tokens > 0
    async with sdk.responses.stream(model=model, input="/say Hello again, there.") as stream:
        deltas = [event.delta async for event in stream if event.type == "response.output_text.delta"]
        final = await stream.get_final_response()
    assert deltas == ["Hello ", "again, ", "there."]
    assert final.output_text == "Hello again, there."


@streamed_and_not
async def test_every_event_and_object_conforms_to_the_specification(stream: bool, bridge: RunningBridge) -> None:
    asked: dict[str, Any] = {"stream": stream, "model": SEARCHES, "tools": [{"type": "web_search"}]}
    async with await post(bridge, "/think /cite /say Otters are fine.", **asked) as answer:
        if stream:
            for event in events_of(await answer.read()):
                check_event(event)
        else:
            check_object("ResponseResource", await answer.json())


@streamed_and_not
async def test_reasoning_and_citations_are_part_of_the_response(stream: bool, bridge: RunningBridge) -> None:
    told = await ask(bridge, "/think /cite /say Otters are fine.", stream=stream)
    reasoning, message = told.items
    assert reasoning["content"][0]["text"].startswith("The user wants something.")
    (part,) = message["content"]
    assert part["text"] == "Otters are fine."
    assert {note["url"] for note in part["annotations"]} == {
        "https://en.wikipedia.org/wiki/Otter",
        "https://example.org/arenas?lang=zh&page=2",
    }
    assert told.response["usage"]["output_tokens_details"]["reasoning_tokens"] > 0


class Event(pydantic.BaseModel):
    name: str
    people: list[str]


async def test_an_answer_is_parsed_into_a_model_of_the_callers(bridge: RunningBridge) -> None:
    sdk = bridge.sdk()
    parsed = await sdk.responses.parse(model=JSON_MODEL, input="When?", text_format=Event)
    assert isinstance(parsed.output_parsed, Event)
    async with sdk.responses.stream(model=JSON_MODEL, input="When then?", text_format=Event) as stream:
        final = await stream.get_final_response()
    assert isinstance(final.output_parsed, Event)
    assert final.text is not None
    assert final.text.format is not None
    assert final.text.format.type == "json_schema"


@streamed_and_not
async def test_a_limit_makes_a_response_incomplete(stream: bool, bridge: RunningBridge) -> None:
    told = await ask(bridge, "/count 100", stream=stream, max_output_tokens=5)
    assert (told.end, told.response["incomplete_details"]) == ("response.incomplete", {"reason": "max_output_tokens"})
    assert (told.response["usage"]["output_tokens"], told.response["max_output_tokens"]) == (5, 5)
    assert told.items[-1]["status"] == "incomplete"


async def test_usage_counts_the_whole_history_and_gives_earlier_turns_as_cached(bridge: RunningBridge) -> None:
    first = (await ask(bridge, "/say one " + "word " * 100)).response
    second = (await ask(bridge, "/say two", previous_response_id=first["id"])).response
    assert second["usage"]["input_tokens"] > first["usage"]["input_tokens"]
    assert second["usage"]["input_tokens_details"]["cached_tokens"] >= first["usage"]["input_tokens"] - 10
    assert first["usage"]["input_tokens_details"]["cached_tokens"] == 0


async def test_headers_report_the_conversation_and_the_ignored_parameters(bridge: RunningBridge) -> None:
    asked: dict[str, Any] = {"temperature": 0.5, "tools": [{"type": "web_search"}, {"type": "mcp"}]}
    async with await post(bridge, "/say hi", **asked) as answer:
        assert answer.headers["x-bridge-conversation"] == "new; why=first"
        assert answer.headers["x-bridge-evaluation"].startswith("http")
        assert answer.headers["x-bridge-reason"] == "ok"
        assert answer.headers["x-bridge-ignored"] == "temperature, tools.web_search, tools.mcp"
        assert "x-request-id" in answer.headers
    async with await post(bridge, "/say hi", model=SEARCHES, **asked) as answer:
        assert answer.headers["x-bridge-ignored"] == "temperature, tools.mcp"
    async with await post(bridge, "/say hi", stream=True, tools=[{"type": "tool_search"}]) as answer:
        assert answer.headers["x-bridge-ignored"] == "tools.tool_search"


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_types_of_ignored_tools_are_made_safe_for_the_header(stream: bool, bridge: RunningBridge) -> None:
    tools: list[dict[str, Any]] = [{"type": "a\0\r\nx-evil: 1\x1b\u202e"}]
    async with await post(bridge, "/say hi", tools=tools, stream=stream) as answer:
        assert (answer.status, "x-evil" in answer.headers) == (200, False)
        assert answer.headers["x-bridge-ignored"] == "tools.a\ufffd\ufffd\ufffdx-evil: 1\ufffd\ufffd"
    tools = [{"type": f"tool_{at}_of_many_that_have_no_effect"} for at in range(512)]
    async with await post(bridge, "/say hi", tools=tools, stream=stream) as answer:
        named = answer.headers["x-bridge-ignored"]
        assert (answer.status, named[-3:], len(named)) == (200, "...", 4003)


@pytest.mark.parametrize("header", ["x-api-key", "api-key"])
async def test_a_key_may_come_in_a_header_of_its_own(header: str, bridge: RunningBridge) -> None:
    body = {"model": bridge.model(), "input": "/say hi"}
    async with bridge.http.post(f"{bridge.base_url}/responses", json=body, headers={header: bridge.key}) as answer:
        assert answer.status == 200
    async with bridge.http.post(f"{bridge.base_url}/responses", json=body) as answer:
        assert (await error_of(answer))[:2] == (401, "invalid_api_key")


async def test_the_responses_api_is_served_under_both_prefixes(bridge: RunningBridge) -> None:
    body = {"model": bridge.model(), "input": "/say hi"}
    async with bridge.http.post(f"{bridge.origin}/api/v1/responses", json=body, headers=bridge.headers) as answer:
        assert answer.status == 200


async def test_a_bad_request_raises_the_sdks_own_error(bridge: RunningBridge) -> None:
    sdk, model = bridge.sdk(), bridge.model()
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk.responses.create(model=model, input="hi", background=True)
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "background")
    with pytest.raises(openai.NotFoundError) as missing:
        await sdk.responses.create(model="gpt-0", input="hi", stream=True)
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    assert (await error_of(await post(bridge, "  ")))[2] == "input"


# Waiting


async def test_a_keepalive_comment_precedes_the_events_of_a_slow_response(arena: Arena, tmp_path: Path) -> None:
    say = asyncio.Event()

    async def script(_: Turn) -> AsyncIterator[Step]:
        await say.wait()
        yield Line("a0", "hello")
        yield Line("ad", {"finishReason": "stop"})

    arena.script = script
    async with (
        running_bridge(arena, tmp_path, {"stream": {"keepalive_seconds": 0.1}}) as bridge,
        await post(bridge, "hi", stream=True) as answer,
    ):
        assert await answer.content.readuntil(b"\n\n") == b": keep-alive\n\n"
        say.set()
        told = read_events(events_of(await answer.read()))
    assert (told.text, told.end) == ("hello", "response.completed")


async def test_a_slow_stream_with_keepalive_chunks_begins_with_its_first_events(arena: Arena, tmp_path: Path) -> None:
    say = asyncio.Event()

    async def script(_: Turn) -> AsyncIterator[Step]:
        await say.wait()
        yield Line("a0", "hello")
        yield Line("ad", {"finishReason": "stop"})

    arena.script = script
    async with (
        running_bridge(arena, tmp_path, {"stream": {"keepalive": "chunk", "keepalive_seconds": 0.1}}) as bridge,
        await post(bridge, "hi", stream=True) as answer,
    ):
        first = [await answer.content.readuntil(b"\n\n") for _ in range(3)]
        assert first[2] == b": keep-alive\n\n"
        say.set()
        told = read_events(events_of(b"".join(first) + await answer.read()))
    assert (told.text, told.end) == ("hello", "response.completed")


# What is not supported


async def test_a_websocket_upgrade_is_refused(bridge: RunningBridge) -> None:
    upgrade = {**bridge.headers, "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    async with bridge.http.get(f"{bridge.base_url}/responses", headers=upgrade) as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")
        assert (await answer.json())["error"]["message"] == "There is no WebSocket here: send POST."


async def test_a_request_for_compaction_is_a_404(bridge: RunningBridge) -> None:
    async with await post(bridge, "hi", path="/responses/compact") as answer:
        assert answer.status == 404
        assert "compact" in (await answer.json())["error"]["message"]


async def test_a_completed_response_cannot_be_cancelled(bridge: RunningBridge) -> None:
    made = (await ask(bridge, "/say one")).response
    status, body = await get(bridge, f"{made['id']}/cancel", method="POST")
    assert (status, body["error"]["param"]) == (400, "response_id")
    status, body = await get(bridge, f"{UNKNOWN}/cancel", method="POST")
    assert (status, body["error"]["code"]) == (404, "not_found")


async def test_a_stored_response_cannot_be_streamed_again(bridge: RunningBridge) -> None:
    made = (await ask(bridge, "/say one")).response
    status, body = await get(bridge, f"{made['id']}?stream=true")
    assert (status, body["error"]["param"]) == (400, "stream")
    assert (await get(bridge, f"{made['id']}?stream=false&include=usage"))[0] == 200


# Counting, and what is too long


async def test_input_tokens_are_counted_without_an_upstream_call(arena: Arena, bridge: RunningBridge) -> None:
    sdk, model = bridge.sdk(), bridge.model()
    made = await sdk.responses.create(model=model, input="/say one", instructions="Be brief.")
    asked = len(arena.chats)
    counted = await sdk.responses.input_tokens.count(model=model, input="/say one", instructions="Be brief.")
    assert made.usage is not None
    assert (counted.object, counted.input_tokens) == ("response.input_tokens", made.usage.input_tokens)
    on = await sdk.responses.input_tokens.count(model=model, input="go on", previous_response_id=made.id)
    assert on.input_tokens > 0
    with pytest.raises(openai.NotFoundError):
        await sdk.responses.input_tokens.count(model="gpt-0", input="hi")
    assert len(arena.chats) == asked


LONG = "word " * 25_000


async def test_a_prompt_that_is_too_long_is_refused_in_the_words_that_agents_recognise(
    arena: Arena, bridge: RunningBridge
) -> None:
    async with await post(bridge, LONG) as answer:
        error = (await answer.json())["error"]
        assert (answer.status, error["code"], error["param"]) == (400, "context_length_exceeded", "input")
        assert "exceeds the context window" in error["message"]
        assert "maximum context length is 28250 tokens" in error["message"]
    assert not arena.chats


async def test_a_stream_for_a_prompt_that_is_too_long_ends_with_response_failed(
    arena: Arena, bridge: RunningBridge
) -> None:
    async with await post(bridge, LONG, stream=True) as answer:
        assert answer.status == 200
        told = read_events(events_of(await answer.read()))
    assert told.end == "response.failed"
    assert told.response["error"]["code"] == "context_length_exceeded"
    assert "exceeds the context window" in told.response["error"]["message"]
    assert not arena.chats
    assert bridge.calls_held == 0


@streamed_and_not
async def test_the_oldest_items_are_dropped_if_truncation_is_auto(
    stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    given = [
        {"role": "user", "content": LONG},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "/say hi"},
    ]
    told = await ask(bridge, given, stream=stream, truncation="auto", instructions="Be brief.")
    assert (told.text, told.response["truncation"]) == ("hi", "auto")
    prompt = str(json.loads(arena.chats[-1].body)["userMessage"]["content"])
    assert "Be brief." in prompt
    assert "word word" not in prompt
