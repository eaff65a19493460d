"""The Messages API through Anthropic's SDKs of Python and Node.js, whole and streamed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from clients import CLIENTS, Client, Served
from talks import (
    calls_tools,
    continues,
    makes_an_object,
    shows_a_picture,
    streams,
    tells_of_a_failure,
    tells_of_an_error,
)

pytestmark = [
    *CLIENTS,
    pytest.mark.parametrize(
        "client",
        [Client("anthropic", "ask_messages.py"), Client("node", "ask_messages.mjs")],
        ids=["Python", "Node.js"],
    ),
]

whole_and_streamed = pytest.mark.parametrize("way", ["create", "stream"])


async def test_a_streamed_answer_arrives_in_the_pieces_of_the_model(served: Served, client: Client) -> None:
    await streams(served, client, "stream talk")


@whole_and_streamed
async def test_each_later_turn_of_a_conversation_is_a_follow_up(served: Served, client: Client, way: str) -> None:
    await continues(served, client, f"{way} talk")


@whole_and_streamed
async def test_a_picture_arrives_byte_for_byte(served: Served, client: Client, way: str) -> None:
    await shows_a_picture(served, client, f"{way} talk")


@whole_and_streamed
async def test_thoughts_arrive_as_a_signed_thinking_block(served: Served, client: Client, way: str) -> None:
    asked = f"{client.program} {way}. /think /say one two"
    talk = await served.converse(client, asked, "/say three", model="deepseek-v4-thinking", task=f"{way} thinking")
    assert talk.error is None
    *pieces, told = talk.answers[0]
    (thinking, thought, signed), *text = json.loads(told)
    assert (thinking, signed, text) == ("thinking", True, [["text", "one two", False]])
    assert thought
    assert "".join(pieces) == f"{thought}one two"
    assert "three" in talk.answers[1]
    assert served.calls == ["create", "follow-up"]


@whole_and_streamed
@pytest.mark.parametrize("loop", ["tools", "runner"])
async def test_turns_with_tool_calls_are_follow_ups(served: Served, client: Client, way: str, loop: str) -> None:
    await calls_tools(served, client, f"{way} {loop}")


@whole_and_streamed
async def test_an_answer_is_parsed_into_an_object(served: Served, client: Client, way: str) -> None:
    await makes_an_object(served, client, f"{way} parse")


async def test_models_are_listed_and_tokens_counted(served: Served, client: Client) -> None:
    talk = await served.converse(client, f"{client.program} counts tokens", task="create models")
    assert talk.error is None
    ((listed, found, counted),) = talk.answers
    assert found in json.loads(listed)
    assert counted == "true"
    assert served.calls == ["create"]


@whole_and_streamed
async def test_a_refusal_has_the_bridges_message(served: Served, client: Client, way: str) -> None:
    await tells_of_an_error(served, client, f"{way} talk")


@whole_and_streamed
async def test_a_failure_in_the_middle_raises_the_models_error(served: Served, client: Client, way: str) -> None:
    await tells_of_a_failure(served, client, f"{way} talk", "" if way == "create" else "1 2 ")


ERRORS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "BadRequestError": ("rejected", {}),
    "RateLimitError": ("rate_limited", {"times": 3, "retry_after": "0"}),
    "InternalServerError": ("server_error", {"times": 2, "status": 500}),
    "GatewayTimeoutError": ("server_error", {"status": 504}),
    "OverloadedError": ("challenge", {}),
}


@whole_and_streamed
@pytest.mark.parametrize("name", ERRORS)
async def test_each_fault_raises_its_class_of_error(served: Served, client: Client, way: str, name: str) -> None:
    fault, parameters = ERRORS[name]
    served.arena.faults.arm(fault, **parameters, on="stream")
    talk = await served.converse(client, f"{client.program} {way} {name}", task=f"{way} talk")
    assert (talk.error or {})["type"] == name


@whole_and_streamed
async def test_a_wrong_key_raises_an_authentication_error(served: Served, client: Client, way: str) -> None:
    talk = await replace(served, key="sk-lmab-none").converse(client, "hello", task=f"{way} talk")
    assert (talk.error or {})["type"] == "AuthenticationError"


@whole_and_streamed
async def test_a_prompt_that_is_too_long_raises_a_bad_request_error(served: Served, client: Client, way: str) -> None:
    talk = await served.converse(client, "word " * 30_000, task=f"{way} talk")
    assert (talk.error or {})["type"] == "BadRequestError"
    assert "prompt is too long: " in (talk.error or {})["message"]
