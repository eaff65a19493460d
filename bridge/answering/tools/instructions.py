"""The instructions about tools and the format of answers that a model gets.

They come once in an evaluation, before the caller's own system text.
"""

from __future__ import annotations

from typing import Final

from bridge.answering.chat import JsonFormat, Tool, Tools
from bridge.answering.tools.blocks import json_text

_TOOLS: Final = """\
# Tools

You can call tools. Each line between the following tags describes one as JSON: its name, what it does, and the JSON \
Schema of its arguments.

<tools>
{tools}
</tools>

To call a tool, end your answer with a block of exactly this form: the tool's name and its arguments as one JSON object.

<tool_call>
{{"name": "tool_name", "arguments": {{"argument": "value"}}}}
</tool_call>
"""

_CUSTOM: Final = """\
A tool with "type": "custom" takes free text, not arguments. Write its text as one JSON string:

<tool_call>
{"name": "tool_name", "input": "the text"}
</tool_call>
"""

_RULES: Final = """\
- Call only the tools that are listed, with arguments that fit their schema.
- You may write text before a block. Write nothing after it, and put no code fence around it: the result will come in \
the next message, in a <tool_response> block. Never write such a block yourself.
"""

_SEVERAL: Final = "- To make several calls at once, write one block for each, one after the other.\n"
_ONE: Final = "- Make at most one call in an answer.\n"
_ALLOWED: Final = "- Of these tools you may call only {names}.\n"
_OPTIONAL: Final = "- If no call is needed, answer without any block.\n"
_REQUIRED: Final = "- You must call a tool in each answer.\n"
_NAMED: Final = "- You must call the tool {name} in each answer.\n"

_JSON_HEADING: Final = "# Form of the answer\n\n"
_JSON_OBJECT: Final = "Answer with one JSON object"
_JSON_SCHEMA: Final = "Answer with one JSON value that fits the JSON Schema below"
_JSON_OR_CALL: Final = ", unless you call a tool"
_JSON_RULES: Final = ". Write nothing before it or after it, and put no code fence around it.\n"
_JSON_NAME: Final = "The value is called {name}.\n"
_JSON_DESCRIPTION: Final = "What it is for: {description}\n"


def instructions(tools: Tools | None, json_format: JsonFormat | None) -> str:
    """Write the instructions for a request's tools and format; '' if it has neither."""
    blocks = []
    if tools is not None:
        blocks.append(_about_tools(tools))
    if json_format is not None:
        blocks.append(_about_format(json_format, or_call=tools is not None))
    return "\n\n".join(blocks)


def _about_tools(given: Tools) -> str:
    text = _TOOLS.format(tools="\n".join([_line(tool) for tool in given.tools]))
    if any(tool.kind == "custom" for tool in given.tools):
        text += "\n" + _CUSTOM
    text += "\n" + _RULES + (_SEVERAL if given.parallel else _ONE)
    allowed = [tool.name for tool in given.tools if tool.name in given.allowed]
    if given.required and len(allowed) == 1:
        return (text + _NAMED.format(name=allowed[0])).rstrip()
    if len(allowed) < len(given.tools):
        text += _ALLOWED.format(names=", ".join(allowed))
    return (text + (_REQUIRED if given.required else _OPTIONAL)).rstrip()


def _line(tool: Tool) -> str:
    """Describe a tool in one line of compact JSON."""
    about: dict[str, object] = {"name": tool.name}
    if tool.description:
        about["description"] = tool.description
    if tool.kind == "custom":
        about["type"] = "custom"
        if tool.grammar:
            about["grammar"] = tool.grammar
    elif tool.parameters is not None:
        about["parameters"] = tool.parameters
    return json_text(about)


def _about_format(form: JsonFormat, *, or_call: bool) -> str:
    text = _JSON_HEADING + (_JSON_OBJECT if form.schema is None else _JSON_SCHEMA)
    text += (_JSON_OR_CALL if or_call else "") + _JSON_RULES
    if form.name:
        text += _JSON_NAME.format(name=form.name)
    if form.description:
        text += _JSON_DESCRIPTION.format(description=form.description)
    if form.schema is not None:
        text += f"\n{json_text(form.schema)}"
    return text.rstrip()
