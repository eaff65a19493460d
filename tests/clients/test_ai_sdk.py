"""Vercel's AI SDK with `@ai-sdk/openai-compatible`."""

from __future__ import annotations

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

pytestmark = CLIENTS

CLIENT = Client("node", "ask_ai_sdk.mjs")


async def test_a_streamed_answer_arrives_in_the_pieces_of_the_model(served: Served) -> None:
    await streams(served, CLIENT)


async def test_each_later_turn_of_a_conversation_is_a_follow_up(served: Served) -> None:
    await continues(served, CLIENT)


async def test_a_picture_arrives_byte_for_byte(served: Served) -> None:
    await shows_a_picture(served, CLIENT)


async def test_a_refusal_has_the_bridges_message(served: Served) -> None:
    await tells_of_an_error(served, CLIENT)


async def test_a_failure_in_the_middle_keeps_the_text_so_far_and_has_the_models_error(served: Served) -> None:
    await tells_of_a_failure(served, CLIENT)


@pytest.mark.parametrize("task", ["steps", "streamed_steps"])
async def test_turns_with_tool_calls_are_follow_ups(served: Served, task: str) -> None:
    await calls_tools(served, CLIENT, task)


async def test_an_answer_is_parsed_into_an_object(served: Served) -> None:
    await makes_an_object(served, CLIENT, "object")
