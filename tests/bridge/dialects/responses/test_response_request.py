"""Fields of a request of the Responses API: what each does, which come back, and which are refused by name."""

from __future__ import annotations

import re
from typing import Any, Final

import orjson
import pytest
from openresponses import check_object
from pictures import data_url, png
from response_events import check_sdk_response
from response_requests import OWNER, read, refused

from bridge.answering.chat import JsonFormat, Usage
from bridge.answering.messages import Message
from bridge.dialects.data_urls import read_without_data_urls
from bridge.dialects.dialect import Stamp
from bridge.dialects.files import FileReader, FileRules
from bridge.dialects.responses.answer import ResponseCollector
from bridge.dialects.responses.output import ResponseHead
from bridge.dialects.responses.request import ResponsesFields, read_request
from bridge.dialects.responses.stored import Stored, StoredResponses
from upstream.protocol.files import File

SCHEMA: Final = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
FORMAT: Final = {"type": "json_schema", "name": "thing", "schema": SCHEMA}
FIRST: Final = "resp_" + "0" * 32


def response_of(asked: ResponsesFields) -> dict[str, Any]:
    """Return the whole response to a request."""
    kept: list[bytes] = []
    head = ResponseHead(Stamp("ab" * 16, 1, 2), asked.echo_json, asked.names, kept.append, lambda: 2.0)
    found: dict[str, Any] = orjson.loads(ResponseCollector(head).finish("stop", Usage(1, 1, 0)))
    return found


def test_a_response_contains_every_documented_field() -> None:
    assert response_of(read({})) == {
        "id": "resp_" + "ab" * 16,
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "completed_at": 2,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "model": "gemini",
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": None,
        "service_tier": "default",
        "store": True,
        "background": False,
        "temperature": 1,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": 1,
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "truncation": "disabled",
        "metadata": {},
        "usage": {
            "input_tokens": 1,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 1,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 2,
        },
    }


ECHOED: Final[dict[str, dict[str, Any]]] = {
    "numbers": {
        "temperature": 0.2,
        "top_p": 0.5,
        "presence_penalty": 1,
        "frequency_penalty": -1,
        "top_logprobs": 0,
        "max_tool_calls": 3,
        "max_output_tokens": 100,
    },
    "words": {
        "instructions": "Be brief.",
        "service_tier": "flex",
        "safety_identifier": "u",
        "prompt_cache_key": "k",
        "truncation": "auto",
        "tool_choice": "none",
    },
    "flags": {"store": False, "parallel_tool_calls": False, "background": False},
    "metadata": {"metadata": {"a": "b"}},
    "reasoning": {"reasoning": {"effort": "high", "summary": "auto"}},
    "a format": {
        "text": {
            "format": {**FORMAT, "description": None, "strict": True},
            "verbosity": "low",
        }
    },
    "any JSON": {"text": {"format": {"type": "json_object"}}},
    "tools": {
        "tools": [
            {"type": "function", "name": "f", "description": "F", "parameters": SCHEMA, "strict": True},
            {"type": "custom", "name": "c", "format": {"type": "text"}},
            {"type": "web_search"},
            {"type": "namespace", "name": "n", "description": "N", "tools": [{"type": "function", "name": "g"}]},
        ]
    },
    "a choice": {"tools": [{"type": "custom", "name": "c"}], "tool_choice": {"type": "custom", "name": "c"}},
}


@pytest.mark.parametrize("given", ECHOED.values(), ids=ECHOED)
def test_a_response_echoes_the_fields_of_its_request(given: dict[str, Any]) -> None:
    response = response_of(read(given))
    assert {name: response[name] for name in given} == given
    check_sdk_response(response)


@pytest.mark.parametrize("given", ECHOED.values(), ids=ECHOED)
def test_the_echoed_fields_match_the_specification(given: dict[str, Any]) -> None:
    check_object("ResponseResource", response_of(read(given)))


def test_echoed_tools_choices_and_formats_have_all_their_fields() -> None:
    function = {"type": "function", "name": "f"}
    choice = {"type": "allowed_tools", "tools": [function]}
    response = response_of(read({"tools": [function], "tool_choice": choice, "text": {"format": FORMAT}}))
    assert response["tools"] == [{**function, "description": None, "parameters": None, "strict": None}]
    assert response["tool_choice"] == {**choice, "mode": "auto"}
    assert response["text"] == {"format": {**FORMAT, "description": None, "strict": False}}
    check_sdk_response(response)


