"""LangChain's `ChatOpenAI`, alone and in LangChain's own agent."""

from __future__ import annotations

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

CLIENT = Client("sdks", "ask_langchain.py")


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


async def test_a_loop_of_tool_calls_continues_by_follow_ups(served: Served) -> None:
    await calls_tools(served, CLIENT, "tools")


async def test_an_agents_tool_calls_continue_by_follow_ups(served: Served) -> None:
    await calls_tools(served, CLIENT, "agent")


async def test_structured_output_is_parsed_into_an_object(served: Served) -> None:
    await makes_an_object(served, CLIENT, "structured")
