"""docs/behaviour.md, "Chat completions: parameters", over HTTP: what upstream receives, and what callers get."""

from __future__ import annotations

import json
from typing import Any

import pytest
from frames import DONE, frames
from running import RunningBridge

from upstream.arena import Arena, Line

PROMPT = "/say hello"

streamed_and_not = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


def shown(arena: Arena) -> str:
    """The prompt of the last upstream call."""
    return str(json.loads(arena.chats[-1].body)["userMessage"]["content"])


async def chunks(bridge: RunningBridge, **body: object) -> list[dict[str, Any]]:
    """The chunks of a whole stream."""
    answer = await bridge.post(bridge.chat(PROMPT, **{"stream": True, **body}))
    assert answer.status == 200
    *found, done = frames(await answer.read())
    assert done == DONE
    return [json.loads(data) for data in found]


#: Parameters without effect, under the names that the header gives them.
IGNORED: dict[str, dict[str, object]] = {
    "temperature": {"temperature": 0.3},
    "top_p": {"top_p": 0.5},
    "presence_penalty": {"presence_penalty": 1},
    "frequency_penalty": {"frequency_penalty": 1},
    "seed": {"seed": 7},
    "logit_bias": {"logit_bias": {"1": 2}},
    "user": {"user": "ada"},
    "metadata": {"metadata": {"a": "b"}},
    "store": {"store": True},
    "service_tier": {"service_tier": "auto"},
    "reasoning_effort": {"reasoning_effort": "low"},
    "verbosity": {"verbosity": "low"},
    "temperature, seed": {"seed": 1, "temperature": 1},
}


@streamed_and_not
async def test_parameters_without_effect_are_named_in_a_header(stream: bool, bridge: RunningBridge) -> None:
    for names, fields in IGNORED.items():
        answer = await bridge.post(bridge.chat(PROMPT, stream=stream, **fields))
        assert (answer.status, answer.headers["x-bridge-ignored"]) == (200, names)
        await answer.read()


async def test_the_header_of_ignored_parameters_is_absent_if_none_are(bridge: RunningBridge) -> None:
    answer = await bridge.post(bridge.chat(PROMPT, n=1, tools=[], whatever=1))
    assert (answer.status, "x-bridge-ignored" in answer.headers) == (200, False)


UNSUPPORTED: dict[str, dict[str, object]] = {
    "logprobs": {"logprobs": True},
    "audio": {"audio": {"voice": "alloy", "format": "mp3"}},
    "modalities": {"modalities": ["text", "audio"]},
}


