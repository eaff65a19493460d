"""Reads the tools of chat completions: `tools` and `tool_choice`, and the older `functions` and `function_call`."""

from __future__ import annotations

from typing import Final, NamedTuple

from bridge.answering.chat import Tools
from bridge.dialects.fields import Fields
from bridge.dialects.tool_reading import Choice, ToolReader, read_tools, unknown_choice

_FIELDS: Final = frozenset({"tools", "functions", "tool_choice", "function_call", "parallel_tool_calls"})


class ChatTools(NamedTuple):
    """The tools of a request; `ignored` lists what has no effect.

    `older_form` says that they were given as `functions`, so that a call is sent as a `function_call`.
    """

    tools: Tools | None
    ignored: tuple[str, ...]
    older_form: bool


def read_chat_tools(fields: Fields) -> ChatTools:
    """Read tools in either form. Raises ApiError (400) that names the field."""
    if fields.names.isdisjoint(_FIELDS):
        return ChatTools(None, (), older_form=False)
    tools, functions = read_tools(fields, "tools"), read_tools(fields, "functions")
    if tools and functions:
        raise fields.invalid("functions", "invalid_value", "Send 'tools' or 'functions', not both.")
    reader = ToolReader()
    for tool in tools:
        _read_tool(tool, reader)
    for function in functions:
        reader.read_function(function)
    choice = _read_tool_choice(fields, reader)
    if "function_call" in fields and choice == Choice():
        choice = _read_function_call(fields, reader)
    parallel = fields.boolean("parallel_tool_calls") is not False and not functions
    return ChatTools(reader.choose(choice, parallel=parallel), tuple(reader.ignored), bool(functions))


def _read_tool(tool: Fields, reader: ToolReader) -> None:
    match tool.string("type"):
        case "function" | None:
            reader.read_function(_about(tool, "function"))
        case "custom":
            reader.read_custom(_about(tool, "custom"))
        case other:
            message = f"Tools of type '{other[:50]}' are not supported: send tools of type `function` or `custom`."
            raise tool.invalid("type", "unsupported_parameter", message)


def _about(tool: Fields, kind: str) -> Fields:
    """Return the object that describes a tool: a nested one, or the tool itself, as in the Responses API."""
    about = tool.mapping(kind)
    if about is None and "name" not in tool:
        raise tool.required(kind)
    return about or tool


def _read_tool_choice(fields: Fields, reader: ToolReader) -> Choice:
    name = "tool_choice"
    if name not in fields:
        return Choice()
    if fields.kind(name) is str:
        mode = fields.string(name)
        if mode in ("required", "any") and not reader:
            raise fields.invalid(name, "invalid_value", f"'{name}' requires a call, but the request has no tools.")
        choice = {
            "auto": Choice(),
            "none": Choice(none=True),
            "required": Choice(required=True),
            "any": Choice(required=True),
        }.get(mode or "")
        if choice is None:
            raise unknown_choice(fields, name, "auto, none, required, or an object that names a tool")
        return choice
    chosen = fields.mapping(name)
    if chosen is None:
        return Choice()
    match chosen.string("type"):
        case "function" | "custom" | None as kind:
            named = chosen.mapping(kind or "function") or chosen
            return Choice(required=True, allowed=frozenset({reader.find(named)}))
        case "allowed_tools":
            return _read_allowed(chosen.mapping("allowed_tools") or chosen, reader)
        case _:
            raise unknown_choice(chosen, "type", "function, custom or allowed_tools")


def _read_allowed(allowed: Fields, reader: ToolReader) -> Choice:
    mode = allowed.string("mode") or "auto"
    if mode not in ("auto", "required"):
        raise unknown_choice(allowed, "mode", "auto or required")
    tools = allowed.mappings("tools")
    if not tools:
        raise allowed.required("tools")
    names = [reader.find(tool.mapping(tool.string("type") or "function") or tool) for tool in tools]
    return Choice(required=mode == "required", allowed=frozenset(names))


def _read_function_call(fields: Fields, reader: ToolReader) -> Choice:
    name = "function_call"
    if fields.kind(name) is str:
        choice = {"auto": Choice(), "none": Choice(none=True)}.get(fields.string(name) or "")
        if choice is None:
            raise unknown_choice(fields, name, "auto, none, or an object that names a function")
        return choice
    chosen = fields.mapping(name)
    return Choice() if chosen is None else Choice(required=True, allowed=frozenset({reader.find(chosen)}))
