"""The schemas of the Responses API's requests and of the items in them (docs/fronts.md, "Responses")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bridge.dialects.responses.items import ROLES
from bridge.dialects.responses.request import IGNORED
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

_CONTENT: Final = any_of(string(), array(ref("ResponsePart")))

_ITEM: Final = any_of(
    input_object({"role": literal(*ROLES), "content": _CONTENT}, {"type": literal("message"), "id": string()}),
    input_object(
        {
            "type": literal("function_call"),
            "call_id": string(),
            "name": string(),
            "arguments": string("JSON, as text."),
        },
        {"namespace": string(), "id": string()},
    ),
    input_object(
        {"type": literal("custom_tool_call"), "call_id": string(), "name": string(), "input": string()},
        {"namespace": string(), "id": string()},
    ),
    input_object(
        {"type": literal("function_call_output", "custom_tool_call_output"), "call_id": string(), "output": _CONTENT},
        {"id": string()},
    ),
    input_object({"type": literal("item_reference"), "id": string("An item of a stored response.")}),
    input_object({"type": literal("reasoning")}, about="Accepted, and not shown to a model."),
    input_object({"type": literal("additional_tools"), "tools": array(ref("ResponseTool"))}),
)

_TOOL: Final = any_of(
    input_object(
        {"type": literal("function"), "name": string()},
        {"description": string(), "parameters": any_object("JSON Schema."), "strict": boolean()},
    ),
    input_object(
        {"type": literal("custom"), "name": string()},
        {"description": string(), "format": any_object("Maybe a grammar.")},
    ),
    input_object({"type": literal("namespace"), "name": string(), "tools": array(any_object())}),
    input_object(
        {"type": {"type": "string", "not": {"enum": ["function", "custom", "namespace"]}}},
        about="Runs at the vendor: left out, and named in x-bridge-ignored.",
    ),
)

_FORMAT: Final = any_of(
    input_object({"type": literal("text", "json_object")}),
    input_object(
        {"type": literal("json_schema"), "name": string(), "schema": any_object("JSON Schema.")},
        {"strict": boolean(), "description": string()},
    ),
)

_REQUEST: Final = input_object(
    {"model": string(minLength=1)},
    {
        "input": any_of(string(), array(ref("ResponseInputItem")), about="A text, or items."),
        "instructions": string("Stands before the conversation."),
        "previous_response_id": string("The stored response that this one continues."),
        "stream": boolean("Answer by server-sent events."),
        "stream_options": any_object("Without effect."),
        "store": boolean("false: the response is not stored."),
        "max_output_tokens": integer("-1 and 0 mean no limit.", minimum=-1),
        "truncation": literal("auto", "disabled", about="auto: the oldest items are dropped if all do not fit."),
        "tools": array(ref("ResponseTool"), maxItems=MAX_TOOLS),
        "tool_choice": any_of(literal("auto", "none", "required"), any_object("Names a tool, or allowed_tools.")),
        "parallel_tool_calls": boolean("false: one call at most."),
        "text": input_object({}, {"format": _FORMAT, "verbosity": string("Without effect.")}),
        "metadata": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "Comes back in the response.",
        },
        "background": {"type": "boolean", "const": False, "description": "Not supported: true is 400."},
        "top_logprobs": integer("Not supported: more than 0 is 400.", minimum=0, maximum=0),
        **without_effect(IGNORED),
    },
)

SCHEMAS: Final[Mapping[str, Schema]] = {
    "ResponseRequest": _REQUEST,
    "ResponseInputItem": _ITEM,
    "ResponsePart": any_of(
        input_object({"type": literal("input_text", "output_text", "text"), "text": string()}),
        input_object({"type": literal("refusal"), "refusal": string()}),
        input_object(
            {"type": literal("input_image")},
            {
                "image_url": any_of(string("A data URL."), input_object({"url": string()})),
                "detail": string("Without effect."),
            },
        ),
        input_object({"type": literal("input_file")}, {"file_data": string("Text, or a PDF."), "filename": string()}),
    ),
    "ResponseTool": _TOOL,
}
