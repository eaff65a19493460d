"""Tools of the Responses API: on their own, in namespaces and among the items; which are left out; and choices."""

from __future__ import annotations

from typing import Any, Final

import pytest
from response_requests import read, refused

from bridge.answering.chat import Tool, Tools
from bridge.answering.messages import ToolCall

SCHEMA: Final = {"type": "object", "properties": {"q": {"type": "string"}}}


def function(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "function", "name": name, **more}


def custom(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "custom", "name": name, **more}


def namespace(name: str, *tools: dict[str, Any]) -> dict[str, Any]:
    return {"type": "namespace", "name": name, "description": "about", "tools": list(tools)}


def tools_of(*tools: dict[str, Any], **more: Any) -> Tools:
    found = read({"tools": list(tools), **more}).chat.tools
    assert found is not None
    return found


def names_of(*tools: dict[str, Any], **more: Any) -> list[str]:
    return [tool.name for tool in tools_of(*tools, **more).tools]


def test_function_and_custom_tools_are_shown_to_the_model() -> None:
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: x"}
    tools = tools_of(
        function("find", description="Finds.", parameters=SCHEMA, strict=True),
        function("now"),
        custom("patch", description="Patches.", format=grammar),
        custom("note", format={"type": "text"}),
    )
    assert tools == Tools(
        (
            Tool("find", "Finds.", SCHEMA),
            Tool("now"),
            Tool("patch", "Patches.", kind="custom", grammar="lark\nstart: x"),
            Tool("note", kind="custom"),
        ),
        frozenset({"find", "now", "patch", "note"}),
    )


def test_tools_in_a_namespace_are_shown_without_it_if_their_names_are_unique() -> None:
    tools = [namespace("crm", function("find"), custom("note")), function("now")]
    assert names_of(*tools) == ["find", "note", "now"]
    names = read({"tools": tools}).names
    assert (names.of_call("find"), names.of_call("now")) == (("find", "crm"), ("now", None))


def test_tools_of_the_same_name_are_shown_with_their_namespaces() -> None:
    tools = [namespace("crm", function("find")), namespace("shop", function("find")), function("find")]
    assert names_of(*tools) == ["crm.find", "shop.find", "find"]
    names = read({"tools": tools}).names
    given = [("find", "crm"), ("find", "shop"), ("find", None)]
    assert [names.of_call(name) for name in ("crm.find", "shop.find", "find")] == given
    assert [names.shown(*each) for each in given] == ["crm.find", "shop.find", "find"]


def test_tools_among_the_input_items_are_shown_and_later_ones_replace_earlier_ones() -> None:
    items = [
        {"type": "additional_tools", "role": "developer", "tools": [function("find"), custom("patch")]},
        {"role": "user", "content": "hi"},
        {"type": "additional_tools", "role": "developer", "tools": [function("find", description="newer")]},
    ]
    read_ = read({"input": items})
    assert read_.chat.tools is not None
    assert [(tool.name, tool.description) for tool in read_.chat.tools.tools] == [("find", "newer"), ("patch", "")]
    assert read_.echo["tools"] == []


def test_calls_in_the_history_carry_the_names_shown_to_the_model() -> None:
    tools = [namespace("crm", function("find")), namespace("shop", function("find"))]
    called = {"type": "function_call", "call_id": "1", "name": "find", "namespace": "shop", "arguments": "{}"}
    (message,) = read({"input": [called], "tools": tools}).chat.messages
    assert message.tool_calls == (ToolCall("1", "shop.find", "{}"),)


LEFT_OUT: Final = [
    {"type": kind}
    for kind in ("web_search", "web_search_preview_2025_03_11", "tool_search", "image_generation", "mcp", "shell")
]


def test_tools_that_only_the_vendor_could_run_are_left_out_reported_and_echoed() -> None:
    read_ = read({"tools": [*LEFT_OUT, function("now"), namespace("x", {"type": "file_search"}), LEFT_OUT[0]]})
    assert read_.chat.tools is not None
    assert [tool.name for tool in read_.chat.tools.tools] == ["now"]
    assert read_.chat.ignored == (*(f"tools.{tool['type']}" for tool in LEFT_OUT), "tools.file_search")
    assert read_.echo["tools"][: len(LEFT_OUT)] == LEFT_OUT  # type: ignore[index]  # a list


def test_a_request_without_a_showable_tool_has_no_tools() -> None:
    assert read({"tools": LEFT_OUT}).chat.tools is None
    assert read({"tools": []}).chat.tools is None
    assert read({"tools": [function("now")], "tool_choice": "none"}).chat.tools is None


def test_an_invalid_tool_schema_is_reported_as_ignored() -> None:
    chat = read({"tools": [function("now", parameters={"type": 7})]}).chat
    assert chat.ignored == ("tools[0].parameters (now)",)