def test_instructions_become_the_first_message() -> None:
    messages = read({"instructions": "Be brief."}).chat.messages
    assert messages == (Message("system", "Be brief."), Message("user", "hi"))


def test_stream_limit_truncation_and_format_are_read() -> None:
    chat = read({"stream": True, "max_output_tokens": 5, "truncation": "auto", "text": {"format": FORMAT}}).chat
    assert (chat.stream, chat.max_tokens, chat.truncate) == (True, 5, True)
    assert chat.json_format == JsonFormat(SCHEMA, "thing")
    assert read({"text": {"format": {"type": "json_object"}}}).chat.json_format == JsonFormat()
    plain = read({"text": {"format": {"type": "text"}}, "max_output_tokens": None}).chat
    assert (plain.stream, plain.max_tokens, plain.truncate, plain.json_format) == (False, None, False, None)


def test_fields_without_effect_are_reported_as_ignored() -> None:
    given = {
        "temperature": 0,
        "top_p": 1,
        "service_tier": "auto",
        "user": "u",
        "reasoning": {"effort": "low"},
        "include": ["reasoning.encrypted_content"],
        "text": {"verbosity": "low"},
        "metadata": {"a": "b"},
        "store": True,
        "stream_options": {"include_obfuscation": False},
        "client_metadata": {"unknown": 1},
    }
    assert read(given).chat.ignored == (
        "temperature",
        "top_p",
        "service_tier",
        "user",
        "reasoning",
        "include",
        "text.verbosity",
    )


_UNSUPPORTED: Final = "unsupported_parameter"
_TYPE: Final = "invalid_type"
_VALUE: Final = "invalid_value"
_MISSING: Final = "missing_required_parameter"
REFUSED: Final[dict[str, tuple[dict[str, Any], str, str | None]]] = {
    "no model": ({"model": None}, _MISSING, "model"),
    "the background": ({"background": True}, _UNSUPPORTED, "background"),
    "logprobs": ({"top_logprobs": 2}, _UNSUPPORTED, "top_logprobs"),
    "a conversation": ({"conversation": "conv_1"}, _UNSUPPORTED, "conversation"),
    "a prompt's template": ({"prompt": {"id": "pmpt_1"}}, _UNSUPPORTED, "prompt"),
    "an unknown truncation": ({"truncation": "middle"}, _VALUE, "truncation"),
    "a temperature in words": ({"temperature": "hot"}, _TYPE, "temperature"),
    "a limit in words": ({"max_output_tokens": "5"}, _TYPE, "max_output_tokens"),
    "metadata of a number": ({"metadata": {"a": 1}}, _TYPE, "metadata.a"),
    "metadata of nothing": ({"metadata": {"a": None}}, _TYPE, "metadata.a"),
    "an effort that is a number": ({"reasoning": {"effort": 1}}, _TYPE, "reasoning.effort"),
    "a stream in words": ({"stream": "yes"}, _TYPE, "stream"),
    "store in words": ({"store": "no"}, _TYPE, "store"),
    "no format's type": ({"text": {"format": {}}}, _MISSING, "text.format.type"),
    "an unknown format": ({"text": {"format": {"type": "xml"}}}, _VALUE, "text.format.type"),
    "no schema": ({"text": {"format": {"type": "json_schema", "name": "a"}}}, _MISSING, "text.format.schema"),
    "no schema's name": ({"text": {"format": {**FORMAT, "name": None}}}, _MISSING, "text.format.name"),
    "an invalid schema": (
        {"text": {"format": {**FORMAT, "schema": {"type": 1}}}},
        _VALUE,
        "text.format.schema.type",
    ),
    "an unknown response": ({"previous_response_id": FIRST}, "previous_response_not_found", "previous_response_id"),
    "a response's id that is a number": ({"previous_response_id": 1}, _TYPE, "previous_response_id"),
}


@pytest.mark.parametrize(("given", "code", "param"), REFUSED.values(), ids=REFUSED)
def test_the_error_for_an_invalid_field_names_it(given: dict[str, Any], code: str, param: str | None) -> None:
    assert refused(given) == (code, param)


def test_input_nested_too_deeply_to_be_encoded_again_is_refused() -> None:
    deep: Any = []
    for _ in range(300):
        deep = [deep]
    assert refused({"input": [{"role": "user", "content": "hi", "unknown": deep}]}) == (_VALUE, None)
    assert refused({"tools": [{"type": "web_search", "unknown": deep}]}) == (_VALUE, None)


