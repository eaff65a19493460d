"""docs/agents.md, "Showing tools": tools and the choice among them, in both forms, or the 400 that names the field."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from bridge.answering.chat import Tool, Tools
from bridge.dialects.fields import read_object
from bridge.dialects.files import FileReader, FileRules
from bridge.dialects.openai.chat import CHAT_COMPLETIONS, ChatCompletionRequest
from bridge.dialects.tool_reading import MAX_SCHEMA_BYTES, MAX_TOOLS
from bridge.errors import ApiError

CITY: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
INVALID: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "word"}}}


def function(name: str = "look", **about: object) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **about}}


def custom(name: str = "patch", **about: object) -> dict[str, Any]:
    return {"type": "custom", "custom": {"name": name, **about}}


def read(**fields: object) -> ChatCompletionRequest:
    body = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]} | fields)
    return CHAT_COMPLETIONS.read(read_object(body), FileReader(FileRules(1000, 3), {}))


def refusal(**fields: object) -> ApiError:
    with pytest.raises(ApiError) as caught:
        read(**fields)
    assert caught.value.status == 400
    return caught.value


GRAMMAR = {"type": "grammar", "grammar": {"syntax": "lark", "definition": 'start: "a"'}}
TOOLS: dict[str, tuple[dict[str, Any], Tool]] = {
    "a name alone": (function(), Tool("look")),
    "a function": (
        function(description="Looks.", parameters=CITY, strict=True),
        Tool("look", "Looks.", CITY),
    ),
    "nulls": (function(description=None, parameters=None, strict=None), Tool("look")),
    "no parameters": (function(parameters={}), Tool("look", "", {})),
    "without its type": ({"function": {"name": "look"}}, Tool("look")),
    "spelt as in the Responses API": ({"type": "function", "name": "look", "parameters": CITY}, Tool("look", "", CITY)),
    "an invalid schema": (function(parameters=INVALID), Tool("look", "", INVALID, checkable=False)),
    "a name with all that is allowed": (function("a.B-9_"), Tool("a.B-9_")),
    "a name of 64 characters": (function("x" * 64), Tool("x" * 64)),
    "free text": (custom(description="Patches."), Tool("patch", "Patches.", kind="custom")),
    "free text by name": (custom(format={"type": "text"}), Tool("patch", kind="custom")),
    "a grammar": (custom(format=GRAMMAR), Tool("patch", kind="custom", grammar='lark\nstart: "a"')),
    "free text as in the Responses API": (
        {"type": "custom", "name": "patch", "format": {"type": "grammar", "syntax": "regex", "definition": "a+"}},
        Tool("patch", kind="custom", grammar="regex\na+"),
    ),
}


@pytest.mark.parametrize(("given", "tool"), TOOLS.values(), ids=TOOLS)
def test_function_and_custom_tools_are_read(given: dict[str, Any], tool: Tool) -> None:
    request = read(tools=[given])
    assert request.chat.tools == Tools((tool,), frozenset({tool.name}))
    assert not request.older_form


def test_tool_parameters_keep_the_order_of_their_keys() -> None:
    given = {"type": "object", "z": 1, "properties": {"b": {}, "a": {}}, "é": "ü"}
    tools = read(tools=[function(parameters=given)]).chat.tools
    assert tools is not None
    assert orjson.dumps(tools.tools[0].parameters) == orjson.dumps(given)


def test_a_tool_with_an_invalid_schema_is_reported_as_ignored() -> None:
    tools = [function("good", parameters=CITY), function("bad", parameters=INVALID), function("none")]
    assert read(tools=tools, temperature=1).chat.ignored == ("temperature", "tools[1].function.parameters (bad)")


def test_the_functions_field_uses_the_older_form_and_allows_one_call() -> None:
    request = read(functions=[{"name": "look", "description": "Looks.", "parameters": CITY}, {"name": "go"}])
    assert request.chat.tools == Tools(
        (Tool("look", "Looks.", CITY), Tool("go")), frozenset({"look", "go"}), parallel=False
    )
    assert request.older_form


# The choice

TWO = [function("look"), custom("patch")]
BOTH, LOOK = frozenset({"look", "patch"}), frozenset({"look"})
ALL = (Tool("look"), Tool("patch", kind="custom"))
CHOICES: dict[str, tuple[dict[str, Any], Tools | None]] = {
    "none said": ({}, Tools(ALL, BOTH)),
    "null": ({"tool_choice": None}, Tools(ALL, BOTH)),
    "auto": ({"tool_choice": "auto"}, Tools(ALL, BOTH)),
    "none": ({"tool_choice": "none"}, None),
    "required": ({"tool_choice": "required"}, Tools(ALL, BOTH, required=True)),
    "any": ({"tool_choice": "any"}, Tools(ALL, BOTH, required=True)),
    "a function by name": ({"tool_choice": function("look")}, Tools(ALL, LOOK, required=True)),
    "a custom tool by name": ({"tool_choice": custom("patch")}, Tools(ALL, frozenset({"patch"}), required=True)),
    "as in the Responses API": ({"tool_choice": {"type": "function", "name": "look"}}, Tools(ALL, LOOK, required=True)),
    "some allowed": (
        {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [function("look")]}}},
        Tools(ALL, LOOK),
    ),
    "some allowed, one required": (
        {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": TWO}}},
        Tools(ALL, BOTH, required=True),
    ),
    "some allowed, spelt as in the Responses API": (
        {"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "custom", "name": "patch"}]}},
        Tools(ALL, frozenset({"patch"})),
    ),
    "one call at a time": ({"parallel_tool_calls": False}, Tools(ALL, BOTH, parallel=False)),
    "several calls at once": ({"parallel_tool_calls": True}, Tools(ALL, BOTH)),
    "a function call of auto": ({"function_call": "auto"}, Tools(ALL, BOTH)),
}


@pytest.mark.parametrize(("fields", "tools"), CHOICES.values(), ids=CHOICES)
def test_tool_choice_sets_required_parallel_and_allowed_tools(fields: dict[str, Any], tools: Tools | None) -> None:
    request = read(tools=TWO, **fields).chat
    assert (request.tools, request.ignored) == (tools, ())


FUNCTION_CALLS: dict[str, tuple[dict[str, Any], Tools | None]] = {
    "none said": ({}, Tools((Tool("look"),), LOOK, parallel=False)),
    "auto": ({"function_call": "auto"}, Tools((Tool("look"),), LOOK, parallel=False)),
    "none": ({"function_call": "none"}, None),
    "by name": ({"function_call": {"name": "look"}}, Tools((Tool("look"),), LOOK, required=True, parallel=False)),
    "a tool choice": ({"tool_choice": "required"}, Tools((Tool("look"),), LOOK, required=True, parallel=False)),
    "parallel": ({"parallel_tool_calls": True}, Tools((Tool("look"),), LOOK, parallel=False)),
}


@pytest.mark.parametrize(("fields", "tools"), FUNCTION_CALLS.values(), ids=FUNCTION_CALLS)
def test_the_function_call_field_chooses_among_functions(fields: dict[str, Any], tools: Tools | None) -> None:
    assert read(functions=[{"name": "look"}], **fields).chat.tools == tools


def test_tool_choices_auto_and_none_are_accepted_without_tools() -> None:
    choices: list[dict[str, Any]] = [{"tool_choice": "auto"}, {"tool_choice": "none"}, {"function_call": "none"}]
    for fields in [*choices, {"tools": []}]:
        assert read(**fields).chat.tools is None


# What is refused


def tools(*given: object) -> dict[str, Any]:
    return {"tools": list(given)}


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "tools an object": ({"tools": function()}, "invalid_type", "tools"),
    "a tool a string": (tools("look"), "invalid_type", "tools[0]"),
    "a tool without a function": (tools({"type": "function"}), "missing_required_parameter", "tools[0].function"),
    "an empty tool": (tools({}), "missing_required_parameter", "tools[0].function"),
    "a function without a name": (
        tools({"type": "function", "function": {}}),
        "missing_required_parameter",
        "tools[0].function.name",
    ),
    "a name with a blank": (tools(function("a b")), "invalid_value", "tools[0].function.name"),
    "a name with a line break": (tools(function("a\n")), "invalid_value", "tools[0].function.name"),
    "a name in Greek": (tools(function(), function("λ")), "invalid_value", "tools[1].function.name"),
    "an empty name": (tools(function("")), "invalid_value", "tools[0].function.name"),
    "a name of 65 characters": (tools(function("x" * 65)), "invalid_value", "tools[0].function.name"),
    "a name twice": (tools(function(), custom("look")), "invalid_value", "tools[1].custom.name"),
    "a description a list": (tools(function(description=[])), "invalid_type", "tools[0].function.description"),
    "parameters a string": (tools(function(parameters="{}")), "invalid_type", "tools[0].function.parameters"),
    "strict a string": (tools(function(strict="yes")), "invalid_type", "tools[0].function.strict"),
    "a tool of another kind": (tools({"type": "web_search"}), "unsupported_parameter", "tools[0].type"),
    "a grammar without rules": (
        tools(custom(format={"type": "grammar", "grammar": {"syntax": "lark"}})),
        "missing_required_parameter",
        "tools[0].custom.format.grammar.definition",
    ),
    "a function without a name, older form": (
        {"functions": [{"description": "x"}]},
        "missing_required_parameter",
        "functions[0].name",
    ),
    "a bad name, older form": ({"functions": [{"name": "a b"}]}, "invalid_value", "functions[0].name"),
    "both forms": (tools(function()) | {"functions": [{"name": "f"}]}, "invalid_value", "functions"),
    "too many": (tools(*[function(f"f{at}") for at in range(MAX_TOOLS + 1)]), "invalid_value", "tools"),
    "a schema that is too large": (
        tools(function(parameters={"description": "x" * MAX_SCHEMA_BYTES})),
        "invalid_value",
        "tools[0].function.parameters",
    ),
    "schemas that are too large together": (
        tools(*[function(f"f{at}", parameters={"description": "x" * (MAX_SCHEMA_BYTES // 2)}) for at in range(2)]),
        "invalid_value",
        "tools[1].function.parameters",
    ),
    "required without tools": ({"tool_choice": "required"}, "invalid_value", "tool_choice"),
    "a name without tools": ({"tool_choice": function()}, "invalid_value", "tool_choice.function.name"),
    "a choice of a tool that is not given": (
        tools(function()) | {"tool_choice": function("go")},
        "invalid_value",
        "tool_choice.function.name",
    ),
    "a choice in another case": (
        tools(function()) | {"tool_choice": function("Look")},
        "invalid_value",
        "tool_choice.function.name",
    ),
    "a choice nobody knows": (tools(function()) | {"tool_choice": "perhaps"}, "invalid_value", "tool_choice"),
    "a choice of a kind nobody knows": (
        tools(function()) | {"tool_choice": {"type": "mcp"}},
        "invalid_value",
        "tool_choice.type",
    ),
    "a choice without a name": (
        tools(function()) | {"tool_choice": {"type": "function", "function": {}}},
        "missing_required_parameter",
        "tool_choice.function.name",
    ),
    "a choice a number": (tools(function()) | {"tool_choice": 1}, "invalid_type", "tool_choice"),
    "allowed tools without tools": (
        tools(function()) | {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto"}}},
        "missing_required_parameter",
        "tool_choice.allowed_tools.tools",
    ),
    "an allowed tool that is not given": (
        tools(function())
        | {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [function("go")]}}},
        "invalid_value",
        "tool_choice.allowed_tools.tools[0].function.name",
    ),
    "allowed tools in a mode nobody knows": (
        tools(function())
        | {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "any", "tools": [function()]}}},
        "invalid_value",
        "tool_choice.allowed_tools.mode",
    ),
    "a function call of a function that is not given": (
        {"functions": [{"name": "f"}], "function_call": {"name": "g"}},
        "invalid_value",
        "function_call.name",
    ),
    "a function call nobody knows": (
        {"functions": [{"name": "f"}], "function_call": "required"},
        "invalid_value",
        "function_call",
    ),
    "parallel_tool_calls a string": (
        tools(function()) | {"parallel_tool_calls": "no"},
        "invalid_type",
        "parallel_tool_calls",
    ),
}


@pytest.mark.parametrize(("fields", "code", "param"), REFUSED.values(), ids=REFUSED)
def test_the_error_for_an_invalid_tool_field_gives_its_path(fields: dict[str, Any], code: str, param: str) -> None:
    error = refusal(**fields)
    assert (error.code, error.param) == (code, param)
    assert len(error.message) < 300


def test_the_maximum_number_and_size_of_tools_is_accepted() -> None:
    schemas = [function(f"f{at}", parameters={"description": "x" * 2000}) for at in range(MAX_TOOLS)]
    given = read(tools=schemas).chat.tools
    assert given is not None
    assert len(given.tools) == MAX_TOOLS
