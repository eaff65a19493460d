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


@pytest.mark.parametrize("task", ["steps", "streamed_steps"])
async def test_tools(served: Served, task: str) -> None:
    await calls_tools(served, CLIENT, task)


async def test_an_object(served: Served) -> None:
    await makes_an_object(served, CLIENT, "object")
