"""An agent of pydantic-ai."""

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

CLIENT = Client("sdks", "ask_pydantic_ai.py")


async def test_a_streamed_answer(served: Served) -> None:
    await streams(served, CLIENT)


async def test_a_conversation(served: Served) -> None:
    await continues(served, CLIENT)


async def test_a_picture(served: Served) -> None:
    await shows_a_picture(served, CLIENT)


async def test_a_refusal(served: Served) -> None:
    await tells_of_an_error(served, CLIENT)


async def test_a_failure_in_the_middle(served: Served) -> None:
    await tells_of_a_failure(served, CLIENT)


async def test_an_agent_with_two_tools(served: Served) -> None:
    await calls_tools(served, CLIENT, "tools")


async def test_an_agent_that_puts_out_an_object(served: Served) -> None:
    """The agent requests the call of a tool that takes the object."""
    await makes_an_object(served, CLIENT, "output", "tools-asked-for")
