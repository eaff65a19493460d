"""Scenarios that every client must be able to run against the bridge.

Each client begins with a unique prompt: one that another client has sent would be a regeneration, not a new
conversation.
"""

from __future__ import annotations

import hashlib
import json

from clients import Client, Served
from pictures import png

from upstream.arena import JSON_MODEL


async def streams(served: Served, client: Client, task: str = "talk") -> None:
    """The answer arrives in the pieces in which the model wrote it."""
    talk = await served.converse(client, f"{client.program} {task} streams. /say wörld 👋 and all", task=task)
    assert talk.error is None
    (pieces,) = talk.answers
    assert [piece for piece in pieces if piece] == ["wörld ", "👋 ", "and ", "all"]
    assert served.calls == ["create"]


async def continues(served: Served, client: Client, task: str = "talk") -> None:
    """Each turn after the first is a follow-up in the same evaluation, and nothing is sent to the site twice."""
    first = f"{client.program} {task} goes on. /say One *two*\n\n- three"
    talk = await served.converse(client, first, "/say four", "/echo", task=task)
    assert talk.error is None
    assert served.calls == ["create", "follow-up", "follow-up"]
    said = [(message["role"], message["content"]) for message in json.loads(talk.texts[-1])]
    assert said == [
        ("user", first),
        ("assistant", "One *two*\n\n- three"),
        ("user", "/say four"),
        ("assistant", "four"),
        ("user", "/echo"),
    ]


async def shows_a_picture(served: Served, client: Client, task: str = "talk") -> None:
    """A picture arrives byte for byte, and the next turn is still a follow-up."""
    picture = png(7)
    turns = (f"{client.program} {task} looks. /say a picture", "/say and more")
    talk = await served.converse(client, *turns, picture=picture, task=task)
    assert talk.error is None
    assert talk.texts == ["a picture", "and more"]
    assert served.pictures == [hashlib.sha256(picture).hexdigest()]
    assert served.calls == ["create", "follow-up"]


async def tells_of_an_error(served: Served, client: Client, task: str = "talk") -> None:
    """A refusal reaches the caller with the bridge's message."""
    talk = await served.converse(client, "hello", model="gpt-2", task=task)
    assert talk.error is not None
    assert "The model 'gpt-2' does not exist" in talk.error["message"]


async def tells_of_a_failure(served: Served, client: Client, task: str = "talk", comes: str = "1 2 ") -> None:
    """When a model fails in the middle of its answer, the caller gets the text so far and the model's error."""
    served.arena.faults.arm("model_failed_middle", after=2, message="The model is tired")
    talk = await served.converse(client, f"{client.program} {task} counts. /count 5", task=task)
    assert talk.texts == [comes]
    assert talk.error is not None
    assert "The model is tired" in talk.error["message"]


async def calls_tools(served: Served, client: Client, task: str) -> None:
    """Two turns with tool calls, first two at once, then one; only new messages are sent to the site each time."""
    weather = {"city": 'Paris, "5e"', "days": 3}
    first = f"{client.program} {task}\n/call get_weather {json.dumps(weather)}\n/call now {{}}"
    talk = await served.converse(client, first, "/call now {}", model="tools-prose", task=task)
    assert talk.error is None
    (*both, told), (one, told_again) = talk.answers
    assert [json.loads(call) for call in (*both, one)] == [["get_weather", weather], ["now", {}], ["now", {}]]
    assert (told, told_again) == ('The tool said: 3 days of rain in Paris, "5e" noon', "The tool said: noon")
    assert served.calls == ["create", "follow-up", "follow-up", "follow-up"]


async def makes_an_object(served: Served, client: Client, task: str, model: str = JSON_MODEL) -> None:
    """The answer is an object of a type that the caller defines."""
    talk = await served.converse(client, f"{client.program} {task}: an animal", model=model, task=task)
    assert talk.error is None
    assert [json.loads(text) for text in talk.texts] == [{"name": "text", "legs": 0}]
    assert served.calls == ["create"]


async def calls_a_custom_tool(served: Served, client: Client, task: str) -> None:
    """A custom tool receives its text as the model wrote it, and the model receives its result."""
    patch = '*** Begin Patch\n+"é"\n'
    first = f"{client.program} {task}\n/call apply_patch {json.dumps({'input': patch})}"
    talk = await served.converse(client, first, model="tools-prose", task=task)
    assert talk.error is None
    ((call, told),) = talk.answers
    assert (json.loads(call), told) == (["apply_patch", patch], "The tool said: Done.")
    assert served.calls == ["create", "follow-up"]
