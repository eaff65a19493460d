"""The anthropic SDK asks the bridge as it would ask Anthropic's server: streamed and whole."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import pytest
from anthropic.types import Message
from internet import playing_the_internet
from pictures import SMALL, png
from running import RunningBridge, running_bridge

from bridge.access import keys
from bridge.access.keys import KeyRing
from upstream.arena import JSON_MODEL, Arena, Line, builtin_models, tool_models

WEATHER: Any = {
    "name": "get_weather",
    "description": "Say how the weather is.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": True,
    "input_examples": [{"city": "Rome"}],
    "cache_control": {"type": "ephemeral"},
}
NOW: Any = {"name": "now", "type": "custom", "input_schema": {"type": "object"}}
CALL = '/call get_weather {"city": "Paris"}'

streamed_and_not = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


@pytest.fixture
async def arena() -> AsyncIterator[Arena]:
    async with Arena(models=(*builtin_models(), *tool_models())) as arena:
        yield arena


@pytest.fixture
async def bridge(arena: Arena, tmp_path: Path) -> AsyncIterator[RunningBridge]:
    aliases = {"claude-sonnet-5": ["no-such-model", "tools-xml"], "claude-*": "tools-xml"}
    async with running_bridge(arena, tmp_path, {"models": {"aliases": aliases}}) as bridge:
        yield bridge


@pytest.fixture
async def sdk(bridge: RunningBridge) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=bridge.origin, api_key=bridge.key, max_retries=0) as sdk:
        yield sdk


def user(content: Any) -> Any:
    return {"role": "user", "content": content}


async def ask(sdk: anthropic.AsyncAnthropic, stream: bool, **body: Any) -> Message:
    """Ask; return the SDK's message, which it puts together if streamed."""
    body = {"max_tokens": 1000, **body}
    if not stream:
        message: Message = await sdk.messages.create(**body)
        return message
    async with sdk.messages.stream(**body) as answer:
        return await answer.get_final_message()


def text_of(message: Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


@streamed_and_not
async def test_an_answer_has_the_form_of_the_messages_api(
    stream: bool, bridge: RunningBridge, sdk: anthropic.AsyncAnthropic
) -> None:
    system: Any = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    message = await ask(sdk, stream, model=bridge.model(), system=system, messages=[user("/say wörld 👋\u2028")])
    assert (text_of(message).strip(), message.stop_reason, message.stop_sequence) == ("wörld 👋", "end_turn", None)
    assert (message.role, message.model, message.id[:4]) == ("assistant", bridge.model(), "msg_")
    assert message.usage.input_tokens > 0
    assert message.usage.output_tokens > 0
    assert message.usage.cache_read_input_tokens == 0


async def test_text_is_streamed_delta_by_delta(bridge: RunningBridge, sdk: anthropic.AsyncAnthropic) -> None:
    asked = {"model": bridge.model(), "max_tokens": 100, "messages": [user("/say one two three")]}
    async with sdk.messages.stream(**asked) as answer:  # type: ignore[arg-type]  # a plain dict
        assert [text async for text in answer.text_stream] == ["one ", "two ", "three"]


@streamed_and_not
async def test_thoughts_are_included_only_where_thinking_is_requested(
    stream: bool, bridge: RunningBridge, sdk: anthropic.AsyncAnthropic
) -> None:
    asked = {"model": bridge.model(thinking=True), "messages": [user("/think about it")]}
    silent = await ask(sdk, stream, **asked)
    assert {block.type for block in silent.content} == {"text"}
    for thinking in ({"type": "adaptive"}, {"type": "enabled", "budget_tokens": 1024}):
        message = await ask(sdk, stream, **{**asked, "messages": [user(f"/think of {thinking}")]}, thinking=thinking)
        thought, *_ = message.content
        assert thought.type == "thinking"
        assert thought.thinking
        assert thought.signature
        assert message.usage.output_tokens_details is not None
        assert message.usage.output_tokens_details.thinking_tokens > 0
    again = [*asked["messages"], {"role": "assistant", "content": silent.content}, user("/say on")]
    assert text_of(await ask(sdk, stream, **{**asked, "messages": again}, thinking={"type": "adaptive"})) == "on"


@streamed_and_not
async def test_stop_sequences_and_token_limits_are_given_as_stop_reasons(
    stream: bool, bridge: RunningBridge, sdk: anthropic.AsyncAnthropic
) -> None:
    asked = {"model": bridge.model(), "messages": [user("/say one two three four five six seven")]}
    stopped = await ask(sdk, stream, **asked, stop_sequences=["five", "three"])
    assert (text_of(stopped), stopped.stop_reason, stopped.stop_sequence) == ("one two ", "stop_sequence", "three")
    cut = await ask(sdk, stream, **{**asked, "max_tokens": 2})
    assert (cut.stop_reason, cut.stop_sequence) == ("max_tokens", None)
    assert "six" not in text_of(cut)


@streamed_and_not
async def test_a_withheld_answer_has_the_stop_reason_refusal(
    stream: bool, arena: Arena, bridge: RunningBridge, sdk: anthropic.AsyncAnthropic
) -> None:
    arena.script = lambda _: [Line("ad", {"finishReason": "content-filter"})]
    message = await ask(sdk, stream, model=bridge.model(), messages=[user("hi")])
    assert (message.content, message.stop_reason) == ([], "refusal")


@streamed_and_not
async def test_sources_become_citations(stream: bool, bridge: RunningBridge, sdk: anthropic.AsyncAnthropic) -> None:
    message = await ask(sdk, stream, model=bridge.model(), messages=[user("/cite")])
    (block,) = message.content
    assert block.type == "text"
    assert block.citations
    assert all(each.type == "web_search_result_location" and each.url for each in block.citations)
    plain = await bridge.http.post(
        f"{bridge.base_url}/messages",
        json={"model": bridge.model(), "max_tokens": 9, "messages": [user("/say no")]},
        headers={"x-api-key": bridge.key},
    )
    assert (await plain.json())["content"] == [{"type": "text", "text": "no"}]


@streamed_and_not
async def test_a_base64_picture_is_shown_to_the_model(
    stream: bool, arena: Arena, sdk: anthropic.AsyncAnthropic
) -> None:
    sees = next(m.public_name for m in arena.models if "image" in m.inputs and m.modality == "chat" and m.organization)
    shown = png(1, size=200_000)
    data = base64.b64encode(shown).decode()
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}
    message = await ask(sdk, stream, model=sees, messages=[user([{"type": "text", "text": "/say seen"}, picture])])
    assert text_of(message) == "seen"
    assert [stored.data for stored in arena.storage.objects.values()] == [shown]