@streamed_and_not
@pytest.mark.parametrize(("name", "fields"), UNSUPPORTED.items(), ids=UNSUPPORTED)
async def test_unsupported_parameters_are_refused_before_any_upstream_call(
    name: str, fields: dict[str, object], stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    answer = await bridge.post(bridge.chat(PROMPT, stream=stream, **fields))
    error = (await answer.json())["error"]
    assert (answer.status, error["type"], error["code"]) == (400, "invalid_request_error", "unsupported_parameter")
    assert error["param"] == name
    assert answer.headers["x-bridge-reason"] == "rejected"
    assert not any(call.kind == "create" for call in arena.calls)


# Messages


async def test_every_role_reaches_upstream_verbatim_and_in_order(arena: Arena, bridge: RunningBridge) -> None:
    texts = ["be «kind»", 'say "\\n" <b>', "I said:\r\n\t…", '{"tool": "result"}', "and 你好 👋🏽 now?"]
    call = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": '{"q": "<x>"}'}}
    messages: list[dict[str, object]] = [
        {"role": "developer", "content": texts[0]},
        {"role": "user", "content": [{"type": "text", "text": texts[1]}]},
        {"role": "assistant", "content": texts[2], "tool_calls": [call]},
        {"role": "tool", "content": texts[3], "tool_call_id": "call_1"},
        {"role": "user", "content": texts[4]},
    ]
    answer = await bridge.post(bridge.chat(messages=messages))
    assert answer.status == 200
    prompt = shown(arena)
    places = [prompt.index(text) for text in (*texts[:3], "look_up", '{"q": "<x>"}', *texts[3:])]
    assert places == sorted(places)


async def test_a_single_question_is_sent_verbatim(arena: Arena, bridge: RunningBridge) -> None:
    await bridge.post(bridge.chat("  why? \u2028\n"))
    assert shown(arena) == "  why? \u2028\n"


NO_TEXT: dict[str, list[dict[str, object]]] = {
    "empty": [{"role": "user", "content": ""}],
    "null": [{"role": "user", "content": None}],
    "blank": [{"role": "user", "content": " \n\t"}],
    "no parts": [{"role": "user", "content": []}],
}


@pytest.mark.parametrize("messages", NO_TEXT.values(), ids=NO_TEXT)
async def test_messages_without_a_text_are_refused(
    messages: list[dict[str, object]], arena: Arena, bridge: RunningBridge
) -> None:
    answer = await bridge.post(bridge.chat(messages=messages))
    error = (await answer.json())["error"]
    assert (answer.status, error["code"], error["param"]) == (400, "invalid_value", "messages")
    assert not any(call.kind == "create" for call in arena.calls)


@streamed_and_not
async def test_a_prompt_too_long_for_the_site_is_refused_without_an_upstream_call(
    stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    answer = await bridge.post(bridge.chat("x" * 113_001, stream=stream))
    error = (await answer.json())["error"]
    assert (answer.status, error["code"], error["param"]) == (400, "context_length_exceeded", "messages")
    assert "113001" in error["message"]
    assert "113000" in error["message"]
    assert not any(call.kind == "create" for call in arena.calls)


async def test_a_prompt_of_the_greatest_length_is_accepted(bridge: RunningBridge) -> None:
    assert (await bridge.post(bridge.chat("x" * 113_000))).status == 200


async def test_a_model_that_makes_videos_is_refused(bridge: RunningBridge) -> None:
    answer = await bridge.post(bridge.chat(PROMPT, model=bridge.model(output="video")))
    error = (await answer.json())["error"]
    assert (answer.status, error["code"], error["param"]) == (400, "unsupported_model", "model")


# Answers


async def test_an_unstreamed_answer_is_a_chat_completion(bridge: RunningBridge) -> None:
    answer = await bridge.post(bridge.chat(PROMPT))
    body = await answer.json()
    assert answer.content_type == "application/json"
    assert answer.headers["x-bridge-reason"] == "ok"
    assert body["id"].startswith("chatcmpl-")
    assert (body["object"], body["model"]) == ("chat.completion", bridge.model())
    (choice,) = body["choices"]
    assert choice["message"] == {"role": "assistant", "content": "hello", "refusal": None}
    assert (choice["index"], choice["finish_reason"]) == (0, "stop")
    usage = body["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert min(usage["prompt_tokens"], usage["completion_tokens"]) > 0


async def test_a_streamed_answer_consists_of_chat_completion_chunks(bridge: RunningBridge) -> None:
    first, *middle, last = await chunks(bridge)
    assert first["choices"] == [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]
    assert [chunk["choices"][0]["delta"] for chunk in middle] == [{"content": "hello"}]
    assert last["choices"] == [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in (first, *middle, last)}) == 1
    assert not any("usage" in chunk for chunk in (first, *middle, last))


async def test_a_streams_headers_prevent_buffering_caching_and_compression(bridge: RunningBridge) -> None:
    answer = await bridge.post(bridge.chat(PROMPT, stream=True))
    assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Accel-Buffering"] == "no"
    assert "Content-Encoding" not in answer.headers


async def test_include_usage_adds_one_chunk_without_choices(bridge: RunningBridge) -> None:
    *before, last = await chunks(bridge, stream_options={"include_usage": True})
    assert {chunk["usage"] for chunk in before} == {None}
    assert last["choices"] == []
    repeated = (await (await bridge.post(bridge.chat(PROMPT))).json())["usage"]
    assert repeated["prompt_tokens_details"].pop("cached_tokens") == repeated["prompt_tokens"]  # it was not sent again
    assert last["usage"]["prompt_tokens_details"].pop("cached_tokens") == 0
    assert last["usage"] == repeated


@pytest.mark.parametrize("alias", ["name", "qualified", "id"])
async def test_the_model_in_an_answer_is_the_requested_name(alias: str, arena: Arena, bridge: RunningBridge) -> None:
    model = arena.model(bridge.model())
    name = {"name": model.public_name, "qualified": f"{model.public_name}@{model.id[-4:]}", "id": model.id}[alias]
    assert (await (await bridge.post(bridge.chat(PROMPT, model=name))).json())["model"] == name
    assert {chunk["model"] for chunk in await chunks(bridge, model=name)} == {name}


async def test_thoughts_are_reasoning_content(bridge: RunningBridge) -> None:
    model = bridge.model(thinking=True)
    message = (await (await bridge.post(bridge.chat(PROMPT, model=model))).json())["choices"][0]["message"]
    assert message["content"] == "hello"
    deltas = [chunk["choices"][0]["delta"] for chunk in await chunks(bridge, model=model)]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == message["reasoning_content"] != ""


async def test_citations_are_annotations(bridge: RunningBridge) -> None:
    body = bridge.chat("/cite /say an otter is a fine animal")
    message = (await (await bridge.post(body)).json())["choices"][0]["message"]
    notes = message["annotations"]
    assert {note["type"] for note in notes} == {"url_citation"}
    assert len({json.dumps(note) for note in notes}) == len(notes) == 3  # two places cite one page, one cites another
    assert all(0 < note["url_citation"]["end_index"] <= len(message["content"]) for note in notes)
    *_, extra, last = [chunk["choices"][0] for chunk in await chunks(bridge, messages=body["messages"])]
    assert extra["delta"] == {"content": "", "annotations": notes}
    assert last["finish_reason"] == "stop"


async def test_pictures_in_a_chat_are_markdown(arena: Arena, bridge: RunningBridge) -> None:
    model = bridge.model(output="image")
    content = (await (await bridge.post(bridge.chat("a cat", model=model))).json())["choices"][0]["message"]["content"]
    assert content.startswith(f"![image]({arena.storage_origin}/generated/")
    assert "".join(
        chunk["choices"][0]["delta"].get("content", "") for chunk in await chunks(bridge, model=model)
    ).startswith("![image](")


async def test_unusual_line_separators_are_sent_as_json_escapes(arena: Arena, bridge: RunningBridge) -> None:
    text = "a\u2028b\u2029c\u0085d\re"
    arena.script = lambda _: [Line("a0", text), Line("ad", {"finishReason": "stop"})]
    answer = await bridge.post(bridge.chat("x", stream=True))
    body = await answer.read()
    assert rb"a\u2028b\u2029c\u0085d\re" in body
    said = [json.loads(data)["choices"][0]["delta"].get("content", "") for data in frames(body)[:-1]]
    assert "".join(said) == text
