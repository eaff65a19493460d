"""What requests contain besides plain text, over HTTP: models see all of it, and different histories never mix."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from pictures import png
from running import RunningBridge

from upstream.arena import Arena

SEES = "gpt-6.1-high"
USER = {"role": "user", "content": "Tell me of tigers."}
NEXT = {"role": "user", "content": "/say hello"}
NO = "I will not speak of tigers."
CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at": "tigers"}'}}
CUSTOM = {"id": "call_2", "type": "custom", "custom": {"name": "patch", "input": "*** tigers"}}
TOOL = {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": {"type": "object"}}}


async def place(bridge: RunningBridge, messages: list[Any], **fields: Any) -> str:
    """Ask; return whether the answer was new, a follow-up or regenerated, and why."""
    answer = await bridge.post(bridge.chat(messages=messages, **fields))
    assert answer.status == 200, await answer.text()
    return answer.headers["x-bridge-conversation"]


def shown(arena: Arena) -> str:
    """The prompt of the last upstream call."""
    return str(json.loads(arena.chats[-1].body)["userMessage"]["content"])


SAYING: dict[str, tuple[list[dict[str, Any]], list[str]]] = {
    "a refusal": ([{"role": "assistant", "content": None, "refusal": NO}], [NO]),
    "a refusal as a part": ([{"role": "assistant", "content": [{"type": "refusal", "refusal": NO}]}], [NO]),
    "a function call": (
        [{"role": "assistant", "content": None, "function_call": {"name": "look", "arguments": '{"at": "tigers"}'}}],
        ['{"name": "look", "arguments": {"at": "tigers"}}'],
    ),
    "a function call and its result": (
        [
            {"role": "assistant", "content": None, "function_call": {"name": "look", "arguments": "{}"}},
            {"role": "function", "name": "look", "content": "Stripes."},
        ],
        ['{"name": "look", "arguments": {}}', '<tool_response name="look">\nStripes.\n</tool_response>'],
    ),
    "a call and its result": (
        [
            {"role": "assistant", "content": "Well.", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "call_1", "content": "Stripes."},
        ],
        ["Well.", '{"at": "tigers"}', '<tool_response id="call_1" name="look">\nStripes.\n</tool_response>'],
    ),
    "a custom call": ([{"role": "assistant", "tool_calls": [CUSTOM]}], ['{"name": "patch", "input": "*** tigers"}']),
}


@pytest.mark.parametrize(("said", "texts"), SAYING.values(), ids=SAYING)
async def test_every_content_of_a_message_is_shown_and_tells_histories_apart(
    said: list[dict[str, Any]], texts: list[str], arena: Arena, bridge: RunningBridge
) -> None:
    assert await place(bridge, [USER, *said, NEXT]) == "new; why=unknown"
    at = 0
    for text in texts:
        at = shown(arena).index(text, at) + len(text)
    silent = [{"role": "assistant", "content": None}]
    assert await place(bridge, [USER, *silent, NEXT]) == "new; why=unknown", "another history, another evaluation"
    assert not any(text in shown(arena) for text in texts)
    assert await place(bridge, [USER, *said, NEXT]) == "regenerate; why=repeated"
    assert await place(bridge, [USER, *said, NEXT, {"role": "assistant", "content": "hello"}, NEXT]) == (
        "follow-up; why=known"
    )


ENDS: dict[str, tuple[list[dict[str, Any]], str, str]] = {
    "a question": ([USER, {"role": "assistant", "content": "No."}, NEXT], "Answer its last message", "/say hello"),
    "an instruction for the answer": (
        [{"role": "system", "content": "Be kind."}, NEXT, {"role": "system", "content": "In rhymes."}],
        "as the instruction at its end says",
        "[System]\nIn rhymes.",
    ),
    "an answer begun": (
        [NEXT, {"role": "assistant", "content": "Once upon a"}],
        "continue it from exactly where it stops, without repeating any of it",
        "[Assistant]\nOnce upon a",
    ),
    "a result": (
        [NEXT, {"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "tool_call_id": "call_1", "content": "1"}],
        "Go on from the results at its end",
        "\n1\n</tool_response>",
    ),
}


@pytest.mark.parametrize(("messages", "opening", "end"), ENDS.values(), ids=ENDS)
async def test_the_closing_instruction_follows_the_role_of_the_last_message(
    messages: list[dict[str, Any]], opening: str, end: str, arena: Arena, bridge: RunningBridge
) -> None:
    await place(bridge, messages)
    assert opening in shown(arena)
    assert shown(arena).endswith(end)
    others = [each for _, each, _ in ENDS.values() if each != opening]
    assert not any(other in shown(arena) for other in others)


async def test_instructions_are_sent_once_for_each_evaluation(arena: Arena, bridge: RunningBridge) -> None:
    messages: list[Any] = [{"role": "system", "content": "Be kind."}, NEXT]
    assert await place(bridge, messages, tools=[TOOL]) == "new; why=first"
    assert shown(arena).startswith("# Tools\n")
    assert '\n{"name":"look","description":"Looks.","parameters":{"type":"object"}}\n' in shown(arena)
    assert shown(arena).endswith("\n\nBe kind.\n\n/say hello")
    messages += [{"role": "assistant", "content": "hello"}, NEXT]
    assert await place(bridge, messages, tools=[TOOL]) == "follow-up; why=known"
    assert shown(arena) == "/say hello"


OTHERWISE: dict[str, dict[str, Any]] = {
    "without tools": {},
    "tools that must not be called": {"tools": [TOOL], "tool_choice": "none"},
    "another tool": {"tools": [{"type": "function", "function": {"name": "go"}}]},
    "a tool more": {"tools": [TOOL, {"type": "function", "function": {"name": "go"}}]},
    "a call at most": {"tools": [TOOL], "parallel_tool_calls": False},
}


@pytest.mark.parametrize("otherwise", OTHERWISE.values(), ids=OTHERWISE)
async def test_changed_tools_start_a_new_evaluation(otherwise: dict[str, Any], bridge: RunningBridge) -> None:
    await place(bridge, [NEXT], tools=[TOOL])
    messages: list[Any] = [NEXT, {"role": "assistant", "content": "hello"}, NEXT]
    assert await place(bridge, messages, **otherwise) == "new; why=tools"
    assert await place(bridge, messages, tools=[TOOL]) == "follow-up; why=known"


async def test_tools_described_too_long_for_the_site_are_context_length_exceeded(bridge: RunningBridge) -> None:
    described = TOOL | {"function": {"name": "look", "description": "x" * 120_000}}
    answer = await bridge.post(bridge.chat(messages=[NEXT], tools=[described]))
    error = (await answer.json())["error"]
    assert (answer.status, error["code"]) == (400, "context_length_exceeded")
    assert "describe tools" in error["message"]


async def test_a_tool_with_an_invalid_schema_is_named_in_a_header(bridge: RunningBridge) -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "word"}}}
    answer = await bridge.post(bridge.chat("/say hello", tools=[tool]))
    assert (answer.status, answer.headers["x-bridge-ignored"]) == (200, "tools[0].function.parameters (look)")


@pytest.mark.parametrize("label", ["", "application/octet-stream", "image/*", "IMAGE/TIFF", "text/plain"])
async def test_a_pictures_type_is_read_from_its_bytes_rather_than_its_label(
    label: str, arena: Arena, bridge: RunningBridge
) -> None:
    text = base64.encodebytes(png()).decode().rstrip("=\n")
    picture = {"type": "image_url", "image_url": {"url": f"data:{label};base64,\n{text}"}}
    messages = [{"role": "user", "content": [picture]}]
    answer = await bridge.post(bridge.chat(messages=messages, model=SEES))
    assert answer.status == 200, await answer.text()
    (attachment,) = json.loads(arena.chats[-1].body)["userMessage"]["experimental_attachments"]
    assert attachment["contentType"] == "image/png"


@pytest.mark.parametrize("mangled", ["openai/{}", "lmarena/{}", "{}:latest", " {}\n", "azure/{}:latest"])
async def test_a_models_name_is_recognised_as_clients_mangle_it(
    mangled: str, arena: Arena, bridge: RunningBridge
) -> None:
    name = bridge.model()
    for asked, kind in (
        (mangled.format(name), "new; why=first"),
        (mangled.format(name).upper(), "regenerate; why=repeated"),
    ):
        answer = await bridge.post(bridge.chat("/say hello", model=asked))
        assert answer.status == 200, await answer.text()
        assert (await answer.json())["model"] == asked
        assert answer.headers["x-bridge-conversation"] == kind, "the same model, so the same conversation"
    assert arena.model(name).id in arena.chats[0].body.decode()
