"""The Responses API through the `openai` packages of Python and Node.js, whole and streamed."""

from __future__ import annotations

import pytest
from clients import CLIENTS, Client, Served
from talks import (
    calls_a_custom_tool,
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
        "client", [Client("sdks", "ask_responses.py"), Client("node", "ask_responses.mjs")], ids=["Python", "Node.js"]
    ),
]

whole_and_streamed = pytest.mark.parametrize("way", ["create", "stream"])
every_way = pytest.mark.parametrize("way", ["create", "stream", "events"])


@pytest.mark.parametrize("way", ["stream", "events"])
async def test_a_streamed_answer_arrives_in_the_pieces_of_the_model(served: Served, client: Client, way: str) -> None:
    await streams(served, client, f"{way} talk")


@whole_and_streamed
async def test_each_later_turn_of_a_conversation_is_a_follow_up(served: Served, client: Client, way: str) -> None:
    await continues(served, client, f"{way} talk")


@whole_and_streamed
async def test_a_picture_arrives_byte_for_byte(served: Served, client: Client, way: str) -> None:
    await shows_a_picture(served, client, f"{way} talk")


@whole_and_streamed
async def test_a_refusal_has_the_bridges_message(served: Served, client: Client, way: str) -> None:
    await tells_of_an_error(served, client, f"{way} talk")


@every_way
async def test_a_failure_in_the_middle_raises_the_models_error(served: Served, client: Client, way: str) -> None:
    await tells_of_a_failure(served, client, f"{way} talk", "" if way == "create" else "1 2 ")


@every_way
async def test_turns_with_tool_calls_are_follow_ups(served: Served, client: Client, way: str) -> None:
    await calls_tools(served, client, f"{way} tools")


@every_way
async def test_a_custom_tool_gets_its_text_as_the_model_wrote_it(served: Served, client: Client, way: str) -> None:
    await calls_a_custom_tool(served, client, f"{way} custom")


@whole_and_streamed
async def test_an_answer_is_parsed_into_an_object(served: Served, client: Client, way: str) -> None:
    await makes_an_object(served, client, f"{way} parse")


@whole_and_streamed
async def test_a_stored_response_can_be_retrieved_until_it_is_deleted(served: Served, client: Client, way: str) -> None:
    asked = f"{client.program} {way} stores. /say one"
    talk = await served.converse(client, asked, task=f"{way} stored")
    assert talk.error is None
    assert talk.answers == [["one", asked, "NotFoundError", "BadRequestError", "true"]]
    assert served.calls == ["create"]
