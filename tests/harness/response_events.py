"""A state machine that checks the order of events in a stream of the Responses API, and collects their content.

created ─▶ in_progress ─▶ (an item: added ─▶ its text or its arguments ─▶ done)* ─▶ completed | incomplete | failed

An item that is open when the response fails gets no `done` event, since agents add finished items to their histories.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pydantic
from openai.types.responses import Response, ResponseStreamEvent

Json = dict[str, Any]

_STREAM_EVENT: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(ResponseStreamEvent)
_PARTS = {"message": ("output_text", "output_text"), "reasoning": ("reasoning_text", "reasoning_text")}
_CALLS = {
    "function_call": ("function_call_arguments", "arguments"),
    "custom_tool_call": ("custom_tool_call_input", "input"),
}


def events_of(body: bytes) -> list[Json]:
    """The events of a stream: each has an `event:` line with its type and a `data:` line; comments are skipped.

    Raises AssertionError for anything else.
    """
    *blocks, rest = body.split(b"\n\n")
    assert rest == b""
    found = []
    for block in blocks:
        if block.startswith(b":"):
            assert b"\n" not in block
            continue
        name, data = block.split(b"\n")
        assert len(data.decode().splitlines()) == 1
        event = orjson.loads(data.removeprefix(b"data: "))
        assert name == b"event: " + event["type"].encode()
        found.append(event)
    return found


@dataclass
class Read:
    """The content of a stream: its deltas as received, its finished items, and the response in the last event.

    `broken_off` is true if an item was open when the response failed.
    """

    deltas: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    items: list[Json] = field(default_factory=list)
    broken_off: bool = False
    end: str = ""
    response: Json = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The answer's text."""
        return "".join(self.deltas)


def read_events(events: Sequence[Json]) -> Read:
    """Check and collect a whole stream. Raises AssertionError if it is invalid."""
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    for event in events:
        check_sdk_event(event)
    created, in_progress, *middle, last = events
    assert (created["type"], in_progress["type"]) == ("response.created", "response.in_progress")
    for event in (created, in_progress):
        response = event["response"]
        assert (response["status"], response["output"], response["usage"]) == ("in_progress", [], None)
        assert (response["completed_at"], response["error"], response["incomplete_details"]) == (None, None, None)
    read = Read()
    at = 0
    while at < len(middle):
        at = _read_item(middle, at, read)
    read.end, read.response = last["type"], last["response"]
    status = read.end.removeprefix("response.")
    assert status in ("completed", "incomplete", "failed")
    assert read.response["status"] == status
    assert read.response["output"] == read.items
    assert status == "failed" or not read.broken_off
    assert (read.response["error"] is not None) == (status == "failed")
    assert (read.response["incomplete_details"] is not None) == (status == "incomplete")
    assert (read.response["completed_at"] is None) == (status == "failed")
    assert (read.response["usage"] is None) == (status == "failed")
    same = set(created["response"]) - {"status", "output", "usage", "completed_at", "error", "incomplete_details"}
    assert {name: read.response[name] for name in same} == {name: created["response"][name] for name in same}
    return read


def check_sdk_event(event: Mapping[str, Any]) -> None:
    """Validate an event against the SDK's types, strictly. Raises ValidationError."""
    if event["type"] == "response.failed" and event["response"]["error"]["code"] == "context_length_exceeded":
        return  # OpenAI sends this code, though its SDK's types do not include it
    _STREAM_EVENT.validate_json(orjson.dumps(event), strict=True)


def check_sdk_response(response: Mapping[str, Any]) -> None:
    """Validate a response object against the SDK's types, strictly. Raises ValidationError."""
    Response.model_validate_json(orjson.dumps(response), strict=True)


def _read_item(events: Sequence[Json], at: int, read: Read) -> int:
    """Read one item, starting at the event that adds it; return the index after the event that ends it."""
    added = events[at]
    assert (added["type"], added["output_index"]) == ("response.output_item.added", len(read.items))
    item = added["item"]
    assert item["status"] == "in_progress"
    types = [event["type"] for event in events]
    end = types.index("response.output_item.done", at) if "response.output_item.done" in types[at:] else len(events)
    if end == len(events):
        read.broken_off = True
        _read_open_part(item, events[at + 1 :], read)
        return end
    done = events[end]
    assert done["output_index"] == len(read.items)
    assert done["item"]["id"] == item["id"]
    inner = events[at + 1 : end]
    for event in inner:
        assert (event["item_id"], event["output_index"]) == (item["id"], len(read.items))
    if item["type"] in _PARTS:
        _read_part(item, inner, done["item"], read)
    else:
        _read_call(item, inner, done["item"])
    read.items.append(done["item"])
    return end + 1


def _read_open_part(item: Json, inner: Sequence[Json], read: Read) -> None:
    """Read an item that is cut off in the middle of its text."""
    part, word = _PARTS[item["type"]]
    added, *deltas = inner
    assert (added["type"], added["part"]["type"]) == ("response.content_part.added", part)
    for event in inner:
        assert (event["item_id"], event["output_index"], event["content_index"]) == (item["id"], len(read.items), 0)
    assert all(event["type"] == f"response.{word}.delta" for event in deltas)
    told = read.deltas if item["type"] == "message" else read.reasoning
    told += [event["delta"] for event in deltas]


def _read_part(item: Json, inner: Sequence[Json], done: Json, read: Read) -> None:
    part, word = _PARTS[item["type"]]
    assert item["content"] == []
    added, *middle, text_done, part_done = inner
    assert all(event["content_index"] == 0 for event in inner)
    assert (added["type"], added["part"]["type"], added["part"]["text"]) == ("response.content_part.added", part, "")
    deltas = [event["delta"] for event in middle if event["type"] == f"response.{word}.delta"]
    annotations = middle[len(deltas) :]
    assert all(event["type"] == "response.output_text.annotation.added" for event in annotations)
    assert [event["annotation_index"] for event in annotations] == list(range(len(annotations)))
    assert (text_done["type"], text_done["text"]) == (f"response.{word}.done", "".join(deltas))
    if item["type"] == "message":
        assert all(event["logprobs"] == [] for event in (*middle[: len(deltas)], text_done))
        assert part_done["part"]["annotations"] == [event["annotation"] for event in annotations]
        read.deltas += deltas
    else:
        assert annotations == []
        read.reasoning += deltas
    assert (part_done["type"], part_done["part"]["text"]) == ("response.content_part.done", "".join(deltas))
    assert {**done, "content": [], "status": "in_progress"} == item
    assert done["content"] == [part_done["part"]]


def _read_call(item: Json, inner: Sequence[Json], done: Json) -> None:
    word, name = _CALLS[item["type"]]
    delta, whole = inner
    assert (delta["type"], whole["type"]) == (f"response.{word}.delta", f"response.{word}.done")
    assert item[name] == ""
    assert delta["delta"] == whole[name] == done[name]
    assert {**done, name: "", "status": "in_progress"} == item
    if item["type"] == "function_call":
        assert whole["name"] == item["name"]
