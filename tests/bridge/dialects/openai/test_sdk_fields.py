"""Every field of the openai SDK's request and message types is honoured, named as ignored, or refused by name.

The tests walk the SDK's types: for each field, a request with it is compared with one without it, or with one that has
another value if the field is required. A field that a new SDK adds fails here until the bridge reads it.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple, Required, Union, get_args, get_origin

import orjson
import pytest
from openai.types.chat import completion_create_params
from pictures import data_url, png
from typing_extensions import get_type_hints, is_typeddict

from bridge.answering.conversations import Conversations
from bridge.answering.messages import files_of, join_answers
from bridge.answering.schemas import path_of
from bridge.answering.tools.instructions import instructions
from bridge.answering.transcript import prompt
from bridge.dialects.fields import read_object
from bridge.dialects.files import FileReader, FileRules
from bridge.dialects.openai.chat import CHAT_COMPLETIONS, ChatCompletionRequest
from bridge.errors import ApiError

REQUEST = completion_create_params.CompletionCreateParamsBase


class Step(NamedTuple):
    """A field of a type, its path, requests with it, and one without it or with another value."""

    kind: str
    name: str
    path: str
    requests: list[dict[str, Any]]
    otherwise: dict[str, Any]


#: The fields of the request in which a type's field is tried; without them it would be refused.
BASE: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
#: Valid values of fields whose type does not tell which values are valid.
VALUES: dict[str, tuple[Any, Any]] = {
    "url": (data_url(png(1)), data_url(png(2))),
    "file_data": (data_url(png(1)), data_url(png(2))),
    "tool_call_id": ("call_1", "call_2"),
    "name": ("name_1", "name_2"),
    "parameters": ({"type": "object"}, {}),
    "schema": ({"type": "object"}, {}),
    "arguments": ('{"a":1}', '{"a":2}'),
}
#: Fields that objects need beyond those that the SDK's types require.
NEEDED: dict[str, dict[str, Any]] = {
    "FileFile": {"file_data": VALUES["file_data"][0]},
    "ChatCompletionAllowedToolsParam": {"tools": [{"type": "function", "function": {"name": "name_1"}}]},
}
#: Fields that only name the type of an object: another value means another type.
TAGS = {"type", "role", "syntax"}
#: Fields that change nothing, and why that is no loss.
EXCEPTIONS = {
    ("FunctionDefinition", "strict"): "arguments are checked against the schema with it and without it",
    ("PromptCacheBreakpoint", "ttl"): "part of a `prompt_cache_breakpoint`, which is named",
    ("FilePromptCacheBreakpoint", "ttl"): "part of a `prompt_cache_breakpoint`, which is named",
}


def values(hint: Any, name: str = "") -> Iterator[Any]:
    """Yield different values of a type; for a union, those of each of its members."""
    if name in VALUES and not (is_typeddict(hint) or get_origin(hint) in (Union, types.UnionType)):
        yield from VALUES[name]
        return
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        for member in arguments:
            if member is not type(None):
                yield from values(member, name)
    elif origin is Literal:
        yield from arguments
    elif is_typeddict(hint):
        yield from objects(hint)
    elif hint in (str, int, float, bool, object):
        yield from {str: ("a", "b"), int: (1, 2), float: (0.25, 0.75), bool: (True, False), object: ({}, "a")}[hint]
    elif origin is not None and issubclass(origin, Mapping):
        yield {"a": next(values(arguments[1]))}
    elif origin is not None:  # a list of some kind
        for value in values(arguments[0], name):
            yield [value]
    else:
        raise AssertionError(f"no value of {hint!r} is known here")


def required_keys(kind: Any) -> list[str]:
    """Return the required fields: the SDK's annotations are strings, so the type itself does not know them."""
    origins: dict[str, Any] = {
        name: get_origin(hint) for name, hint in get_type_hints(kind, include_extras=True).items()
    }
    return sorted(name for name, origin in origins.items() if origin is Required)


def objects(kind: Any) -> Iterator[dict[str, Any]]:
    """Yield an object with only the required fields, and a second one if one of these can have another value."""
    hints = get_type_hints(kind)
    required = {name: list(values(hints[name], name)) for name in required_keys(kind)}
    least = {name: found[0] for name, found in required.items()} | NEEDED.get(kind.__name__, {})
    yield least
    for name, found in required.items():
        if name not in TAGS and len(found) > 1:
            yield least | {name: found[1]}
            return


def steps(kind: Any, place: tuple[str | int, ...] = (), base: dict[str, Any] = BASE) -> Iterator[Step]:
    """Yield each field of a type and of the types within it; `place` is the path to such an object in `base`."""
    hints = get_type_hints(kind)
    here: Any = base
    for key in place:
        here = here[key]
    for name, hint in sorted(hints.items()):
        found = [value for value in values(hint, name) if value != {}]  # an empty object says nothing
        others = [value for value in found if value != here.get(name)]
        if name not in TAGS and others:  # a field with only one possible value is a tag
            requests = [put(base, place, here | {name: value}) for value in others]
            without = base
            if name not in here:
                without = put(base, place, {key: value for key, value in here.items() if key != name})
            yield Step(kind.__name__, name, path_of((*place, name)), requests, without)
        for inner, shape in inside(hint):
            for least in objects(inner):
                value = [least] if shape is list else least
                tail = (name, 0) if shape is list else (name,)
                yield from steps(inner, (*place, *tail), put(base, place, here | {name: value}))
                break