async def test_pictures_by_url_are_fetched(arena: Arena, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sees = next(m.public_name for m in arena.models if "image" in m.inputs and m.modality == "chat" and m.organization)
    picture = {"type": "image", "source": {"type": "url", "url": "http://public.example/cat"}}
    missing = {"type": "image", "source": {"type": "url", "url": "http://public.example/missing"}}
    call = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
    async with (
        playing_the_internet(monkeypatch) as internet,
        running_bridge(arena, tmp_path / "fetching", {"images": {"fetch_urls": True}}) as bridge,
        anthropic.AsyncAnthropic(base_url=bridge.origin, api_key=bridge.key, max_retries=0) as sdk,
    ):
        result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [picture]}
        messages = [user([picture]), {"role": "assistant", "content": [call]}, user([result])]
        await ask(sdk, False, model=sees, messages=messages)
        assert internet.served == ["/cat"]
        assert [stored.data for stored in arena.storage.objects.values()] == [SMALL["image/webp"]]
        with pytest.raises(anthropic.BadRequestError, match="404"):
            await ask(sdk, False, model=sees, messages=[user([missing])])


@streamed_and_not
async def test_tool_results_continue_the_conversation(
    stream: bool, arena: Arena, sdk: anthropic.AsyncAnthropic
) -> None:
    asked: dict[str, Any] = {"model": "tools-prose", "tools": [WEATHER, NOW]}
    messages = [user(f"How is it?\n{CALL}\n/call now {{}}")]
    first = await ask(sdk, stream, **asked, messages=messages)
    said, weather, now = first.content
    assert (said.type, weather.type, now.type, first.stop_reason) == ("text", "tool_use", "tool_use", "tool_use")
    assert weather.type == now.type == "tool_use"
    assert (weather.name, weather.input, now.name, now.input) == ("get_weather", {"city": "Paris"}, "now", {})
    results = [
        {"type": "tool_result", "tool_use_id": weather.id, "content": [{"type": "text", "text": "Sunny."}]},
        {"type": "tool_result", "tool_use_id": now.id, "content": "No clock.", "is_error": True},
    ]
    messages += [{"role": "assistant", "content": first.content}, user(results)]
    second = await ask(sdk, stream, **asked, messages=messages)
    assert text_of(second) == "The tool said: Sunny. The tool failed.\nNo clock."
    assert [call.kind for call in arena.chats] == ["create", "follow-up"]
    assert second.usage.cache_read_input_tokens


async def test_tool_choice_is_honoured(sdk: anthropic.AsyncAnthropic) -> None:
    asked: dict[str, Any] = {"model": "tools-asked-for", "tools": [WEATHER, NOW]}
    both = [user(f"{CALL}\n/call now {{}}")]
    one = await ask(sdk, False, **asked, messages=both, tool_choice={"type": "any", "disable_parallel_tool_use": True})
    assert [block.type for block in one.content] == ["tool_use"]
    chosen = await ask(
        sdk, False, **asked, messages=[user("/call now {}")], tool_choice={"type": "tool", "name": "now"}
    )
    assert [block.name for block in chosen.content if block.type == "tool_use"] == ["now"]
    none = await ask(sdk, False, **asked, messages=both, tool_choice={"type": "none"})
    assert [block.type for block in none.content] == ["text"]


