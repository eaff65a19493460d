"""The tools of a Messages request: shown with their schema, or left out and named; and the choice among them."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from bridge.answering.chat import ChatRequest
from bridge.dialects.fields import read_object
from bridge.dialects.files import FileReader, FileRules
from bridge.dialects.messages.request import read_request
from bridge.errors import ApiError

BASE: dict[str, Any] = {"model": "claude", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}
WEATHER = {"name": "get_weather", "description": "Say it.", "input_schema": {"type": "object"}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


def tools_of(*tools: object, **more: object) -> ChatRequest:
    fields = read_object(orjson.dumps({**BASE, "tools": tools, **more}))
    return read_request(fields, FileReader(FileRules(1, 1), {})).chat


def test_custom_tools_are_shown_with_name_description_and_schema() -> None:
    without_effect = {
        "strict": True,
        "input_examples": [{}],
        "eager_input_streaming": True,
        "defer_loading": True,
        "cache_control": {"type": "ephemeral"},
        "allowed_callers": ["direct"],
    }
    chat = tools_of(WEATHER, {"name": "other", "type": "custom", "input_schema": SCHEMA, **without_effect})
    assert chat.tools is not None
    weather, other = chat.tools.tools
    assert (weather.name, weather.description, weather.parameters) == ("get_weather", "Say it.", {"type": "object"})
    assert (other.name, other.parameters) == ("other", SCHEMA)
    assert (chat.tools.required, chat.tools.parallel, chat.ignored) == (False, True, ())


CALLERS_OWN = {
    "bash_20250124": "bash",
    "text_editor_20241022": "str_replace_editor",
    "text_editor_20250124": "str_replace_editor",
    "text_editor_20250429": "str_replace_based_edit_tool",
    "text_editor_20250728": "str_replace_based_edit_tool",
    "memory_20250818": "memory",
    "computer_20251124": "computer",
}


@pytest.mark.parametrize(("kind", "name"), CALLERS_OWN.items(), ids=CALLERS_OWN)
def test_vendor_tools_that_the_caller_runs_are_shown_with_their_schema(kind: str, name: str) -> None:
    chat = tools_of({"type": kind, "name": name, "display_width_px": 1024, "display_height_px": 768})
    assert chat.tools is not None
    (tool,) = chat.tools.tools
    assert tool.name == name
    assert tool.parameters is not None
    assert tool.parameters["properties"]
    assert "1024" in tool.description
    assert chat.ignored == ()


def test_only_older_text_editor_tools_offer_undo_edit() -> None:
    for kind, can in (("text_editor_20250124", True), ("text_editor_20250728", False)):
        tools = tools_of({"type": kind, "name": "edit"}).tools
        assert tools is not None
        assert ("undo_edit" in str(tools.tools[0].parameters)) == can


VENDORS_OWN = [
    "web_search_20250305",
    "web_fetch_20260318",
    "code_execution_20250825",
    "tool_search_tool_regex_20251119",
]


@pytest.mark.parametrize("kind", VENDORS_OWN)
def test_tools_that_the_vendor_runs_are_left_out_and_reported_as_ignored(kind: str) -> None:
    chat = tools_of(WEATHER, {"type": kind, "name": "vendors"})
    assert chat.tools is not None
    assert [tool.name for tool in chat.tools.tools] == ["get_weather"]
    assert chat.ignored == (f"tools.{kind}",)
    assert tools_of({"type": kind, "name": "vendors"}).tools is None


CHOICES = {
    "auto": ({"type": "auto"}, (False, True)),
    "any": ({"type": "any"}, (True, True)),
    "one at a time": ({"type": "auto", "disable_parallel_tool_use": True}, (False, False)),
    "exactly one": ({"type": "any", "disable_parallel_tool_use": True}, (True, False)),
    "a tool": ({"type": "tool", "name": "other"}, (True, True)),
}


@pytest.mark.parametrize(("choice", "expected"), CHOICES.values(), ids=CHOICES)
def test_tool_choice_sets_required_parallel_and_allowed_tools(
    choice: dict[str, object], expected: tuple[bool, bool]
) -> None:
    tools = tools_of(WEATHER, {**WEATHER, "name": "other"}, tool_choice=choice).tools
    assert tools is not None
    assert (tools.required, tools.parallel) == expected
    assert tools.allowed == ({"other"} if "name" in choice else {"get_weather", "other"})


def test_tool_names_may_have_128_characters() -> None:
    tools = tools_of({**WEATHER, "name": "m" * 128}).tools
    assert tools is not None
    assert tools.tools[0].name == "m" * 128
    with pytest.raises(ApiError) as refused:
        tools_of({**WEATHER, "name": "m" * 129})
    assert (refused.value.code, refused.value.param) == ("invalid_value", "tools[0].name")


def test_tool_choice_none_hides_all_tools() -> None:
    assert tools_of(WEATHER, tool_choice={"type": "none"}).tools is None
