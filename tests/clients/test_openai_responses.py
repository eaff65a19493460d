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
async def test_a_streamed_answer(served: Served, client: Client, way: str) -> None:
    await streams(served, client, f"{way} talk")


@whole_and_streamed
async def test_a_conversation(served: Served, client: Client, way: str) -> None:
    await continues(served, client, f"{way} talk")


@whole_and_streamed
async def test_a_picture(served: Served, client: Client, way: str) -> None:
    await shows_a_picture(served, client, f"{way} talk")


@whole_and_streamed
async def test_a_refusal(served: Served, client: Client, way: str) -> None:
    await tells_of_an_error(served, client, f"{way} talk")


@every_way
async def test_a_failure_in_the_middle(served: Served, client: Client, way: str) -> None:
    await tells_of_a_failure(served, client, f"{way} talk", "" if way == "create" else "1 2 ")


@every_way
async def test_tools(served: Served, client: Client, way: str) -> None:
    await calls_tools(served, client, f"{way} tools")


@every_way
async def test_a_custom_tool(served: Served, client: Client, way: str) -> None:
    await calls_a_custom_tool(served, client, f"{way} custom")


@whole_and_streamed
async def test_a_parsed_answer(served: Served, client: Client, way: str) -> None:
    await makes_an_object(served, client, f"{way} parse")


@whole_and_streamed
async def test_a_stored_response(served: Served, client: Client, way: str) -> None:
    asked = f"{client.program} {way} stores. /say one"
    talk = await served.converse(client, asked, task=f"{way} stored")
    assert talk.error is None
    assert talk.answers == [["one", asked, "NotFoundError", "BadRequestError", "true"]]
    assert served.calls == ["create"]
