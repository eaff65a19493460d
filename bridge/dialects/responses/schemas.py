"""Requests of the Responses API described, and the items that stand in them (docs/fronts.md, "Responses")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bridge.dialects.responses.items import ROLES
from bridge.dialects.responses.request import IGNORED
from bridge.dialects.schema import (
    Schema,
    any_of,
    anything,
    array,
    flag,
    ref,
    taken,
    text,
    whole,
    without_effect,
    word,
)
from bridge.dialects.tool_reading import MAX_TOOLS

_CONTENT: Final = any_of(text(), array(ref("ResponsePart")))

_ITEM: Final = any_of(
    taken({"role": word(*ROLES), "content": _CONTENT}, {"type": word("message"), "id": text()}),
    taken(
        {"type": word("function_call"), "call_id": text(), "name": text(), "arguments": text("JSON, as text.")},
        {"namespace": text(), "id": text()},
    ),
    taken(
        {"type": word("custom_tool_call"), "call_id": text(), "name": text(), "input": text()},
        {"namespace": text(), "id": text()},
    ),
    taken(
        {"type": word("function_call_output", "custom_tool_call_output"), "call_id": text(), "output": _CONTENT},
        {"id": text()},
    ),
    taken({"type": word("item_reference"), "id": text("An item of a stored response.")}),
    taken({"type": word("reasoning")}, about="Accepted, and not shown to a model."),
    taken({"type": word("additional_tools"), "tools": array(ref("ResponseTool"))}),
)

_TOOL: Final = any_of(
    taken(
        {"type": word("function"), "name": text()},
        {"description": text(), "parameters": anything("JSON Schema."), "strict": flag()},
    ),
    taken({"type": word("custom"), "name": text()}, {"description": text(), "format": anything("Maybe a grammar.")}),
    taken({"type": word("namespace"), "name": text(), "tools": array(anything())}),
    taken(
        {"type": {"type": "string", "not": {"enum": ["function", "custom", "namespace"]}}},
        about="Runs at the vendor: left out, and named in x-bridge-ignored.",
    ),
)

_FORMAT: Final = any_of(
    taken({"type": word("text", "json_object")}),
    taken(
        {"type": word("json_schema"), "name": text(), "schema": anything("JSON Schema.")},
        {"strict": flag(), "description": text()},
    ),
)

_REQUEST: Final = taken(
    {"model": text(minLength=1)},
    {
        "input": any_of(text(), array(ref("ResponseInputItem")), about="A text, or items."),
        "instructions": text("Stands before the conversation."),
        "previous_response_id": text("The stored response that this one continues."),
        "stream": flag("Answer by server-sent events."),
        "stream_options": anything("Without effect."),
        "store": flag("false: the response is not stored."),
        "max_output_tokens": whole("-1 and 0 mean no limit.", minimum=-1),
        "truncation": word("auto", "disabled", about="auto: the oldest items are dropped if all do not fit."),
        "tools": array(ref("ResponseTool"), maxItems=MAX_TOOLS),
        "tool_choice": any_of(word("auto", "none", "required"), anything("Names a tool, or allowed_tools.")),
        "parallel_tool_calls": flag("false: one call at most."),
        "text": taken({}, {"format": _FORMAT, "verbosity": text("Without effect.")}),
        "metadata": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "Comes back in the response.",
        },
        "background": {"type": "boolean", "const": False, "description": "Not supported: true is 400."},
        "top_logprobs": whole("Not supported: more than 0 is 400.", minimum=0, maximum=0),
        **without_effect(IGNORED),
    },
)

SCHEMAS: Final[Mapping[str, Schema]] = {
    "ResponseRequest": _REQUEST,
    "ResponseInputItem": _ITEM,
    "ResponsePart": any_of(
        taken({"type": word("input_text", "output_text", "text"), "text": text()}),
        taken({"type": word("refusal"), "refusal": text()}),
        taken(
            {"type": word("input_image")},
            {"image_url": any_of(text("A data URL."), taken({"url": text()})), "detail": text("Without effect.")},
        ),
        taken({"type": word("input_file")}, {"file_data": text("Text, or a PDF."), "filename": text()}),
    ),
    "ResponseTool": _TOOL,
}
