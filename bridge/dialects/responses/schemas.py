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
            "arguments": string("JSON in a string."),
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
    input_object({"type": literal("item_reference"), "id": string("The id of an item of a stored response.")}),
    input_object({"type": literal("reasoning")}, about="Accepted, but not shown to the model."),
    input_object({"type": literal("additional_tools"), "tools": array(ref("ResponseTool"))}),
)

_TOOL: Final = any_of(
    input_object(
        {"type": literal("function"), "name": string()},
        {"description": string(), "parameters": any_object("A JSON Schema."), "strict": boolean()},
    ),
    input_object(
        {"type": literal("custom"), "name": string()},
        {"description": string(), "format": any_object("May have a grammar.")},
    ),
    input_object({"type": literal("namespace"), "name": string(), "tools": array(any_object())}),
    input_object(
        {"type": {"type": "string", "not": {"enum": ["function", "custom", "namespace"]}}},
        about="A tool that runs on the vendor's servers: left out, and named in `x-bridge-ignored`.",
    ),
)

_FORMAT: Final = any_of(
    input_object({"type": literal("text", "json_object")}),
    input_object(
        {"type": literal("json_schema"), "name": string(), "schema": any_object("A JSON Schema.")},
        {"strict": boolean(), "description": string()},
    ),
)

_REQUEST: Final = input_object(
    {"model": string(minLength=1)},
    {
        "input": any_of(string(), array(ref("ResponseInputItem")), about="A text, or a list of items."),
        "instructions": string("A system text that comes before the conversation."),
        "previous_response_id": string("The stored response that this one continues."),
        "stream": boolean("Whether to stream the answer as server-sent events."),
        "stream_options": any_object("Has no effect."),
        "store": boolean("Whether to store the response; true by default."),
        "max_output_tokens": integer("The maximum length of the answer; -1 and 0 mean no limit.", minimum=-1),
        "truncation": literal(
            "auto",
            "disabled",
            about="With `auto`, the oldest items are dropped if not all of them fit into the prompt.",
        ),
        "tools": array(ref("ResponseTool"), maxItems=MAX_TOOLS),
        "tool_choice": any_of(
            literal("auto", "none", "required"), any_object("An object that names a tool, or `allowed_tools`.")
        ),
        "parallel_tool_calls": boolean("If false, an answer has at most one call."),
        "text": input_object({}, {"format": _FORMAT, "verbosity": string("Has no effect.")}),
        "metadata": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "Repeated in the response.",
        },
        "background": {"type": "boolean", "const": False, "description": "Not supported: `true` is answered with 400."},
        "top_logprobs": integer("Not supported: values above 0 are answered with 400.", minimum=0, maximum=0),
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
                "detail": string("Has no effect."),
            },
        ),
        input_object(
            {"type": literal("input_file")}, {"file_data": string("A text file or a PDF."), "filename": string()}
        ),
    ),
    "ResponseTool": _TOOL,
}
