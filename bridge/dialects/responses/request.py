"""The Responses API: a request's fields → ChatRequest, and the response object as it stands before the answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from bridge.answering.chat import ChatRequest, JsonFormat
from bridge.answering.messages import Message
from bridge.dialects.answer_form import read_json_schema, read_max_tokens
from bridge.dialects.fields import Fields
from bridge.dialects.files import FileReader
from bridge.dialects.responses.items import read_items
from bridge.dialects.responses.stored import StoredResponses
from bridge.dialects.responses.tools import ToolNames, read_tools
from bridge.errors import ApiError, invalid_request

#: Fields that are returned as they came and change nothing: their readers, and what stands there where they are absent.
_ECHOED: Final = {
    "temperature": (Fields.number, 1),
    "top_p": (Fields.number, 1),
    "presence_penalty": (Fields.number, 0),
    "frequency_penalty": (Fields.number, 0),
    "top_logprobs": (Fields.integer, 0),
    "max_tool_calls": (Fields.integer, None),
    "service_tier": (Fields.string, "default"),
    "safety_identifier": (Fields.string, None),
    "prompt_cache_key": (Fields.string, None),
}
#: Of these, and beside these, what is named in `x-bridge-ignored`.
_IGNORED: Final = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "max_tool_calls", "service_tier")


class ResponsesFields(NamedTuple):
    """A request as it was read.

    `echo` is the response object without what the answer brings; `items` is what a later request continues with.
    """

    chat: ChatRequest
    echo: dict[str, object]
    items: list[object]
    names: ToolNames
    store: bool


def read_request(fields: Fields, files: FileReader, owner: str, stored: StoredResponses) -> ResponsesFields:
    """Read a request of the key `owner`. Raises ApiError (400) that names the field."""
    model = fields.string("model")
    if not model:
        raise fields.required("model")
    if fields.boolean("background"):
        raise _unsupported("background")
    if fields.integer("top_logprobs"):
        raise _unsupported("top_logprobs")
    previous = fields.string("previous_response_id")
    own = read_input(fields)
    items = [*(stored.history(owner, previous) if previous else ()), *stored.resolved(owner, own)]
    wrapped = [fields.mapping_at("input", at, item) for at, item in enumerate(items)]
    instructions = fields.string("instructions")
    tools = read_tools(fields, wrapped)
    json_format, text = _read_text(fields)
    limit = read_max_tokens(fields, "max_output_tokens")
    truncation = fields.string("truncation") or "disabled"
    if truncation not in ("auto", "disabled"):
        raise fields.invalid("truncation", "invalid_value", "'truncation' must be auto or disabled.")
    messages = (*((Message("system", instructions),) if instructions else ()), *read_items(wrapped, files))
    if not messages:
        raise fields.required("input")
    echoed = {
        name: default if (value := read(fields, name)) is None else value for name, (read, default) in _ECHOED.items()
    }
    store = fields.boolean("store") is not False
    chat = ChatRequest(
        model,
        messages,
        stream=fields.boolean("stream") or False,
        ignored=(*(name for name in _IGNORED if name in fields), *tools.ignored),
        first_document=files.first_document,
        tools=tools.tools,
        json_format=json_format,
        max_tokens=limit,
        truncate=truncation == "auto",
    )
    echo = {
        **echoed,
        "model": model,
        "instructions": instructions,
        "max_output_tokens": limit,
        "metadata": fields.json_object("metadata") or {},
        "parallel_tool_calls": fields.boolean("parallel_tool_calls") is not False,
        "previous_response_id": previous,
        "reasoning": _read_reasoning(fields),
        "store": store,
        "background": False,
        "text": text,
        "tool_choice": fields.any("tool_choice") or "auto",
        "tools": [_echoed_tool(tool) for tool in fields.mappings("tools") or ()],
        "truncation": truncation,
    }
    return ResponsesFields(chat, echo, own, tools.names, store)


def read_input(fields: Fields) -> list[object]:
    """Read `input` as items: a text is one message of the user's."""
    if fields.kind("input") is list:
        return fields.array("input") or []
    text = fields.string("input")
    return [] if text is None else [{"type": "message", "role": "user", "content": text}]


def _read_text(fields: Fields) -> tuple[JsonFormat | None, dict[str, object]]:
    """Read `text`: the answer's format, and what of it is returned."""
    text = fields.mapping("text")
    verbosity = text.string("verbosity") if text is not None else None
    rest: dict[str, object] = {} if verbosity is None else {"verbosity": verbosity}
    form = text.mapping("format") if text is not None else None
    if form is None:
        return None, {"format": {"type": "text"}, **rest}
    match form.string("type"):
        case "text":
            return None, {"format": {"type": "text"}, **rest}
        case "json_object":
            return JsonFormat(), {"format": {"type": "json_object"}, **rest}
        case "json_schema":
            if "schema" not in form:
                raise form.required("schema")
            read = read_json_schema(form)
            echo = {
                "type": "json_schema",
                "name": read.name,
                "description": form.string("description"),
                "schema": read.schema,
                "strict": read.strict,
            }
            return read, {"format": echo, **rest}
        case None:
            raise form.required("type")
        case _:
            raise form.invalid("type", "invalid_value", "'text.format.type' must be text, json_object or json_schema.")


def _read_reasoning(fields: Fields) -> dict[str, object]:
    reasoning = fields.mapping("reasoning")
    effort = reasoning.string("effort") if reasoning is not None else None
    summary = reasoning.string("summary") if reasoning is not None else None
    return {"effort": effort, "summary": summary}


def _echoed_tool(tool: Fields) -> Mapping[str, object]:
    if tool.string("type") != "function":
        return tool.values
    return {
        "type": "function",
        "name": tool.string("name"),
        "description": tool.string("description"),
        "parameters": tool.json_object("parameters"),
        "strict": tool.boolean("strict"),
    }


def _unsupported(name: str) -> ApiError:
    return invalid_request("unsupported_parameter", f"The bridge does not support '{name}': leave it out.", name)
