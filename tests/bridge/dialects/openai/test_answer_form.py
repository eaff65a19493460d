"""docs/agents.md, "stop, max_tokens, n" and "Structured output": the fields that set the form of an answer."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from bridge.answering.chat import ChatRequest, JsonFormat
from bridge.dialects.answer_form import MAX_STOP_CHARS, MAX_STOPS
from bridge.dialects.fields import read_object
from bridge.dialects.files import FileReader, FileRules
from bridge.dialects.openai.chat import CHAT_COMPLETIONS
from bridge.dialects.tool_reading import MAX_SCHEMA_BYTES
from bridge.errors import ApiError


def read(**fields: object) -> ChatRequest:
    body = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]} | fields)
    return CHAT_COMPLETIONS.read(read_object(body), FileReader(FileRules(1000, 3), {})).chat


TWELVE = [f"stop {number}" for number in range(12)]
STOPS: dict[str, tuple[object, tuple[str, ...], tuple[str, ...]]] = {
    "null": (None, (), ()),
    "a string": ("\n", ("\n",), ()),
    "a string of blanks": ("  ", ("  ",), ()),
    "no strings": ([], (), ()),
    "one string": (["END"], ("END",), ()),
    "four strings": (["a", "b", "c", "d"], ("a", "b", "c", "d"), ()),
    "twelve strings": (TWELVE, tuple(TWELVE), ()),
    "one string twice": (["a", "a"], ("a",), ()),
    "an empty string ends nothing": ("", (), ("stop",)),
    "an empty string among others": (["", "a"], ("a",), ()),
    "nothing but empty strings": (["", ""], (), ("stop",)),
}


@pytest.mark.parametrize(("given", "stops", "ignored"), STOPS.values(), ids=STOPS)
def test_stop(given: object, stops: tuple[str, ...], ignored: tuple[str, ...]) -> None:
    request = read(stop=given)
    assert (request.stops, request.ignored) == (stops, ignored)


LIMITS: dict[str, tuple[object, int | None]] = {
    "null": (None, None),
    "minus one": (-1, None),
    "zero": (0, None),
    "minus one, a float": (-1.0, None),
    "zero, a float": (0.0, None),
    "one": (1, 1),
    "many": (2**40, 2**40),
    "a whole float": (512.0, 512),
}


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize(("given", "limit"), LIMITS.values(), ids=LIMITS)
def test_a_token_limit_is_read_and_nonpositive_values_mean_none(name: str, given: object, limit: int | None) -> None:
    request = read(**{name: given})
    assert (request.max_tokens, request.ignored) == (limit, ())


def test_the_lower_of_two_token_limits_applies() -> None:
    assert read(max_tokens=5, max_completion_tokens=7).max_tokens == 5
    assert read(max_tokens=9, max_completion_tokens=7).max_tokens == 7
    assert read(max_tokens=0, max_completion_tokens=7).max_tokens == 7


@pytest.mark.parametrize(("given", "choices"), [(None, 1), (1, 1), (1.0, 1), (2, 2), (8, 8), (8.0, 8)])
def test_the_number_of_choices_is_read_from_n(given: object, choices: int) -> None:
    assert read(n=given).choices == choices


SCHEMA: dict[str, Any] = {"type": "object", "properties": {"b": {"type": "string"}, "a": {"$ref": "#/$defs/x"}}}
SCHEMA["$defs"] = {"x": {"enum": [1, 2]}}


def schema(**about: object) -> dict[str, object]:
    return {"type": "json_schema", "json_schema": about}


FORMATS: dict[str, tuple[object, JsonFormat | None]] = {
    "null": (None, None),
    "text": ({"type": "text"}, None),
    "an object": ({"type": "json_object"}, JsonFormat()),
    "an object with a schema, as servers for local models take it": (
        {"type": "json_object", "schema": SCHEMA},
        JsonFormat(SCHEMA),
    ),
    "a schema": (schema(name="s", schema=SCHEMA, strict=True), JsonFormat(SCHEMA, "s", strict=True)),
    "a schema, not strict": (schema(name="s", schema=SCHEMA, strict=False), JsonFormat(SCHEMA, "s")),
    "a schema with what it is for": (
        schema(name="s", schema=SCHEMA, description="A list."),
        JsonFormat(SCHEMA, "s", description="A list."),
    ),
    "a schema without a name": (schema(schema=SCHEMA), JsonFormat(SCHEMA)),
    "a name without a schema": (schema(name="s"), JsonFormat(name="s")),
}


@pytest.mark.parametrize(("given", "form"), FORMATS.values(), ids=FORMATS)
def test_response_format_sets_the_json_format(given: object, form: JsonFormat | None) -> None:
    request = read(response_format=given)
    assert (request.json_format, request.ignored) == (form, ())


SCHEMA_PATH = "response_format.json_schema.schema"
REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "stop a number": ({"stop": 1}, "invalid_type", "stop"),
    "stop an object": ({"stop": {}}, "invalid_type", "stop"),
    "a stop a number": ({"stop": ["a", 1]}, "invalid_type", "stop[1]"),
    "too many stops": ({"stop": ["a"] * (MAX_STOPS + 1)}, "invalid_value", "stop"),
    "stops that are too long": ({"stop": "a" * (MAX_STOP_CHARS + 1)}, "invalid_value", "stop"),
    "a limit of -2": ({"max_tokens": -2}, "invalid_value", "max_tokens"),
    "a limit of 1.5": ({"max_completion_tokens": 1.5}, "invalid_type", "max_completion_tokens"),
    "a limit of true": ({"max_tokens": True}, "invalid_type", "max_tokens"),
    "a limit a string": ({"max_tokens": "5"}, "invalid_type", "max_tokens"),
    "a limit of 1e30": ({"max_tokens": 1e30}, "invalid_type", "max_tokens"),
    "no choices": ({"n": 0}, "invalid_value", "n"),
    "nine choices": ({"n": 9}, "invalid_value", "n"),
    "a choice and a half": ({"n": 1.5}, "invalid_type", "n"),
    "a schema without its object": (
        {"response_format": {"type": "json_schema"}},
        "missing_required_parameter",
        "response_format.json_schema",
    ),
    "a schema a string": ({"response_format": schema(schema="{}")}, "invalid_type", SCHEMA_PATH),
    "a schema that is invalid": (
        {"response_format": schema(schema={"type": "word"})},
        "invalid_value",
        f"{SCHEMA_PATH}.type",
    ),
    "a schema that is invalid inside": (
        {"response_format": schema(schema={"properties": {"a": {"items": [{"enum": 1}]}}})},
        "invalid_value",
        f"{SCHEMA_PATH}.properties.a.items",
    ),
    "a schema with a broken pattern": (
        {"response_format": schema(schema={"anyOf": [{}, {"pattern": "("}]})},
        "invalid_value",
        f"{SCHEMA_PATH}.anyOf[1].pattern",
    ),
    "a schema that refers to another server": (
        {"response_format": schema(schema={"$ref": "https://example.org/s.json"})},
        "invalid_value",
        SCHEMA_PATH,
    ),
    "an invalid schema of a json_object": (
        {"response_format": {"type": "json_object", "schema": {"required": "a"}}},
        "invalid_value",
        "response_format.schema.required",
    ),
    "a schema that is too large": (
        {"response_format": schema(schema={"description": "x" * MAX_SCHEMA_BYTES})},
        "invalid_value",
        SCHEMA_PATH,
    ),
    "a name a number": ({"response_format": schema(name=1)}, "invalid_type", "response_format.json_schema.name"),
}


@pytest.mark.parametrize(("fields", "code", "param"), REFUSED.values(), ids=REFUSED)
def test_the_error_for_an_invalid_field_gives_its_path(fields: dict[str, Any], code: str, param: str) -> None:
    with pytest.raises(ApiError) as caught:
        read(**fields)
    assert (caught.value.status, caught.value.code, caught.value.param) == (400, code, param)
    assert len(caught.value.message) < 500
