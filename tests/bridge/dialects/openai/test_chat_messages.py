"""Fields of a message besides its content and tool calls: shown, named as ignored, or refused by name."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from pictures import data_url, png

from bridge.answering.chat import ChatRequest
from bridge.answering.messages import Message, ToolCall
from bridge.dialects.fields import read_object
from bridge.dialects.files import FileReader, FileRules
from bridge.dialects.openai.chat import CHAT_COMPLETIONS
from bridge.errors import ApiError

NO = "I will not speak of tigers."
TEXT = {"type": "text", "text": "Well."}


def read(message: dict[str, Any]) -> ChatRequest:
    body = orjson.dumps({"model": "m", "messages": [message]})
    return CHAT_COMPLETIONS.read(read_object(body), FileReader(FileRules(1000, 3), {})).chat


def assistant(**fields: object) -> dict[str, Any]:
    return {"role": "assistant"} | fields


def said(text: str, *calls: ToolCall) -> Message:
    return Message("assistant", text, tool_calls=calls)


def thought(kind: str, **fields: object) -> dict[str, Any]:
    return assistant(content=[{"type": kind, **fields}, TEXT])


CUSTOM = {"id": "call_1", "type": "custom", "custom": {"name": "patch", "input": "*** Begin\n"}}
SHOWN: dict[str, tuple[dict[str, Any], Message]] = {
    "a refusal": (assistant(content=None, refusal=NO), said(NO)),
    "a refusal alone": (assistant(refusal=NO), said(NO)),
    "a refusal behind a text": (assistant(content="Well.", refusal=NO), said(f"Well.\n{NO}")),
    "a refusal behind parts": (assistant(content=[TEXT], refusal=NO), said(f"Well.\n{NO}")),
    "a refusal that is empty": (assistant(content="Well.", refusal=""), said("Well.")),
    "a refusal as a part": (assistant(content=[{"type": "refusal", "refusal": NO}]), said(NO)),
    "a refusal as a part behind a text": (
        assistant(content=[TEXT, {"type": "refusal", "refusal": NO}]),
        said(f"Well.\n{NO}"),
    ),
    "a function call": (
        assistant(content=None, function_call={"name": "look", "arguments": '{"at": 1}'}),
        said("", ToolCall("", "look", '{"at": 1}')),
    ),
    "a function call without arguments": (
        assistant(content="Well.", function_call={"name": "look"}),
        said("Well.", ToolCall("", "look", "")),
    ),
    "a function's result": (
        {"role": "function", "name": "look", "content": "blue"},
        Message("tool", "blue", "look"),
    ),
    "a function's result in parts": (
        {"role": "function", "name": "look", "content": [TEXT]},
        Message("tool", "Well.", "look"),
    ),
    "a user's call": (
        {"role": "user", "content": "hi", "tool_calls": [CUSTOM]},
        Message("user", "hi", tool_calls=(ToolCall("call_1", "patch", "*** Begin\n", "custom"),)),
    ),
    "a result's function call": (
        {"role": "tool", "content": "hi", "function_call": {"name": "look"}},
        Message("tool", "hi", tool_calls=(ToolCall("", "look", ""),)),
    ),
    "a custom call": (
        assistant(tool_calls=[CUSTOM]),
        said("", ToolCall("call_1", "patch", "*** Begin\n", "custom")),
    ),
    "a custom call without an input": (
        assistant(tool_calls=[CUSTOM | {"custom": {"name": "patch"}}]),
        said("", ToolCall("call_1", "patch", "", "custom")),
    ),
    "thinking": (thought("thinking", thinking="hm", signature="x"), said("Well.")),
    "thinking that is hidden": (thought("redacted_thinking", data="hm"), said("Well.")),
    "reasoning": (thought("reasoning", text="hm"), said("Well.")),
    "reasoning as a list": (thought("reasoning", summary=[{"text": "hm"}]), said("Well.")),
    "nothing but thinking": (assistant(content=[{"type": "thinking", "thinking": "hm"}]), said("")),
    "reasoning beside the content": (assistant(content="Well.", reasoning_content="hm"), said("Well.")),
    "an id on another's message": ({"role": "user", "content": "hi", "tool_call_id": "call_1"}, Message("user", "hi")),
    "nulls": (
        assistant(content="Well.", refusal=None, function_call=None, tool_calls=None, audio=None, name=None),
        said("Well."),
    ),
}


@pytest.mark.parametrize(("given", "message"), SHOWN.values(), ids=SHOWN)
def test_message_fields_are_read_into_the_message(given: dict[str, Any], message: Message) -> None:
    request = read(given)
    assert (request.messages, request.ignored) == ((message,), ())


PICTURE = {"url": data_url(png())}
IGNORED: dict[str, tuple[dict[str, Any], str]] = {
    "a picture's detail": ({"type": "image_url", "image_url": PICTURE | {"detail": "high"}}, "image_url.detail"),
    "a file's id": ({"type": "file", "file": {"file_data": PICTURE["url"], "file_id": "file-1"}}, "file.file_id"),
    "an input file's id": ({"type": "input_file", "file_data": PICTURE["url"], "file_id": "f"}, "file.file_id"),
    "a cache's edge in a text": (TEXT | {"prompt_cache_breakpoint": {"mode": "explicit"}}, "prompt_cache_breakpoint"),
    "a cache's edge in a picture": (
        {"type": "image_url", "image_url": PICTURE, "prompt_cache_breakpoint": {"mode": "explicit"}},
        "prompt_cache_breakpoint",
    ),
}


@pytest.mark.parametrize(("part", "name"), IGNORED.values(), ids=IGNORED)
def test_a_repeated_field_without_effect_is_reported_once(part: dict[str, Any], name: str) -> None:
    assert read({"role": "user", "content": [part, part]}).ignored == (name,)


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "an answer that was spoken": (assistant(audio={"id": "audio_1"}), "unsupported_parameter", "audio"),
    "an answer that was spoken, with its text": (
        assistant(content="Well.", audio={"id": "audio_1"}),
        "unsupported_parameter",
        "audio",
    ),
    "a user's refusal": ({"role": "user", "content": "hi", "refusal": NO}, "unsupported_parameter", "refusal"),
    "a user's refusal as a part": (
        {"role": "user", "content": [{"type": "refusal", "refusal": NO}]},
        "unsupported_parameter",
        "content[0].type",
    ),
    "a user's thinking": (
        {"role": "user", "content": [{"type": "thinking", "thinking": "hm"}]},
        "unsupported_parameter",
        "content[0].type",
    ),
    "a refusal a number": (assistant(refusal=1), "invalid_type", "refusal"),
    "a refusal part without a refusal": (
        assistant(content=[{"type": "refusal"}]),
        "missing_required_parameter",
        "content[0].refusal",
    ),
    "a function call a string": (assistant(function_call="look"), "invalid_type", "function_call"),
    "a function call without a name": (
        assistant(function_call={"arguments": "{}"}),
        "missing_required_parameter",
        "function_call.name",
    ),
    "a custom call without its object": (
        assistant(tool_calls=[{"type": "custom"}]),
        "missing_required_parameter",
        "tool_calls[0].custom",
    ),
    "a custom call without a name": (
        assistant(tool_calls=[CUSTOM | {"custom": {"input": "x"}}]),
        "missing_required_parameter",
        "tool_calls[0].custom.name",
    ),
    "a custom call's input an object": (
        assistant(tool_calls=[CUSTOM | {"custom": {"name": "patch", "input": {}}}]),
        "invalid_type",
        "tool_calls[0].custom.input",
    ),
}


@pytest.mark.parametrize(("given", "code", "param"), REFUSED.values(), ids=REFUSED)
def test_the_error_for_an_invalid_message_field_gives_its_path(given: dict[str, Any], code: str, param: str) -> None:
    with pytest.raises(ApiError) as caught:
        read(given)
    assert (caught.value.status, caught.value.code, caught.value.param) == (400, code, f"messages[0].{param}")
