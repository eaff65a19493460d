"""Instructor: its JSON mode, which puts the schema into the prompt; its modes with tools and with a schema."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

from clients import CLIENTS, Client, Served
from pictures import png
from talks import makes_an_object, tells_of_an_error

from upstream.arena import Line, Turn

pytestmark = CLIENTS

CLIENT = Client("instructor", "ask_instructor.py")


def answers_in_json(turn: Turn) -> Iterator[Line]:
    """A model that answers with an animal in JSON."""
    name = "otter" if len(turn.messages) == 1 else "kiwi"
    legs = 4 if name == "otter" else 2
    for delta in ('{"name": "', name[:3], name[3:], f'", "legs": {legs}', "}"):
        yield Line("a0", delta)
    yield Line("ad", {"finishReason": "stop"})


async def test_an_object_is_streamed_in_growing_pieces(served: Served) -> None:
    served.arena.script = answers_in_json
    talk = await served.converse(CLIENT, "An animal, bit by bit")
    assert talk.error is None
    (pieces,) = talk.answers
    animals = [json.loads(piece) for piece in pieces]
    assert {"name": "ott"} in animals  # it was streamed
    assert animals[-1] == {"name": "otter", "legs": 4}


async def test_each_later_turn_of_a_conversation_is_a_follow_up(served: Served) -> None:
    served.arena.script = answers_in_json
    talk = await served.converse(CLIENT, "An animal", "Another")
    assert talk.error is None
    assert [json.loads(text) for text in talk.texts] == [{"name": "otter", "legs": 4}, {"name": "kiwi", "legs": 2}]
    assert served.calls == ["create", "follow-up"]


async def test_a_picture_arrives_byte_for_byte(served: Served) -> None:
    served.arena.script = answers_in_json
    talk = await served.converse(CLIENT, "Which animal is this?", picture=png(7))
    assert talk.error is None
    assert json.loads(talk.answers[0][-1]) == {"name": "otter", "legs": 4}
    assert served.pictures == [hashlib.sha256(png(7)).hexdigest()]


async def test_a_refusal_has_the_bridges_message(served: Served) -> None:
    await tells_of_an_error(served, CLIENT)


async def test_a_failure_in_the_middle_raises_the_models_error(served: Served) -> None:
    served.arena.script = answers_in_json
    served.arena.faults.arm("model_failed_middle", after=3, message="The model is tired")
    talk = await served.converse(CLIENT, "An animal that is too much")
    assert talk.error is not None
    assert "The model is tired" in talk.error["message"]


async def test_the_tools_mode_parses_an_answer_into_an_object(served: Served) -> None:
    await makes_an_object(served, CLIENT, "tools", "tools-asked-for")


async def test_the_schema_mode_parses_an_answer_into_an_object(served: Served) -> None:
    await makes_an_object(served, CLIENT, "schema")