def stored_first(**more: Any) -> StoredResponses:
    """Return a store with one response, which answers `hi`."""
    stored = StoredResponses()
    output = [
        {
            "type": "message",
            "id": "msg_" + "0" * 36,
            "role": "assistant",
            "content": [{"type": "output_text", "text": "hello"}],
        }
    ]
    given = [{"type": "message", "role": "user", "content": "hi", **more}]
    stored.put(FIRST, Stored(OWNER, None, orjson.dumps(given), orjson.dumps({"output": output})))
    return stored


def test_a_stored_response_is_continued_with_new_input() -> None:
    asked = read({"previous_response_id": FIRST, "input": "go on", "instructions": "Be brief."}, stored_first())
    assert asked.chat.messages == (
        Message("system", "Be brief."),
        Message("user", "hi"),
        Message("assistant", "hello"),
        Message("user", "go on"),
    )
    assert asked.stored_input is not None
    assert orjson.loads(asked.stored_input) == [{"type": "message", "role": "user", "content": "go on"}]
    assert (asked.previous, asked.echo["previous_response_id"]) == (FIRST, FIRST)


def test_a_stored_response_is_continued_with_empty_input() -> None:
    asked = read({"previous_response_id": FIRST, "input": []}, stored_first())
    assert asked.chat.messages[-1] == Message("assistant", "hello")


def test_errors_distinguish_a_requests_own_items_from_continued_ones() -> None:
    given = {"previous_response_id": FIRST, "input": [{"type": "shell_call"}]}
    assert refused(given, stored_first())[1] == "input[0].type"
    given = {"previous_response_id": FIRST, "input": "go on"}
    assert refused(given, stored_first(content=1))[1] == "previous_response_id.content"


@pytest.mark.parametrize("kind", [{"type": "item_reference"}, {"type": None}, {}])
def test_item_references_are_replaced_and_stored_as_the_items_themselves(kind: dict[str, Any]) -> None:
    stored = stored_first(id="mine")
    reference = {**kind, "id": "msg_" + "0" * 36}
    asked = read({"input": [reference, {"role": "user", "content": "and?"}]}, stored)
    assert asked.chat.messages == (Message("assistant", "hello"), Message("user", "and?"))
    assert orjson.loads(asked.stored_input or b"")[0]["type"] == "message"


def test_a_stored_input_item_can_be_referenced() -> None:
    asked = read({"input": [{"type": "item_reference", "id": "item_" + "0" * 36}]}, stored_first())
    assert asked.chat.messages == (Message("user", "hi"),)


PICTURE: Final = png(size=100_000)


def read_large(parts: list[dict[str, Any]], **more: Any) -> ResponsesFields:
    """Read a request after long files have been extracted from its body."""
    body = orjson.dumps({"model": "m", "input": [{"role": "user", "content": parts}], **more})
    fields, taken = read_without_data_urls(body, "mark", longest_prompt=1000)
    assert taken
    assert re.search(b"mark0", orjson.dumps(fields.values))
    return read_request(fields, FileReader(FileRules(1_000_000, 9), {}, taken), OWNER, StoredResponses())


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_image", "image_url": data_url(PICTURE)},
        {"type": "input_image", "image_url": {"url": data_url(PICTURE)}},
        {"type": "input_file", "file_data": data_url(PICTURE)},
        {"type": "input_file", "filename": "a.txt", "file_data": data_url(b"one " * 30_000, "text/plain")},
    ],
    ids=["a picture", "in chat's spelling", "as a file", "a text"],
)
def test_files_of_a_large_request_are_stored_with_it(part: dict[str, Any]) -> None:
    asked = read_large([part])
    kept = orjson.loads(asked.stored_input or b"")
    assert kept == [{"role": "user", "content": [part]}]
    again = read({"input": kept})
    assert again.chat.messages == asked.chat.messages


def test_a_large_text_file_is_read_as_text() -> None:
    data = data_url(b"one " * 30_000, "text/plain")
    asked = read_large([{"type": "input_file", "file_data": data}], store=False)
    assert asked.chat.messages == (Message("user", "one " * 30_000),)
    assert asked.stored_input is None


def test_a_picture_in_a_large_request_is_read() -> None:
    asked = read_large([{"type": "input_image", "image_url": data_url(PICTURE)}])
    assert asked.chat.messages == (Message("user", "", files=(File.from_bytes(PICTURE),)),)
