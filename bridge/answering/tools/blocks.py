"""Calls and results as they are written in a prompt: the form that models are asked for, and most open models know.

<tool_call>
{"name": "get_weather", "arguments": {"city": "Paris"}}
</tool_call>
"""

from __future__ import annotations

import orjson

from bridge.answering.messages import ToolCall


def call_block(call: ToolCall) -> str:
    """Write a call. Its arguments keep their spelling; if they are not JSON, they are written as a JSON string."""
    if call.kind == "custom":
        arguments = f'"input": {json_text(call.arguments)}'
    else:
        json = call.arguments.strip() or "{}"
        arguments = f'"arguments": {json if _is_json(json) else json_text(call.arguments)}'
    return f'<tool_call>\n{{"name": {json_text(call.name)}, {arguments}}}\n</tool_call>'


def response_block(text: str, call_id: str | None, name: str, attached: str = "") -> str:
    """Write a result verbatim; `attached` names the pictures and documents that come with it."""
    attributes = "".join(
        f' {attribute}="{value}"'
        for attribute, value in (("id", call_id), ("name", name), ("files", attached))
        if value
    )
    return f"<tool_response{attributes}>\n{text}\n</tool_response>"


def json_text(value: object) -> str:
    """Write a value as compact JSON, keeping the order of its keys."""
    return orjson.dumps(value).decode()


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True
