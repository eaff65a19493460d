"""OpenAI's legacy Completions API, called through its SDK and with plain HTTP."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import openai
import orjson
import pytest
from running import RunningBridge

from upstream.arena import Arena

streamed_and_not = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


async def ask(bridge: RunningBridge, stream: bool, **body: Any) -> tuple[list[str], list[str | None]]:
    """Ask with the SDK; return the text and finish reason of each choice, put together if streamed."""
    create = bridge.sdk().completions.create
    body = {"model": bridge.model(), **body}
    if not stream:
        completion = await create(**body)
        assert completion.object == "text_completion"
        return [each.text for each in completion.choices], [each.finish_reason for each in completion.choices]
    texts: defaultdict[int, str] = defaultdict(str)
    reasons: dict[int, str | None] = {}
    async for chunk in await create(**body, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
            reasons[choice.index] = choice.finish_reason
    places = sorted(texts)
    return [texts[place] for place in places], [reasons[place] for place in places]


@streamed_and_not
async def test_a_prompt_is_answered_by_a_new_evaluation(stream: bool, arena: Arena, bridge: RunningBridge) -> None:
    assert await ask(bridge, stream, prompt="/say wörld 👋") == (["wörld 👋"], ["stop"])
    assert arena.chats[-1].kind == "create"


@streamed_and_not
async def test_each_prompt_gets_evaluations_of_its_own(stream: bool, arena: Arena, bridge: RunningBridge) -> None:
    texts, reasons = await ask(bridge, stream, prompt=["/say one", "/say two"], n=2)
    assert (texts, reasons) == (["one", "one", "two", "two"], ["stop"] * 4)
    assert len({call.evaluation_id for call in arena.chats}) == 4


@streamed_and_not
async def test_echo_puts_the_prompt_before_each_answer(stream: bool, bridge: RunningBridge) -> None:
    texts, _ = await ask(bridge, stream, prompt=["/say one", "/say two"], echo=True)
    assert texts == ["/say oneone", "/say twotwo"]


@streamed_and_not
async def test_stop_strings_and_token_limits_end_a_completion(stream: bool, bridge: RunningBridge) -> None:
    assert await ask(bridge, stream, prompt="/say one two three", stop=" three") == (["one two"], ["stop"])
    (text,), reasons = await ask(bridge, stream, prompt="/say one two three four five six", max_tokens=2)
    assert reasons == ["length"]
    assert "five" not in text


async def test_a_suffix_is_requested_in_words_after_the_prompt(arena: Arena, bridge: RunningBridge) -> None:
    await ask(bridge, False, prompt="def f():", suffix="return x")
    prompt = orjson.loads(arena.chats[-1].body)["userMessage"]["content"]
    assert prompt.index("def f():") < prompt.index("return x")


async def test_usage_sums_all_prompts_streamed_and_whole(bridge: RunningBridge) -> None:
    create = bridge.sdk().completions.create
    whole = await create(model=bridge.model(), prompt=["/say one two", "/say three"])
    stream = await create(
        model=bridge.model(),
        prompt=["/say one two", "/say three"],
        stream=True,
        stream_options={"include_usage": True},
        temperature=0,
    )
    *_, last = [chunk async for chunk in stream]
    assert whole.usage is not None
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (
        whole.usage.prompt_tokens,
        whole.usage.completion_tokens,
    )


async def test_parameters_without_effect_are_named_in_a_header(bridge: RunningBridge) -> None:
    raw = await bridge.sdk().completions.with_raw_response.create(
        model=bridge.model(), prompt="/say hi", temperature=0, user="me"
    )
    assert raw.headers["x-bridge-ignored"] == "temperature, user"


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "token ids": ({"prompt": [1, 2, 3]}, "prompt"),
    "logprobs": ({"logprobs": 3}, "logprobs"),
    "best_of": ({"best_of": 3}, "best_of"),
    "nothing": ({"prompt": ""}, "prompt"),
}


@streamed_and_not
@pytest.mark.parametrize(("more", "param"), REFUSED.values(), ids=REFUSED)
async def test_bad_parameters_are_refused_before_any_upstream_call(
    more: dict[str, Any], param: str, stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        await ask(bridge, stream, **{"prompt": "/say hi", **more})
    assert raised.value.param == param
    assert arena.chats == []


FAULTS: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "challenge": ("challenge", {}, 503, "upstream_challenge"),
    "429": ("rate_limited", {"retry_after": "3600"}, 429, "upstream_rate_limited"),
    "400": ("rejected", {}, 400, "upstream_rejected"),
    "500": ("server_error", {}, 502, "upstream_error"),
    "504": ("server_error", {"status": 504}, 504, "upstream_timeout"),
    "a3 first": ("model_failed_first", {}, 502, "upstream_error"),
}


@streamed_and_not
@pytest.mark.parametrize(("fault", "parameters", "status", "code"), FAULTS.values(), ids=FAULTS)
async def test_a_failure_before_the_answers_to_several_prompts_has_its_true_status(
    fault: str, parameters: dict[str, Any], status: int, code: str, stream: bool, arena: Arena, bridge: RunningBridge
) -> None:
    await bridge.logins_checked()
    arena.faults.arm(fault, None, **parameters)
    with pytest.raises(openai.APIStatusError) as raised:
        await ask(bridge, stream, prompt=["/say hi", "/say ho"])
    assert (raised.value.status_code, raised.value.code) == (status, code)
    assert bridge.calls_held == 0


async def test_a_chat_continues_the_evaluation_of_a_completion(bridge: RunningBridge) -> None:
    await ask(bridge, False, prompt="/say one")
    history = [{"role": "user", "content": "/say one"}, {"role": "assistant", "content": "one"}]
    answer = await bridge.post(bridge.chat(messages=[*history, {"role": "user", "content": "/say two"}]))
    assert answer.headers["x-bridge-conversation"].startswith("follow-up")
