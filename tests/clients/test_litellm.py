"""LiteLLM as a client, not as a gateway."""

from __future__ import annotations

from clients import CLIENTS, Client, Served
from talks import continues, shows_a_picture, streams, tells_of_a_failure, tells_of_an_error

pytestmark = CLIENTS

CLIENT = Client("sdks", "ask_litellm.py")


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
