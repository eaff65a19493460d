"""docs/behaviour.md, "Chat completions: parameters": how the bytes of a request are read, or the 400 that
names the problem.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, NamedTuple

import orjson
import pytest
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st

from bridge.answering.chat import ChatRequest
from bridge.answering.messages import Message, ToolCall
from bridge.dialects.fields import read_object
from bridge.dialects.files import FileReader, FileRules
from bridge.dialects.openai.chat import CHAT_COMPLETIONS, ChatCompletionRequest
from bridge.dialects.openai.errors import error_type
from bridge.errors import ApiError

USER: dict[str, Any] = {"role": "user", "content": "hi"}
CALL: dict[str, Any] = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at": "it"}'}}
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "look"}}
IMAGE: dict[str, Any] = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
PDF = "data:application/pdf;base64,JVBERi0xLjQ="


def read(data: bytes) -> ChatCompletionRequest:
    return CHAT_COMPLETIONS.read(read_object(data), FileReader(FileRules(1000, 3), {}))


def read_request(data: bytes) -> ChatRequest:
    return read(data).chat


def body(**fields: object) -> bytes:
    """Return a valid request with these fields; a field given as `...` is left out."""
    request = {"model": "m", "messages": [USER]} | fields
    return orjson.dumps({name: value for name, value in request.items() if value is not ...})


def message(**fields: object) -> dict[str, object]:
    """Return the field `messages` with one user message that has these fields."""
    return {"messages": [{name: value for name, value in (USER | fields).items() if value is not ...}]}


def part(value: object) -> dict[str, object]:
    """Return the field `messages` with one message of two parts, the second of which is given."""
    return message(content=[{"type": "text", "text": "see"}, value])


def file(**fields: object) -> dict[str, object]:
    """Return a `file` part."""
    return {"type": "file", "file": fields}


# What is read


def test_a_request_with_one_message_is_read() -> None:
    assert read(body()) == ChatCompletionRequest(ChatRequest("m", (Message("user", "hi"),), stream=False), False)


MESSAGES: dict[str, tuple[dict[str, Any], Message]] = {
    "system": ({"role": "system", "content": "be kind"}, Message("system", "be kind")),
    "developer is system": ({"role": "developer", "content": "be kind"}, Message("system", "be kind")),
    "user": ({"role": "user", "content": "hi"}, Message("user", "hi")),
    "user with a name": ({"role": "user", "content": "hi", "name": "Ada"}, Message("user", "hi", "Ada")),
    "assistant": ({"role": "assistant", "content": "hello"}, Message("assistant", "hello")),
    "assistant that calls a tool": (
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        Message("assistant", "", tool_calls=(ToolCall("call_1", "look", '{"at": "it"}'),)),
    ),
    "assistant that calls a tool without arguments": (
        {"role": "assistant", "tool_calls": [{"function": {"name": "look"}}]},
        Message("assistant", "", tool_calls=(ToolCall("", "look", ""),)),
    ),
    "tool": (
        {"role": "tool", "content": "a cat", "tool_call_id": "call_1"},
        Message("tool", "a cat", tool_call_id="call_1"),
    ),
    "content absent": ({"role": "user"}, Message("user", "")),
    "content null": ({"role": "system", "content": None}, Message("system", "")),
    "content an empty list": ({"role": "tool", "content": []}, Message("tool", "")),
    "content one part": ({"role": "system", "content": [{"type": "text", "text": "a"}]}, Message("system", "a")),
    "content parts, joined by newlines": (
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        Message("user", "a\nb"),
    ),
    "any text, verbatim": ({"role": "user", "content": " <b>\r\n\u2028\0😀 "}, Message("user", " <b>\r\n\u2028\0😀 ")),
    "unknown fields": ({"role": "user", "content": "hi", "mood": {"good": [1]}}, Message("user", "hi")),
}


@pytest.mark.parametrize(("given", "read"), MESSAGES.values(), ids=MESSAGES)
def test_messages_are_read_from_every_kind_of_content(given: dict[str, Any], read: Message) -> None:
    assert read_request(body(messages=[given])).messages == (read,)


STREAMS: dict[str, tuple[dict[str, object], tuple[bool, bool]]] = {
    "not asked for": ({}, (False, False)),
    "null": ({"stream": None, "stream_options": None}, (False, False)),
    "false": ({"stream": False}, (False, False)),
    "true": ({"stream": True}, (True, False)),
    "empty options": ({"stream": True, "stream_options": {}}, (True, False)),
    "no usage": ({"stream": True, "stream_options": {"include_usage": False}}, (True, False)),
    "usage": ({"stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False}}, (True, True)),
}


@pytest.mark.parametrize(("fields", "expected"), STREAMS.values(), ids=STREAMS)
def test_stream_and_include_usage_are_read(fields: dict[str, object], expected: tuple[bool, bool]) -> None:
    request = read(body(**fields))
    assert (request.chat.stream, request.include_usage) == expected


#: Fields that are accepted, and the names that come back in `x-bridge-ignored`.
ACCEPTED: dict[str, tuple[dict[str, object], tuple[str, ...]]] = {
    "temperature": ({"temperature": 0.7}, ("temperature",)),
    "temperature 0": ({"temperature": 0}, ("temperature",)),
    "temperature null": ({"temperature": None}, ()),
    "top_p": ({"top_p": 1}, ("top_p",)),
    "presence_penalty": ({"presence_penalty": -2.0}, ("presence_penalty",)),
    "frequency_penalty": ({"frequency_penalty": 1.5}, ("frequency_penalty",)),
    "seed": ({"seed": 42}, ("seed",)),
    "seed, the largest": ({"seed": 2**63 - 1}, ("seed",)),
    "logit_bias": ({"logit_bias": {"50256": -100}}, ("logit_bias",)),
    "user": ({"user": "ada"}, ("user",)),
    "metadata": ({"metadata": {"a": "b"}}, ("metadata",)),
    "store": ({"store": False}, ("store",)),
    "service_tier": ({"service_tier": "auto"}, ("service_tier",)),
    "reasoning_effort": ({"reasoning_effort": "high"}, ("reasoning_effort",)),
    "verbosity": ({"verbosity": "low"}, ("verbosity",)),
    "stop, none": ({"stop": []}, ()),
    "n = 1": ({"n": 1}, ()),
    "response_format text": ({"response_format": {"type": "text"}}, ()),
    "no tools": ({"tools": [], "functions": []}, ()),
    "no tools, chosen freely": ({"tools": [], "tool_choice": "auto"}, ()),
    "tools that must not be called": ({"tools": [TOOL], "tool_choice": "none"}, ()),
    "functions that must not be called": ({"functions": [{"name": "f"}], "function_call": "none"}, ()),
    "parallel_tool_calls without tools": ({"parallel_tool_calls": True}, ()),
    "no logprobs": ({"logprobs": False, "top_logprobs": 0}, ()),
    "modalities text": ({"modalities": ["text"]}, ()),
    "audio null": ({"audio": None}, ()),
    "unknown fields": ({"enable_thinking": True, "cache": {"deep": [{"er": None}]}}, ()),
    "several": ({"seed": 1, "temperature": 1, "stop": "x"}, ("temperature", "seed")),
}


@pytest.mark.parametrize(("fields", "ignored"), ACCEPTED.values(), ids=ACCEPTED)
def test_fields_without_effect_are_accepted_and_reported_as_ignored(
    fields: dict[str, object], ignored: tuple[str, ...]
) -> None:
    assert read_request(body(**fields)).ignored == ignored


# What is refused


class Refusal(NamedTuple):
    fields: dict[str, object]
    code: str
    param: str


def wrong_type(param: str, fields: dict[str, object]) -> Refusal:
    return Refusal(fields, "invalid_type", param)


def missing(param: str, fields: dict[str, object]) -> Refusal:
    return Refusal(fields, "missing_required_parameter", param)


def invalid(param: str, fields: dict[str, object]) -> Refusal:
    return Refusal(fields, "invalid_value", param)


def unsupported(param: str, fields: dict[str, object]) -> Refusal:
    return Refusal(fields, "unsupported_parameter", param)


REFUSED = {
    "model missing": missing("model", {"model": ...}),
    "model null": missing("model", {"model": None}),
    "model empty": missing("model", {"model": ""}),
    "model a number": wrong_type("model", {"model": 4}),
    # messages
    "messages missing": missing("messages", {"messages": ...}),
    "messages null": missing("messages", {"messages": None}),
    "messages empty": invalid("messages", {"messages": []}),
    "messages a string": wrong_type("messages", {"messages": "hi"}),
    "messages an object": wrong_type("messages", {"messages": USER}),
    "a message a string": wrong_type("messages[1]", {"messages": [USER, "hi"]}),
    "a message null": wrong_type("messages[0]", {"messages": [None]}),
    "role missing": missing("messages[0].role", message(role=...)),
    "role null": missing("messages[0].role", message(role=None)),
    "role unknown": invalid("messages[0].role", message(role="critic")),
    "role a list": wrong_type("messages[0].role", message(role=["user"])),
    "name a number": wrong_type("messages[0].name", message(name=1)),
    "content a number": wrong_type("messages[0].content", message(content=1)),
    "content an object": wrong_type("messages[0].content", message(content={"type": "text", "text": "hi"})),
    "content true": wrong_type("messages[0].content", message(content=True)),
    "a part a string": wrong_type("messages[0].content[1]", part("hi")),
    "a part null": wrong_type("messages[0].content[1]", part(None)),
    "a part without type": missing("messages[0].content[1].type", part({"text": "hi"})),
    "a part's type a number": wrong_type("messages[0].content[1].type", part({"type": 1})),
    "a text part without text": missing("messages[0].content[1].text", part({"type": "text"})),
    "a text part's text a list": wrong_type("messages[0].content[1].text", part({"type": "text", "text": ["hi"]})),
    "a picture without an url": missing("messages[0].content[1].image_url.url", part({**IMAGE, "image_url": {}})),
    "a picture that is a string": wrong_type("messages[0].content[1].image_url", part({**IMAGE, "image_url": "data:"})),
    "a sound": unsupported("messages[0].content[1].type", part({"type": "input_audio", "input_audio": {}})),
    "a file part without a file": missing("messages[0].content[1].file", part({"type": "file"})),
    "a file part that is a string": wrong_type("messages[0].content[1].file", part({"type": "file", "file": "data:"})),
    "a file without data": missing("messages[0].content[1].file.file_data", part({"type": "file", "file": {}})),
    "a file with empty data": missing("messages[0].content[1].file.file_data", part(file(file_data=""))),
    "a file's data a list": wrong_type("messages[0].content[1].file.file_data", part(file(file_data=[PDF]))),
    "a file's name a number": wrong_type("messages[0].content[1].file.filename", part(file(filename=1, file_data=PDF))),
    "a file by id": unsupported("messages[0].content[1].file.file_id", part(file(file_id="file-1"))),
    "a file by URL": unsupported("messages[0].content[1].file.file_url", part(file(file_url="https://example.org/a"))),
    "an input_file without data": missing("messages[0].content[1].file_data", part({"type": "input_file"})),
    "an input_file by id": unsupported("messages[0].content[1].file_id", part({"type": "input_file", "file_id": "f"})),
    "an input_file by URL": unsupported(
        "messages[0].content[1].file_url", part({"type": "input_file", "file_url": "https://example.org/a.pdf"})
    ),
    "a refusal part": unsupported("messages[0].content[1].type", part({"type": "refusal", "refusal": "no"})),
    "tool_calls an object": wrong_type("messages[0].tool_calls", message(tool_calls=CALL)),
    "a tool call a string": wrong_type("messages[0].tool_calls[1]", message(tool_calls=[CALL, "look"])),
    "a tool call without function": missing("messages[0].tool_calls[0].function", message(tool_calls=[{"id": "c"}])),
    "a tool call's function a string": wrong_type(
        "messages[0].tool_calls[0].function", message(tool_calls=[{"function": "look"}])
    ),
    "a tool call without name": missing(
        "messages[0].tool_calls[0].function.name", message(tool_calls=[{"function": {"arguments": "{}"}}])
    ),
    "a tool call's arguments an object": wrong_type(
        "messages[0].tool_calls[0].function.arguments",
        message(tool_calls=[{"function": {"name": "look", "arguments": {}}}]),
    ),
    "a tool call's id a number": wrong_type("messages[0].tool_calls[0].id", message(tool_calls=[CALL | {"id": 1}])),
    "tool_call_id a number": wrong_type("messages[0].tool_call_id", message(role="tool", tool_call_id=1)),
    # stream
    "stream a string": wrong_type("stream", {"stream": "true"}),
    "stream a number": wrong_type("stream", {"stream": 1}),
    "stream_options without stream": invalid("stream_options", {"stream_options": {"include_usage": True}}),
    "stream_options true": wrong_type("stream_options", {"stream": True, "stream_options": True}),
    "include_usage a number": wrong_type(
        "stream_options.include_usage", {"stream": True, "stream_options": {"include_usage": 1}}
    ),
    # what has no effect
    "temperature a string": wrong_type("temperature", {"temperature": "hot"}),
    "temperature true": wrong_type("temperature", {"temperature": True}),
    "top_p a list": wrong_type("top_p", {"top_p": [1]}),
    "presence_penalty a string": wrong_type("presence_penalty", {"presence_penalty": "1"}),
    "frequency_penalty an object": wrong_type("frequency_penalty", {"frequency_penalty": {}}),
    "seed 1.5": wrong_type("seed", {"seed": 1.5}),
    "seed true": wrong_type("seed", {"seed": True}),
    "logit_bias a list": wrong_type("logit_bias", {"logit_bias": []}),
    "user a number": wrong_type("user", {"user": 1}),
    "metadata a string": wrong_type("metadata", {"metadata": "m"}),
    "store a string": wrong_type("store", {"store": "yes"}),
    "service_tier a number": wrong_type("service_tier", {"service_tier": 1}),
    "reasoning_effort a number": wrong_type("reasoning_effort", {"reasoning_effort": 3}),
    "verbosity a boolean": wrong_type("verbosity", {"verbosity": True}),
    "max_tokens a string": wrong_type("max_tokens", {"max_tokens": "100"}),
    "stop a number": wrong_type("stop", {"stop": 1}),
    "a stop a number": wrong_type("stop[1]", {"stop": ["a", 1]}),
    "a stop null": wrong_type("stop[0]", {"stop": [None]}),
    "n a string": wrong_type("n", {"n": "1"}),
    "n 0": invalid("n", {"n": 0}),
    # what is not supported
    "tools an object": wrong_type("tools", {"tools": TOOL}),
    "functions a string": wrong_type("functions", {"functions": "f"}),
    "response_format a string": wrong_type("response_format", {"response_format": "json"}),
    "response_format without type": missing("response_format.type", {"response_format": {}}),
    "response_format of another type": invalid("response_format.type", {"response_format": {"type": "xml"}}),
    "response_format's type a number": wrong_type("response_format.type", {"response_format": {"type": 1}}),
    "logprobs": unsupported("logprobs", {"logprobs": True}),
    "logprobs a number": wrong_type("logprobs", {"logprobs": 1}),
    "top_logprobs": unsupported("top_logprobs", {"top_logprobs": 3}),
    "audio": unsupported("audio", {"audio": {"voice": "alloy", "format": "mp3"}}),
    "audio a string": wrong_type("audio", {"audio": "mp3"}),
    "modalities audio": unsupported("modalities", {"modalities": ["text", "audio"]}),
    "modalities a string": wrong_type("modalities", {"modalities": "text"}),
    "a modality a number": wrong_type("modalities[0]", {"modalities": [1]}),
}


def refusal(data: bytes) -> ApiError:
    with pytest.raises(ApiError) as caught:
        read_request(data)
    assert (caught.value.status, error_type(caught.value)) == (400, "invalid_request_error")
    return caught.value


@pytest.mark.parametrize("row", REFUSED.values(), ids=REFUSED)
def test_the_error_for_an_invalid_field_gives_its_path(row: Refusal) -> None:
    error = refusal(body(**row.fields))
    assert (error.code, error.param) == (row.code, row.param)
    assert row.param in error.message or row.code == "unsupported_parameter"


@pytest.mark.parametrize("kind", ["input_audio", "refusal", "video_url"])
def test_the_error_for_an_unsupported_part_names_its_type(kind: str) -> None:
    assert kind in refusal(body(**part({"type": kind}))).message


NOT_JSON = {
    "nothing": b"",
    "blanks": b"  \n",
    "a word": b"hello",
    "a form": b"model=m&messages=hi",
    "cut off": body()[:-1],
    "something behind it": body() + b"}",
    "single quotes": b"{'model': 'm'}",
    "a comma too many": b'{"model":"m",}',
    "invalid UTF-8": b'{"model":"\xff\xfe"}',
    "a surrogate in UTF-8": b'{"model":"\xed\xa0\x80"}',
    "a raw NUL in a string": b'{"model":"\x00"}',
    "NULs": b"\x00" * 100,
    "NaN": b'{"model":"m","messages":[],"temperature":NaN}',
    "Infinity": b'{"model":"m","messages":[],"temperature":-Infinity}',
    "1e999": b'{"model":"m","messages":[],"temperature":1e999}',
    "10,000 deep": b'{"model":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "10,000 objects deep": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
}


@pytest.mark.parametrize("data", NOT_JSON.values(), ids=NOT_JSON)
def test_a_body_that_is_not_json_is_refused(data: bytes) -> None:
    error = refusal(data)
    assert (error.code, error.param) == ("invalid_json", None)
    assert "line 1" in error.message or not data.strip()


@pytest.mark.parametrize("data", [b"[]", b"null", b'"{}"', b"1", b"1.5", b"true", b"[{}]"])
def test_a_json_body_that_is_not_an_object_is_refused(data: bytes) -> None:
    error = refusal(data)
    assert (error.code, error.param) == ("invalid_type", None)


@pytest.mark.parametrize("name", ["seed", "max_tokens", "n"])
def test_an_integer_over_64_bits_is_refused(name: str) -> None:
    assert refusal(body(**{name: 1}).replace(b'":1}', b'":1%s}' % (b"0" * 30))).param == name


def test_error_messages_quote_long_values_only_in_part() -> None:
    assert len(refusal(body(**message(role="x" * 10_000))).message) < 300
    assert len(refusal(body(**part({"type": "x" * 10_000}))).message) < 300


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
fields_we_know = st.sampled_from([name for row in (*REFUSED.values(), *ACCEPTED.values()) for name in row[0]])


@a_share(of=5)
@given(st.dictionaries(fields_we_know, json_values, max_size=4))
def test_any_object_is_read_or_refused_without_another_exception(fields: dict[str, object]) -> None:
    with suppress(ApiError):  # and no other exception
        assert read_request(body(**fields)).messages


@given(st.binary(max_size=60))
def test_any_bytes_are_refused_without_another_exception(data: bytes) -> None:
    refusal(data)  # so few random bytes are never a valid request