async def test_the_vendors_own_tools_are_offered_or_named_as_ignored(sdk: anthropic.AsyncAnthropic) -> None:
    tools: Any = [
        {"type": "bash_20250124", "name": "bash"},
        {"type": "web_search_20250305", "name": "web_search"},
        {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
    ]
    raw = await sdk.messages.with_raw_response.create(
        model="tools-asked-for", max_tokens=100, tools=tools, messages=[user('/call bash {"command": "ls"}')]
    )
    (call,) = (await raw.parse()).content
    assert call.type == "tool_use"
    assert (call.name, call.input) == ("bash", {"command": "ls"})
    assert raw.headers["x-bridge-ignored"] == "tools.web_search_20250305"


async def test_the_tool_runner_of_the_sdk_works_with_the_bridge(sdk: anthropic.AsyncAnthropic) -> None:
    @anthropic.beta_async_tool
    async def get_weather(city: str) -> str:
        """Say how the weather is.

        Args:
            city: Which one.
        """
        return f"Sunny in {city}."

    runner = sdk.beta.messages.tool_runner(
        model="tools-asked-for", max_tokens=1000, tools=[get_weather], messages=[user(CALL)]
    )
    final = await runner.until_done()
    assert "Sunny in Paris." in "".join(block.text for block in final.content if block.type == "text")


@streamed_and_not
async def test_a_requested_json_schema_is_followed(stream: bool, sdk: anthropic.AsyncAnthropic) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    config = {"format": {"type": "json_schema", "schema": schema}, "effort": "low"}
    message = await ask(sdk, stream, model=JSON_MODEL, messages=[user("hi")], output_config=config)
    assert isinstance(json.loads(text_of(message))["a"], int)


async def test_a_chat_is_continued_through_messages_and_back(
    arena: Arena, bridge: RunningBridge, sdk: anthropic.AsyncAnthropic
) -> None:
    first = await (await bridge.post(bridge.chat("/say one"))).json()
    history = [user("/say one"), {"role": "assistant", "content": first["choices"][0]["message"]["content"]}]
    asked = [*history, user([{"type": "text", "text": "/say two", "cache_control": {"type": "ephemeral"}}])]
    raw = await sdk.messages.with_raw_response.create(model=bridge.model(), max_tokens=100, messages=asked)
    assert raw.headers["x-bridge-conversation"].startswith("follow-up")
    message = await raw.parse()
    assert message.usage.cache_read_input_tokens
    back = [*history, user("/say two"), {"role": "assistant", "content": text_of(message)}, user("/say three")]
    third = await bridge.post(bridge.chat(messages=back))
    assert third.headers["x-bridge-conversation"].startswith("follow-up")
    assert len({call.evaluation_id for call in arena.chats}) == 1


@streamed_and_not
async def test_usage_counts_cached_and_uncached_tokens_of_the_whole_history(
    stream: bool, bridge: RunningBridge, sdk: anthropic.AsyncAnthropic
) -> None:
    messages = [user("/say one")]
    first = await ask(sdk, False, model=bridge.model(), messages=messages)
    messages += [{"role": "assistant", "content": first.content}, user("/say two")]
    counted = await sdk.messages.count_tokens(model=bridge.model(), messages=messages)
    second = await ask(sdk, stream, model=bridge.model(), messages=messages)
    assert second.usage.cache_read_input_tokens
    assert second.usage.input_tokens + second.usage.cache_read_input_tokens == counted.input_tokens


async def test_tokens_are_counted_without_an_upstream_call(
    arena: Arena, bridge: RunningBridge, sdk: anthropic.AsyncAnthropic
) -> None:
    count = sdk.messages.count_tokens
    short = await count(model=bridge.model(), messages=[user("hi")])
    more = await count(model=bridge.model(), messages=[user("hi")], system="Be brief.", tools=[WEATHER])
    assert 0 < short.input_tokens < more.input_tokens
    message = await ask(sdk, False, model=bridge.model(), messages=[user("hi")])
    assert message.usage.input_tokens == short.input_tokens
    assert len(arena.chats) == 1


async def test_the_sdk_pages_through_the_list_of_models(bridge: RunningBridge, sdk: anthropic.AsyncAnthropic) -> None:
    page = await sdk.models.list(limit=3)
    every = [model async for model in sdk.models.list(limit=3)]
    openais = (await (await bridge.http.get(f"{bridge.base_url}/models", headers=bridge.headers)).json())["data"]
    assert (len(page.data), page.has_more, page.first_id) == (3, True, openais[0]["id"])
    assert [model.id for model in every] == [model["id"] for model in openais]
    assert "claude-sonnet-5" in [model.id for model in every]  # an alias without a glob
    assert "claude-*" not in [model.id for model in every]
    found = await sdk.models.retrieve(every[0].id)
    assert found == every[0]
    assert (found.type, found.lifecycle, found.created_at.tzinfo is not None) == ("model", "active", True)


@pytest.mark.parametrize("name", ["claude-sonnet-5", "claude-3-5-haiku-20241022", "claude-sonnet-5[1m]"])
async def test_names_of_the_vendors_models_are_resolved_by_aliases(name: str, sdk: anthropic.AsyncAnthropic) -> None:
    raw = await sdk.messages.with_raw_response.create(model=name, max_tokens=100, messages=[user("hi")])
    assert ((await raw.parse()).model, raw.headers["x-bridge-model"]) == (name, "tools-xml")


async def test_an_answer_carries_the_vendors_headers_beside_the_bridges(
    bridge: RunningBridge, sdk: anthropic.AsyncAnthropic
) -> None:
    raw = await sdk.messages.with_raw_response.create(
        model=bridge.model(),
        max_tokens=100,
        messages=[user("/say hi")],
        metadata={"user_id": "a"},
        extra_headers={"x-request-id": "my-own", "anthropic-beta": "unknown-2030-01-01"},
    )
    headers = raw.headers
    assert headers["request-id"] == headers["x-request-id"] == "my-own"
    assert headers["x-bridge-ignored"] == "metadata"
    assert int(headers["anthropic-ratelimit-requests-limit"]) > int(headers["anthropic-ratelimit-requests-remaining"])
    assert headers["anthropic-ratelimit-requests-reset"].endswith("Z")
    assert "x-ratelimit-limit-requests" not in headers


async def test_a_web_page_of_an_allowed_origin_may_read_the_headers_of_an_answer(arena: Arena, tmp_path: Path) -> None:
    page = "https://page.example"
    async with running_bridge(arena, tmp_path / "page", {"server": {"cors_origins": [page]}}) as bridge:
        url, asked = f"{bridge.base_url}/messages", "x-api-key, anthropic-version, x-stainless-lang"
        preflight = {"Origin": page, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": asked}
        async with bridge.http.options(url, headers=preflight) as answer:
            allowed = answer.headers["Access-Control-Allow-Headers"].split(", ")
        assert {*asked.split(", "), "anthropic-beta", "anthropic-dangerous-direct-browser-access"} <= {*allowed}
        body = {**bridge.chat("/say hi"), "max_tokens": 100, "tools": [WEATHER], "metadata": {}}
        async with bridge.http.post(url, json=body, headers={"x-api-key": bridge.key, "Origin": page}) as answer:
            exposed = answer.headers["Access-Control-Expose-Headers"].split(", ")
            names = {name.lower() for name in answer.headers}
        said = {name for name in names if name.startswith(("x-bridge-", "anthropic-")) or name.endswith("request-id")}
        assert {"x-bridge-model", "x-bridge-tools", "x-bridge-ignored", "request-id"} <= said <= {*exposed}


async def test_a_key_over_its_rate_limit_is_a_rate_limit_error(arena: Arena, tmp_path: Path) -> None:
    async with (
        running_bridge(arena, tmp_path / "other", key_options={"rpm": 1}) as bridge,
        anthropic.AsyncAnthropic(base_url=bridge.origin, api_key=bridge.key, max_retries=0) as sdk,
    ):
        asked: dict[str, Any] = {"model": bridge.model(), "messages": [user("/say hi")]}
        await ask(sdk, False, **asked)
        with pytest.raises(anthropic.RateLimitError) as raised:
            await ask(sdk, False, **asked)
        assert raised.value.type == "rate_limit_error"
        assert int(raised.value.response.headers["retry-after"]) > 0


async def test_a_key_is_accepted_as_a_bearer_token(bridge: RunningBridge) -> None:
    async with anthropic.AsyncAnthropic(base_url=bridge.origin, auth_token=bridge.key, max_retries=0) as sdk:
        assert text_of(await ask(sdk, False, model=bridge.model(), messages=[user("/say hi")])) == "hi"


async def test_a_model_that_the_key_may_not_use_is_a_permission_error(
    bridge: RunningBridge, sdk: anthropic.AsyncAnthropic
) -> None:
    secret, key = keys.generate("other", now=0.0, models=("none*",))
    bridge.state.keys = KeyRing(keys.add(bridge.state.keys, key))
    sdk.api_key = secret
    with pytest.raises(anthropic.PermissionDeniedError) as raised:
        await ask(sdk, False, model=bridge.model(), messages=[user("hi")])
    assert raised.value.type == "permission_error"