def inside(hint: Any) -> Iterator[tuple[Any, type]]:
    """Yield the object types that a field can hold, each with `dict`, or with `list` if it is held in a list."""
    origin, arguments = get_origin(hint), get_args(hint)
    if is_typeddict(hint):
        yield hint, dict
    elif origin in (Union, types.UnionType):
        for member in arguments:
            yield from inside(member)
    elif origin is not None and origin is not Literal and not issubclass(origin, Mapping):
        for inner, _ in inside(arguments[0]):
            yield inner, list


def put(base: dict[str, Any], place: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    """Return a copy of a request with another value at a place."""
    copy: Any = orjson.loads(orjson.dumps({"": base}))
    at = copy
    keys = ("", *place)
    for key in keys[:-1]:
        at = at[key]
    at[keys[-1]] = value
    return dict(copy[""])


def completed(request: dict[str, Any]) -> dict[str, Any]:
    """Return the request with the tools or functions that its other fields refer to."""
    request = dict(request)
    if ("tool_choice" in request or "parallel_tool_calls" in request) and not request.get("tools"):
        tools = [{"type": "function", "function": {"name": name}} for name in ("name_1", "name_2", "a", "b")]
        request["tools"] = tools
    if "function_call" in request and not request.get("functions"):
        request["functions"] = [{"name": name} for name in ("name_1", "name_2")]
    return request


def read(request: dict[str, Any]) -> ChatCompletionRequest:
    body = orjson.dumps(completed(request))
    return CHAT_COMPLETIONS.read(read_object(body), FileReader(FileRules(10_000, 10), {}))


STEPS = {f"{number} {step.kind}.{step.name}": step for number, step in enumerate(steps(REQUEST))}


def test_the_walk_of_the_sdk_types_reaches_nested_fields() -> None:
    names = {(step.kind, step.name) for step in STEPS.values()}
    assert {
        ("ChatCompletionAssistantMessageParam", "refusal"),
        ("ChatCompletionContentPartRefusalParam", "refusal"),
        ("ChatCompletionFunctionMessageParam", "name"),
        ("ImageURL", "detail"),
        ("FunctionDefinition", "parameters"),
        ("JSONSchema", "schema"),
    } <= names
    assert len(names) > 80


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_every_sdk_field_changes_the_request_or_is_reported(step: Step) -> None:
    otherwise = outcome(step.otherwise)
    assert (step.kind, step.name) in EXCEPTIONS or any(
        is_noticed(step.path, outcome(request), otherwise) for request in step.requests
    ), f"{step.path} changes nothing and is not named"


def is_noticed(path: str, found: ChatCompletionRequest | ApiError, otherwise: ChatCompletionRequest | ApiError) -> bool:
    """Whether a field is refused or listed as ignored under its own name or its object's, or changes the request."""
    if isinstance(found, ApiError):
        param = (found.param or "?").removesuffix(".type")
        return path.startswith(param) or param.startswith(path)
    return found != otherwise or any(path.startswith(name) for name in found.chat.ignored)


MESSAGE_STEPS = {name: step for name, step in STEPS.items() if step.path.startswith("messages[0].")}


@pytest.mark.parametrize("step", MESSAGE_STEPS.values(), ids=MESSAGE_STEPS)
def test_a_message_is_shown_differently_exactly_if_it_counts_as_a_different_message(step: Step) -> None:
    """So histories with different prompts never share an evaluation, and a prompt shows only what counts."""
    otherwise = outcome(step.otherwise)
    for found in map(outcome, step.requests):
        if not (isinstance(found, ApiError) or isinstance(otherwise, ApiError)):
            assert (shown(found) == shown(otherwise)) == (counted(found) == counted(otherwise))


def shown(request: ChatCompletionRequest) -> tuple[str, list[str]]:
    """Return what a model is sent: a prompt, and the digests of files."""
    messages = join_answers(request.chat.messages)
    told = instructions(request.chat.tools, request.chat.json_format)
    return prompt(messages, told), [file.digest for file in files_of(messages)]


def counted(request: ChatCompletionRequest) -> tuple[str, str]:
    """Return the digests by which a conversation is recognised."""
    messages = join_answers(request.chat.messages)
    told = instructions(request.chat.tools, request.chat.json_format)
    turn = Conversations().take("key", "model", messages, lambda _: True, told)
    return turn.asked, turn.instructions


def outcome(request: dict[str, Any]) -> ChatCompletionRequest | ApiError:
    try:
        return read(request)
    except ApiError as error:
        return error
