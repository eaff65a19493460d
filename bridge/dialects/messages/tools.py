"""Reads the tools of a Messages request, and the choice among them."""

from __future__ import annotations

from typing import Final

from bridge.answering.chat import Tool, Tools
from bridge.dialects.fields import Fields
from bridge.dialects.messages.vendor_tools import VENDOR_TOOLS
from bridge.dialects.tool_reading import Choice, ToolReader, read_tools
from bridge.errors import invalid_request

#: The maximum length of a tool's name, as in the original API; agents put a server's name before that of its tool.
MAX_NAME_CHARS: Final = 128


def read_offered(fields: Fields) -> tuple[Tools | None, list[str]]:
    """Read `tools` and `tool_choice`, and list what has no effect, such as tools that only Anthropic's servers run.

    Raises ApiError (400) that names the field.
    """
    reader = ToolReader(MAX_NAME_CHARS)
    left_out: list[str] = []
    for tool in read_tools(fields, "tools"):
        kind = tool.string("type") or "custom"
        if kind == "custom":
            reader.read_function(tool, "input_schema")
        elif (vendor_tool := _vendor_tool(kind, tool)) is not None:
            reader.add(vendor_tool, tool)
        else:
            left_out.append(f"tools.{kind[:64]}")
    choice = fields.mapping("tool_choice")
    parallel = choice is None or not choice.boolean("disable_parallel_tool_use")
    return reader.choose(_read_choice(choice, reader), parallel=parallel), [*reader.ignored, *left_out]


def _vendor_tool(kind: str, sent: Fields) -> Tool | None:
    """Return the tool with the fixed schema of a type, under the name that the request gives it."""
    tool = next((tool for beginning, tool in VENDOR_TOOLS.items() if kind.startswith(beginning)), None)
    if tool is None:
        return None
    description = tool.description
    width, height = sent.integer("display_width_px"), sent.integer("display_height_px")
    if width is not None and height is not None:
        description = f"{description} The screen is {width} pixels wide and {height} high."
    return tool._replace(name=sent.string("name") or tool.name, description=description)


def _read_choice(choice: Fields | None, reader: ToolReader) -> Choice:
    if choice is None:
        return Choice()
    match choice.string("type"):
        case None:
            raise choice.required("type")
        case "auto":
            return Choice()
        case "none":
            return Choice(none=True)
        case "any":
            if not reader:
                message = "'tool_choice' requires a call, but the request has no tool that the bridge can show."
                raise invalid_request("invalid_value", message, "tool_choice")
            return Choice(required=True)
        case "tool":
            return Choice(required=True, allowed=frozenset({reader.find(choice)}))
    raise choice.invalid("type", "invalid_value", "'tool_choice.type' must be auto, any, tool or none.")
