"""Agents through the Responses API: functions, custom tools and namespaces, called, answered and repaired."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from agents import answers
from openresponses import check_event, check_object
from response_events import Read, check_sdk_response, events_of, read_events
from running import RunningBridge
from tool_forms import block

from upstream.arena import JSON_MODEL, Arena, builtin_models, tool_models

WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "get_weather",
    "description": "Say how the weather is.",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"],
        "additionalProperties": False,
    },
}
NOW: dict[str, Any] = {"type": "function", "name": "now"}
PATCH: dict[str, Any] = {
    "type": "custom",
    "name": "apply_patch",
    "format": {"type": "grammar", "syntax": "lark", "definition": "start: patch"},
}
TOOLS: list[Any] = [WEATHER, NOW]
PROMPT = 'What is it like?\n/call get_weather {"city": "Paris, \\"5e\\"", "days": 3}\n/call now {}'
CALLED = [("get_weather", {"city": 'Paris, "5e"', "days": 3}), ("now", {})]
CALLING = [
    model.public_name
    for model in tool_models()
    if model.public_name not in ("tools-never", "tools-unknown", JSON_MODEL)
]
ASKED = "tools-asked-for"

streamed_and_not = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


@pytest.fixture
async def arena() -> AsyncIterator[Arena]:
    async with Arena(models=(*builtin_models(), *tool_models())) as arena:
        yield arena


async def ask(bridge: RunningBridge, given: object, *, stream: bool = False, **body: Any) -> Read:
    """Ask a model that calls tools, check the whole answer, and return it."""
    asked = {"model": ASKED, "input": given, "stream": stream, **body}
    async with bridge.http.post(f"{bridge.base_url}/responses", json=asked, headers=bridge.headers) as answer:
        assert answer.status == 200, await answer.text()
        if stream:
            return read_events(events_of(await answer.read()))
        response = await answer.json()
    check_sdk_response(response)
    return Read(items=response["output"], end=f"response.{response['status']}", response=response)


def called(read: Read) -> list[tuple[str, Any]]:
    return [(item["name"], json.loads(item["arguments"])) for item in read.items if item["type"] == "function_call"]


@pytest.mark.parametrize("model", CALLING)
async def test_tool_calls_are_read_in_every_form_that_models_write(
    arena: Arena, bridge: RunningBridge, model: str
) -> None:
    whole = await ask(bridge, PROMPT, model=model, tools=TOOLS)
    assert called(whole) == CALLED
    streamed = await ask(bridge, PROMPT + "\n", model=model, tools=TOOLS, stream=True)
    assert called(streamed) == CALLED
    assert len(arena.chats) == 2 + 2 * model.endswith("-first")


async def test_the_sdk_reads_calls_from_a_stream(bridge: RunningBridge) -> None:
    async with bridge.sdk().responses.stream(model=ASKED, input=PROMPT, tools=TOOLS) as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_response()
    assert kinds.count("response.function_call_arguments.done") == 2
    calls = [item for item in final.output if item.type == "function_call"]
    assert [(call.name, json.loads(call.arguments)) for call in calls] == CALLED
    assert calls[0].parsed_arguments == CALLED[0][1]


@streamed_and_not
async def test_every_event_and_object_with_tools_conforms_to_the_specification(
    stream: bool, bridge: RunningBridge
) -> None:
    body = {"model": "tools-prose", "input": PROMPT, "tools": [*TOOLS, PATCH], "stream": stream}
    async with bridge.http.post(f"{bridge.base_url}/responses", json=body, headers=bridge.headers) as answer:
        if stream:
            for event in events_of(await answer.read()):
                check_event(event)
        else:
            check_object("ResponseResource", await answer.json())


@pytest.mark.parametrize("stored", [True, False], ids=["by its id", "sent again"])
@streamed_and_not
async def test_tool_results_continue_the_same_evaluation(
    stream: bool, stored: bool, arena: Arena, bridge: RunningBridge
) -> None:
    first = await ask(bridge, PROMPT, tools=TOOLS, stream=stream, store=stored)
    results = [
        {"type": "function_call_output", "call_id": item["call_id"], "output": f"result of {item['name']}"}
        for item in first.items
        if item["type"] == "function_call"
    ]
    if stored:
        asked: dict[str, Any] = {"given": results, "previous_response_id": first.response["id"]}
    else:
        asked = {"given": [{"role": "user", "content": PROMPT}, *first.items, *results]}
    second = await ask(bridge, **asked, tools=TOOLS, stream=True, store=stored)
    assert second.text == "The tool said: result of get_weather result of now"
    assert [call.kind for call in arena.chats] == ["create", "follow-up"]
    third = (
        await ask(bridge, "/call now {}", previous_response_id=second.response["id"], tools=TOOLS) if stored else None
    )
    assert third is None or called(third) == [("now", {})]


@streamed_and_not
async def test_a_custom_tool_takes_free_text(stream: bool, arena: Arena, bridge: RunningBridge) -> None:
    prompt = '/call apply_patch {"input": "*** Begin Patch\\n+é"}'
    first = await ask(bridge, prompt, tools=[PATCH, NOW], stream=stream)
    (call,) = first.items
    assert (call["type"], call["name"], call["input"]) == ("custom_tool_call", "apply_patch", "*** Begin Patch\n+é")
    shown = str(json.loads(arena.chats[0].body)["userMessage"]["content"])
    assert "start: patch" in shown
    result = {
        "type": "custom_tool_call_output",
        "call_id": call["call_id"],
        "output": [{"type": "input_text", "text": "Done."}],
    }
    second = await ask(bridge, [{"role": "user", "content": prompt}, call, result], tools=[PATCH, NOW], stream=True)
    assert second.text == "The tool said: Done."
    assert [call.kind for call in arena.chats] == ["create", "follow-up"]


def namespace(name: str, *tools: dict[str, Any]) -> dict[str, Any]:
    return {"type": "namespace", "name": name, "description": "Tools.", "tools": list(tools)}


@streamed_and_not
async def test_tools_of_two_namespaces_are_told_apart(stream: bool, arena: Arena, bridge: RunningBridge) -> None:
    tools = [namespace("mine", NOW, PATCH), namespace("theirs", NOW)]
    first = await ask(bridge, "/call theirs.now {}", tools=tools, stream=stream)
    (call,) = first.items
    assert (call["name"], call["namespace"]) == ("now", "theirs")
    assert first.response["tools"] == tools
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "noon"}
    given = [{"role": "user", "content": "/call theirs.now {}"}, call, result]
    second = await ask(bridge, given, tools=tools, stream=True)
    assert second.text == "The tool said: noon"
    assert [call.kind for call in arena.chats] == ["create", "follow-up"]


@streamed_and_not
async def test_tools_among_the_input_items_are_offered(stream: bool, arena: Arena, bridge: RunningBridge) -> None:
    offered = {"type": "additional_tools", "role": "developer", "tools": [NOW, {"type": "web_search"}]}
    given: list[Any] = [offered, {"role": "user", "content": "/call now {}"}]
    first = await ask(bridge, given, stream=stream)
    assert called(first) == [("now", {})]
    assert first.response["tools"] == []
    result = {"type": "function_call_output", "call_id": first.items[0]["call_id"], "output": "noon"}
    await ask(bridge, [*given, *first.items, result], stream=stream)
    assert [call.kind for call in arena.chats] == ["create", "follow-up"]


async def test_only_tools_among_the_items_are_taken_over_from_the_previous_response(
    arena: Arena, bridge: RunningBridge
) -> None:
    offered = {"type": "additional_tools", "role": "developer", "tools": [NOW]}
    first = await ask(bridge, [offered, {"role": "user", "content": "/call now {}"}], tools=[WEATHER])
    second = await ask(bridge, "/call now {}", previous_response_id=first.response["id"])
    assert {name for name, _ in called(second)} == {"now"}
    assert second.response["tools"] == []
    assert "get_weather" not in str(json.loads(arena.chats[-1].body)["userMessage"]["content"])


@streamed_and_not
async def test_a_missing_required_tool_call_is_an_error(stream: bool, bridge: RunningBridge) -> None:
    create: Any = bridge.sdk().responses.create
    if not stream:
        with pytest.raises(openai.InternalServerError) as caught:
            await create(model="tools-never", input=PROMPT, tools=TOOLS, tool_choice="required")
        assert (caught.value.status_code, caught.value.code) == (502, "invalid_model_output")
        return
    told = await ask(bridge, PROMPT, model="tools-never", tools=TOOLS, tool_choice="required", stream=True)
    assert (told.end, told.response["error"]["code"]) == ("response.failed", "server_error")
    assert "invalid_model_output" in told.response["error"]["message"]


async def test_a_vendors_tool_is_refused_only_if_its_call_is_required(arena: Arena, bridge: RunningBridge) -> None:
    search: Any = {"type": "web_search"}
    told = await ask(bridge, "/call now {}", tools=[search, NOW])
    assert called(told) == [("now", {})]
    assert told.response["tools"][0] == search
    with pytest.raises(openai.BadRequestError) as caught:
        await bridge.sdk().responses.create(model=ASKED, input="hi", tools=[search], tool_choice=search)
    assert (caught.value.code, caught.value.param) == ("invalid_value", "tool_choice")
    assert len(arena.chats) == 1


@streamed_and_not
async def test_an_unreadable_tool_call_is_repaired_and_reported_in_a_header(
    stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    arena.script = answers(f"I look.\n{block([('weather', {})])}", block([("now", {})]))
    body = {"model": bridge.model(), "input": "Now?", "tools": TOOLS, "stream": stream}
    async with bridge.http.post(f"{bridge.base_url}/responses", json=body, headers=bridge.headers) as answer:
        if stream:
            items = read_events(events_of(await answer.read())).items
        else:
            assert answer.headers["x-bridge-tools"] == "repaired"
            items = (await answer.json())["output"]
    assert [item["type"] for item in items] == ["message", "function_call"]
    assert [call.kind for call in arena.chats] == ["create", "follow-up"]
