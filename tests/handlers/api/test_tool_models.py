"""The openai SDK asks models that call tools in every form as it would ask OpenAI's: streamed, whole, parsed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, Literal

import openai
import pydantic
import pytest
from running import RunningBridge

from bridge.statistics.counts import ToolUse
from handlers.request.appkeys import STATS
from upstream.arena import JSON_MODEL, Arena, builtin_models, tool_models

TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Say how the weather is.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    },
    {"type": "function", "function": {"name": "now"}},
]
PROMPT = 'What is it like?\n/call get_weather {"city": "Paris, \\"5e\\"", "days": 3}\n/call now {}'
CALLED = [("get_weather", {"city": 'Paris, "5e"', "days": 3}), ("now", {})]

NEVER_CALL = ("tools-never", "tools-unknown")
CALLING = [model.public_name for model in tool_models() if model.public_name not in (*NEVER_CALL, JSON_MODEL)]


@pytest.fixture
async def arena() -> AsyncIterator[Arena]:
    async with Arena(models=(*builtin_models(), *tool_models())) as arena:
        yield arena


def user(text: str) -> Any:
    return {"role": "user", "content": text}


@pytest.mark.parametrize("model", CALLING)
async def test_tool_calls_are_read_in_every_form_that_models_write(
    arena: Arena, bridge: RunningBridge, model: str
) -> None:
    sdk = bridge.sdk()
    answer = await sdk.chat.completions.with_raw_response.create(model=model, messages=[user(PROMPT)], tools=TOOLS)
    (choice,) = answer.parse().choices
    calls = choice.message.tool_calls or []
    assert choice.finish_reason == "tool_calls"
    assert [(call.function.name, json.loads(call.function.arguments)) for call in calls if call.type == "function"] == (
        CALLED
    )
    repaired = model.endswith("-first")
    assert answer.headers["x-bridge-tools"] == ("repaired" if repaired else "called")
    assert len(arena.chats) == 1 + repaired

    async with sdk.chat.completions.stream(model=model, messages=[user(PROMPT + "\n")], tools=TOOLS) as stream:
        final = await stream.get_final_completion()
    streamed = final.choices[0].message.tool_calls or []
    assert [(call.function.name, json.loads(call.function.arguments)) for call in streamed] == CALLED
    assert final.choices[0].finish_reason == "tool_calls"


async def test_tool_results_continue_the_same_evaluation(arena: Arena, bridge: RunningBridge) -> None:
    sdk = bridge.sdk()
    messages = [user(PROMPT)]
    first = await sdk.chat.completions.create(model="tools-xml", messages=messages, tools=TOOLS)
    message = first.choices[0].message
    messages.append(message.model_dump(exclude_none=True))
    for call in message.tool_calls or []:
        messages.append({"role": "tool", "tool_call_id": call.id, "content": f"result of {call.id}"})  # noqa: PERF401
    second = await sdk.chat.completions.create(model="tools-xml", messages=messages, tools=TOOLS)
    assert (second.choices[0].message.content or "").startswith("The tool said: result of call_")
    assert [call.kind for call in arena.chats] == ["create", "follow-up"]


@pytest.mark.parametrize("model", NEVER_CALL)
async def test_a_model_that_calls_no_tool_gives_text_or_an_error_if_a_call_is_required(
    bridge: RunningBridge, model: str
) -> None:
    sdk = bridge.sdk()
    answer = await sdk.chat.completions.with_raw_response.create(model=model, messages=[user(PROMPT)], tools=TOOLS)
    assert answer.parse().choices[0].finish_reason == "stop"
    assert answer.headers["x-bridge-tools"] == ("none" if model == "tools-never" else "unparsed")
    with pytest.raises(openai.InternalServerError) as caught:
        await sdk.chat.completions.create(model=model, messages=[user(PROMPT)], tools=TOOLS, tool_choice="required")
    assert (caught.value.status_code, caught.value.code) == (502, "invalid_model_output")


class Event(pydantic.BaseModel):
    name: str
    kind: Literal["fair", "feast"]
    people: list[str]
    place: Place | None = None


class Place(pydantic.BaseModel):
    city: str
    floor: int


async def test_an_answer_is_parsed_into_a_model_of_the_callers(bridge: RunningBridge) -> None:
    sdk = bridge.sdk()
    parsed = await sdk.chat.completions.parse(model=JSON_MODEL, messages=[user("When?")], response_format=Event)
    event = parsed.choices[0].message.parsed
    assert isinstance(event, Event)
    assert event.kind == "fair"
    async with sdk.chat.completions.stream(
        model=JSON_MODEL, messages=[user("When then?")], response_format=Event
    ) as stream:
        final = await stream.get_final_completion()
    assert isinstance(final.choices[0].message.parsed, Event)
    free = await sdk.chat.completions.create(
        model=JSON_MODEL, messages=[user("Anything?")], response_format={"type": "json_object"}
    )
    assert isinstance(json.loads(free.choices[0].message.content or ""), dict)


async def test_stop_strings_token_limits_and_several_choices_are_honoured(bridge: RunningBridge) -> None:
    sdk, model = bridge.sdk(), bridge.model()
    stopped = await sdk.chat.completions.create(model=model, messages=[user("/say one two three")], stop=["three"])
    assert (stopped.choices[0].message.content, stopped.choices[0].finish_reason) == ("one two ", "stop")
    limited = await sdk.chat.completions.create(model=model, messages=[user("/count 100")], max_tokens=5)
    assert limited.choices[0].finish_reason == "length"
    assert limited.usage is not None
    assert limited.usage.completion_tokens == 5
    several = await sdk.chat.completions.create(model=model, messages=[user("/say hello")], n=3)
    assert [choice.message.content for choice in several.choices] == ["hello"] * 3


async def test_outcomes_of_tool_use_are_counted_by_model(bridge: RunningBridge) -> None:
    sdk = bridge.sdk()
    for model in ("tools-asked-for", "tools-wrong-first", "tools-unknown", "tools-never", "tools-prose"):
        await sdk.chat.completions.create(model=model, messages=[user(PROMPT)], tools=TOOLS)
    used = bridge.app[STATS].stats.models
    assert used["tools-asked-for"].tools == ToolUse(1, called=1)
    assert used["tools-wrong-first"].tools == ToolUse(1, repaired=1)
    assert used["tools-unknown"].tools == ToolUse(1, unparsed=1)
    assert used["tools-never"].tools == ToolUse(1)
    assert used["tools-prose"].tools == ToolUse(1, called=1, dropped_chars=len("I will tell you what comes back."))