CHOICES: Final[dict[str, tuple[Any, bool, set[str]]]] = {
    "auto": ("auto", False, {"a", "b", "p"}),
    "null": (None, False, {"a", "b", "p"}),
    "required": ("required", True, {"a", "b", "p"}),
    "a function": ({"type": "function", "name": "a"}, True, {"a"}),
    "a function of a namespace": ({"type": "function", "name": "b", "namespace": "n"}, True, {"b"}),
    "a custom tool": ({"type": "custom", "name": "p"}, True, {"p"}),
    "some": (
        {
            "type": "allowed_tools",
            "mode": "auto",
            "tools": [{"type": "function", "name": "a"}, {"type": "custom", "name": "p"}, {"type": "web_search"}],
        },
        False,
        {"a", "p"},
    ),
    "some, without a mode": ({"type": "allowed_tools", "tools": [{"type": "function", "name": "a"}]}, False, {"a"}),
    "one of some": (
        {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "a"}]},
        True,
        {"a"},
    ),
}
GIVEN: Final = [function("a"), namespace("n", function("b")), custom("p"), {"type": "web_search"}]


@pytest.mark.parametrize(("choice", "required", "allowed"), CHOICES.values(), ids=CHOICES)
def test_tool_choice_sets_required_and_allowed_tools(choice: Any, required: bool, allowed: set[str]) -> None:
    tools = tools_of(*GIVEN, tool_choice=choice)
    assert tools.required == required
    assert set(tools.allowed) == allowed
    assert len(tools.tools) == 3


def test_allowing_only_vendor_tools_hides_all_tools() -> None:
    choice = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "web_search"}]}
    assert read({"tools": GIVEN, "tool_choice": choice}).chat.tools is None


def test_parallel_tool_calls_false_allows_one_call_at_a_time() -> None:
    assert tools_of(*GIVEN).parallel
    assert not tools_of(*GIVEN, parallel_tool_calls=False).parallel


_VALUE: Final = "invalid_value"
_MISSING: Final = "missing_required_parameter"
REFUSED: Final[dict[str, tuple[dict[str, Any], str, str]]] = {
    "no type": ({"tools": [{"name": "a"}]}, _MISSING, "tools[0].type"),
    "no name": ({"tools": [{"type": "function"}]}, _MISSING, "tools[0].name"),
    "a bad name": ({"tools": [function("get weather")]}, _VALUE, "tools[0].name"),
    "no name in a namespace": (
        {"tools": [namespace("n", {"type": "custom"})]},
        _MISSING,
        "tools[0].tools[0].name",
    ),
    "a namespace without a name": ({"tools": [namespace("", function("a"))]}, _MISSING, "tools[0].name"),
    "parameters of no object": ({"tools": [function("a", parameters=[])]}, "invalid_type", "tools[0].parameters"),
    "tools of an item": (
        {"input": [{"type": "additional_tools", "tools": [{"type": "function"}]}]},
        _MISSING,
        "input[0].tools[0].name",
    ),
    "a grammar without rules": (
        {"tools": [custom("p", format={"type": "grammar", "syntax": "lark"})]},
        _MISSING,
        "tools[0].format.definition",
    ),
    "an unknown mode": ({"tools": GIVEN, "tool_choice": "any"}, _VALUE, "tool_choice"),
    "a demand for the vendor's": ({"tools": GIVEN, "tool_choice": {"type": "web_search"}}, _VALUE, "tool_choice"),
    "a demand without tools": ({"tool_choice": "required"}, _VALUE, "tool_choice"),
    "a demand for the vendor's alone": ({"tools": LEFT_OUT, "tool_choice": "required"}, _VALUE, "tool_choice"),
    "a demand for one of the vendor's": (
        {
            "tools": GIVEN,
            "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [{"type": "web_search"}]},
        },
        _VALUE,
        "tool_choice",
    ),
    "an unknown tool": ({"tools": GIVEN, "tool_choice": function("zzz")}, _VALUE, "tool_choice.name"),
    "an unknown tool allowed": (
        {"tools": GIVEN, "tool_choice": {"type": "allowed_tools", "tools": [function("zzz")]}},
        _VALUE,
        "tool_choice.tools[0].name",
    ),
    "a choice that is a number": ({"tools": GIVEN, "tool_choice": 1}, "invalid_type", "tool_choice"),
}


@pytest.mark.parametrize(("body", "code", "param"), REFUSED.values(), ids=REFUSED)
def test_the_error_for_an_invalid_tool_names_its_field(body: dict[str, Any], code: str, param: str) -> None:
    assert refused(body) == (code, param)
