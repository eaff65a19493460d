"""The schemas of the Messages API's requests (docs/fronts.md, "Messages")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bridge.dialects.answer_form import MAX_STOPS
from bridge.dialects.messages.blocks import ROLES
from bridge.dialects.messages.request import IGNORED, THINKING
from bridge.dialects.messages.tools import MAX_NAME_CHARS
from bridge.dialects.schema import (
    Schema,
    any_object,
    any_of,
    array,
    boolean,
    input_object,
    integer,
    literal,
    ref,
    string,
    without_effect,
)
from bridge.dialects.tool_reading import MAX_TOOLS

_TEXT: Final = input_object({"type": literal("text"), "text": string()})
_PARTS: Final = (
    _TEXT,
    input_object(
        {
            "type": literal("image"),
            "source": any_of(
                input_object({"type": literal("base64"), "data": string()}, {"media_type": string()}),
                input_object({"type": literal("url"), "url": string("Fetched only if `images.fetch_urls` is set.")}),
            ),
        }
    ),
    input_object(
        {
            "type": literal("document"),
            "source": any_of(
                input_object({"type": literal("base64"), "data": string("A PDF.")}, {"media_type": string()}),
                input_object({"type": literal("text"), "data": string()}),
                input_object({"type": literal("content"), "content": any_of(string(), array(_TEXT))}),
            ),
        },
        {"title": string(), "context": string()},
    ),
    input_object({"type": literal("search_result")}, {"title": string(), "source": string(), "content": array(_TEXT)}),
)
_TOOL_REFERENCE: Final = input_object({"type": literal("tool_reference"), "tool_name": string()})

_BLOCK: Final = any_of(
    *_PARTS,
    input_object(
        {"type": literal("tool_result"), "tool_use_id": string()},
        {"content": any_of(string(), array(any_of(*_PARTS, _TOOL_REFERENCE))), "is_error": boolean()},
        about="In a user's message.",
    ),
    input_object(
        {"type": literal("tool_use"), "name": string()},
        {"id": string(), "input": any_object()},
        about="In an assistant's message.",
    ),
    input_object({"type": literal("thinking", "redacted_thinking")}, about="Accepted, but not shown to the model."),
)

_OPTIONAL: Final[Mapping[str, Schema]] = {
    "system": any_of(string(), array(_TEXT)),
    "stream": boolean("Whether to stream the answer as server-sent events."),
    "stop_sequences": array(string(), maxItems=MAX_STOPS),
    "thinking": input_object(
        {"type": literal(*THINKING)},
        {
            "display": string("With `omitted`, the answer has no thinking block."),
            "budget_tokens": integer("Has no effect."),
        },
        about="With `enabled` and `adaptive`, the answer has the part of its reasoning that the model shows.",
    ),
    "tools": array(ref("MessageTool"), maxItems=MAX_TOOLS),
    "tool_choice": input_object(
        {"type": literal("auto", "any", "tool", "none")}, {"name": string(), "disable_parallel_tool_use": boolean()}
    ),
    "output_config": input_object(
        {},
        {
            "format": input_object({"type": literal("json_schema"), "schema": any_object("A JSON Schema.")}),
            "effort": string("Has no effect."),
        },
    ),
    **without_effect(IGNORED),
}
_REQUIRED: Final[Mapping[str, Schema]] = {
    "model": string(minLength=1),
    "messages": array(
        input_object({"role": literal(*ROLES), "content": any_of(string(), array(ref("MessageBlock")))}), minItems=1
    ),
}

SCHEMAS: Final[Mapping[str, Schema]] = {
    "MessageRequest": input_object(
        {**_REQUIRED, "max_tokens": integer("The maximum length of the answer.", minimum=1)},
        _OPTIONAL,
    ),
    "MessageCountRequest": input_object(_REQUIRED, {"max_tokens": integer(minimum=1), **_OPTIONAL}),
    "MessageBlock": _BLOCK,
    "MessageTool": any_of(
        input_object(
            {"name": string(pattern=f"^[a-zA-Z0-9_.-]{{1,{MAX_NAME_CHARS}}}$")},
            {"type": literal("custom"), "description": string(), "input_schema": any_object("A JSON Schema.")},
        ),
        input_object(
            {
                "type": string(
                    "Such as `bash_20250124`: described to the model if the bridge knows its schema, otherwise named in"
                    " `x-bridge-ignored`."
                )
            },
            {"name": string()},
        ),
    ),
}
