"""Reads requests of the Responses API, and the fields that the response object repeats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import orjson

from bridge.answering.chat import ChatRequest, JsonFormat
from bridge.answering.messages import Message
from bridge.dialects.answer_form import read_json_schema, read_max_tokens
from bridge.dialects.fields import Fields, Reader
from bridge.dialects.files import FileReader
from bridge.dialects.responses.items import ItemReader
from bridge.dialects.responses.stored import StoredResponses
from bridge.dialects.responses.tools import ToolNames, echoed_choice, echoed_tool, read_tools
from bridge.errors import invalid_request

#: Fields without effect that the response repeats, with the methods that read them, and their defaults.
ECHOED: Final[Mapping[str, tuple[Reader, object]]] = {
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
_DEFAULTS: Final = {name: default for name, (_, default) in ECHOED.items()}
#: Fields without effect: their types are checked, and `x-bridge-ignored` lists them.
IGNORED: Final[Mapping[str, Reader]] = {
    "temperature": Fields.number,
    "top_p": Fields.number,
    "presence_penalty": Fields.number,
    "frequency_penalty": Fields.number,
    "max_tool_calls": Fields.integer,
    "service_tier": Fields.string,
    "safety_identifier": Fields.string,
    "prompt_cache_key": Fields.string,
    "prompt_cache_options": Fields.mapping,
    "prompt_cache_retention": Fields.string,
    "user": Fields.string,
    "moderation": Fields.mapping,
    "reasoning": Fields.mapping,
    "include": Fields.strings,
    "context_management": Fields.array,
}
#: Fields that are refused, because the answer would not be what they ask for.
_UNSUPPORTED: Final = ("conversation", "prompt")


class ResponsesFields(NamedTuple):
    """A request that has been read.

    `echo` has the fields that the response object repeats, `echo_json` the same as JSON. `stored_input` is the input
    as JSON, for requests that continue this one; None if it must not be stored. `previous` is the id of the response
    that this one continues.
    """

    chat: ChatRequest
    echo: dict[str, object]
    echo_json: bytes
    stored_input: bytes | None
    names: ToolNames
    previous: str | None


def read_request(fields: Fields, files: FileReader, owner: str, stored: StoredResponses) -> ResponsesFields:
    """Read a request of the API key `owner`. Raises ApiError (400) that names the field."""
    model = fields.nonempty_string("model")
    _refuse_unsupported(fields)
    previous = fields.string("previous_response_id") or None
    before = stored.history(owner, previous) if previous else []
    own = list(stored.resolve(owner, read_input(fields)))
    items = [Fields(item, None, "previous_response_id") for item in before if isinstance(item, dict)]
    items += [fields.mapping_at("input", at, item) for at, item in enumerate(own)]
    tools = read_tools(fields, items)
    reader = ItemReader(files, tools.names)
    instructions = fields.string("instructions")
    messages = (*((Message("system", instructions),) if instructions else ()), *reader.read(items))
    if not items:
        raise fields.required("input")
    json_format, text = _read_text(fields)
    truncation = _read_truncation(fields)
    ignored = fields.ignored(IGNORED)
    if "verbosity" in text:
        ignored.append("text.verbosity")
    chat = ChatRequest(
        model,
        messages,
        stream=_read_stream(fields),
        ignored=(*ignored, *sorted(reader.ignored), *tools.ignored),
        first_document=files.first_document,
        tools=tools.tools,
        json_format=json_format,
        max_tokens=read_max_tokens(fields, "max_output_tokens"),
        truncate=truncation == "auto",
    )
    store = fields.boolean("store") is not False
    echoed = {name: read(fields, name) for name, (read, _) in ECHOED.items() if name in fields}
    echo = {
        **_DEFAULTS,
        **echoed,
        "model": model,
        "instructions": instructions,
        "max_output_tokens": chat.max_tokens,
        "metadata": _read_metadata(fields),
        "parallel_tool_calls": fields.boolean("parallel_tool_calls") is not False,
        "previous_response_id": previous,
        "reasoning": _read_reasoning(fields),
        "store": store,
        "background": False,
        "text": text,
        "tool_choice": echoed_choice(fields),
        "tools": [echoed_tool(tool) for tool in fields.mappings("tools") or ()],
        "truncation": truncation,
    }
    echo_json = _encode(echo)
    stored_input = _encode([files.restore(item) for item in own]) if store else None
    return ResponsesFields(chat, echo, echo_json, stored_input, tools.names, previous)


def read_input(fields: Fields) -> list[object]:
    """Read `input` as items; a text becomes a message of the user. Raises ApiError (400)."""
    match fields.any("input"):
        case None:
            return []
        case str(text):
            return [{"type": "message", "role": "user", "content": text}]
        case list() as items:
            return items
    raise fields.invalid("input", "invalid_type", "'input' must be a string or an array of items.")


def _encode(value: object) -> bytes:
    """Encode a value as JSON. Raises ApiError (400) if it would be nested too deeply in the response object."""
    try:
        return orjson.dumps([[[value]]])[3:-3]
    except TypeError:
        raise invalid_request("invalid_value", "The request is nested too deeply.") from None


def _refuse_unsupported(fields: Fields) -> None:
    """Raise ApiError (400) for unsupported fields."""
    refused = [name for name in _UNSUPPORTED if name in fields]
    refused += ["background"] if fields.boolean("background") else []
    refused += ["top_logprobs"] if fields.integer("top_logprobs", minimum=0) else []
    for name in refused:
        raise fields.unsupported(name)


def _read_stream(fields: Fields) -> bool:
    """Read `stream`, and check the type of its options, which have no effect."""
    fields.mapping("stream_options")
    return fields.boolean("stream") or False


def _read_truncation(fields: Fields) -> str:
    truncation = fields.string("truncation") or "disabled"
    if truncation not in ("auto", "disabled"):
        raise fields.invalid("truncation", "invalid_value", "'truncation' must be auto or disabled.")
    return truncation


def _read_metadata(fields: Fields) -> dict[str, object]:
    metadata = fields.mapping("metadata")
    if metadata is None:
        return {}
    for name in metadata.names:
        if metadata.string(name) is None:
            raise metadata.invalid(name, "invalid_type", f"'{metadata.path(name)}' must be a string, not null.")
    return metadata.values


def _read_text(fields: Fields) -> tuple[JsonFormat | None, dict[str, object]]:
    """Read `text`: the answer's format, and what the response object repeats of it."""
    text = fields.mapping("text")
    verbosity = text.string("verbosity") if text is not None else None
    form = text.mapping("format") if text is not None else None
    json_format, echo = (None, {"type": "text"}) if form is None else _read_format(form)
    return json_format, {"format": echo, **({} if verbosity is None else {"verbosity": verbosity})}


def _read_format(form: Fields) -> tuple[JsonFormat | None, dict[str, object]]:
    match form.string("type"):
        case "text":
            return None, {"type": "text"}
        case "json_object":
            return JsonFormat(), {"type": "json_object"}
        case "json_schema":
            for name in ("name", "schema"):
                if name not in form:
                    raise form.required(name)
            read = read_json_schema(form)
            echo: dict[str, object] = {
                "type": "json_schema",
                "name": read.name,
                "description": form.string("description"),
                "schema": read.schema,
                "strict": read.strict,
            }
            return read, echo
        case None:
            raise form.required("type")
        case _:
            raise form.invalid(
                "type", "invalid_value", f"'{form.path('type')}' must be text, json_object or json_schema."
            )


def _read_reasoning(fields: Fields) -> dict[str, object]:
    reasoning = fields.mapping("reasoning")
    if reasoning is None:
        return {"effort": None, "summary": None}
    return {"effort": reasoning.string("effort"), "summary": reasoning.string("summary")}
