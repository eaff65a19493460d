"""The schemas of the Responses API's answers: the response object, its items, and every event of a stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bridge.dialects.responses.output import ERROR_CODES, INCOMPLETE
from bridge.dialects.responses.request import ECHOED
from bridge.dialects.schema import (
    Schema,
    any_object,
    any_of,
    array,
    boolean,
    integer,
    literal,
    nullable,
    one_of,
    output_object,
    ref,
    string,
    without_effect,
)

_STATUS: Final = literal("in_progress", "completed", "incomplete")
_CITATION: Final = output_object(
    {
        "type": literal("url_citation"),
        "url": string(),
        "title": string(),
        "start_index": integer(),
        "end_index": integer(),
    }
)
_OUTPUT_TEXT: Final = output_object(
    {
        "type": literal("output_text"),
        "text": string(),
        "annotations": array(ref("ResponseCitation")),
        "logprobs": array(any_object(), maxItems=0),
    }
)
_REASONING_TEXT: Final = output_object({"type": literal("reasoning_text"), "text": string()})
_CALL: Final[Mapping[str, Schema]] = {"id": string(), "call_id": string(), "name": string(), "status": _STATUS}

_ITEM: Final = one_of(
    output_object(
        {
            "type": literal("message"),
            "id": string(),
            "status": _STATUS,
            "role": literal("assistant"),
            "content": array(_OUTPUT_TEXT),
        }
    ),
    output_object(
        {
            "type": literal("reasoning"),
            "id": string(),
            "summary": array(any_object(), maxItems=0),
            "content": array(_REASONING_TEXT),
            "status": _STATUS,
        }
    ),
    output_object({"type": literal("function_call"), "arguments": string(), **_CALL}, {"namespace": string()}),
    output_object({"type": literal("custom_tool_call"), "input": string(), **_CALL}, {"namespace": string()}),
)

_USAGE: Final = output_object(
    {
        "input_tokens": integer(),
        "input_tokens_details": output_object({"cached_tokens": integer(), "cache_write_tokens": integer()}),
        "output_tokens": integer(),
        "output_tokens_details": output_object({"reasoning_tokens": integer()}),
        "total_tokens": integer(),
    },
    about="Estimates.",
)

_ECHOED: Final = {
    name: nullable({key: value for key, value in schema.items() if key != "description"})
    for name, schema in without_effect({name: reader for name, (reader, _) in ECHOED.items()}).items()
}

_RESPONSE: Final = output_object(
    {
        "id": string(),
        "object": literal("response"),
        "created_at": integer("Unix time, in seconds."),
        "completed_at": nullable(integer()),
        "status": literal("in_progress", "completed", "incomplete", "failed"),
        "error": nullable(
            output_object(
                {
                    "code": literal(*dict.fromkeys(ERROR_CODES.values()), "context_length_exceeded", "server_error"),
                    "message": string("Ends with the bridge's own error code and word of diagnosis."),
                }
            )
        ),
        "incomplete_details": nullable(output_object({"reason": literal(*INCOMPLETE.values())})),
        "output": array(ref("ResponseItem")),
        "usage": nullable(ref("ResponseUsage")),
        **_ECHOED,
        "model": string("The name that the request used."),
        "instructions": nullable(string()),
        "max_output_tokens": nullable(integer()),
        "metadata": any_object(),
        "parallel_tool_calls": boolean(),
        "previous_response_id": nullable(string()),
        "reasoning": output_object({"effort": nullable(string()), "summary": nullable(string())}),
        "store": boolean(),
        "background": {"type": "boolean", "const": False},
        "text": output_object({"format": any_object()}, {"verbosity": string()}),
        "tool_choice": any_of(string(), any_object()),
        "tools": array(any_object()),
        "truncation": literal("auto", "disabled"),
    },
)


def _event(*names: str, **fields: Schema) -> Schema:
    return output_object({"type": literal(*names), "sequence_number": integer(minimum=0), **fields})


_PLACE: Final[Mapping[str, Schema]] = {"item_id": string(), "output_index": integer()}
_IN_PART: Final[Mapping[str, Schema]] = {**_PLACE, "content_index": integer()}
_NO_LOGPROBS: Final = array(any_object(), maxItems=0)

_EVENT: Final = one_of(
    _event(
        "response.created",
        "response.in_progress",
        "response.completed",
        "response.incomplete",
        "response.failed",
        response=ref("Response"),
    ),
    _event("response.output_item.added", "response.output_item.done", output_index=integer(), item=ref("ResponseItem")),
    _event(
        "response.content_part.added",
        "response.content_part.done",
        **_IN_PART,
        part=one_of(
            _OUTPUT_TEXT,
            output_object(
                {"type": literal("reasoning_text"), "text": string()}, {"annotations": array(any_object(), maxItems=0)}
            ),
        ),
    ),
    _event("response.output_text.delta", **_IN_PART, delta=string(), logprobs=_NO_LOGPROBS),
    _event("response.output_text.done", **_IN_PART, text=string(), logprobs=_NO_LOGPROBS),
    _event(
        "response.output_text.annotation.added",
        **_IN_PART,
        annotation_index=integer(),
        annotation=ref("ResponseCitation"),
    ),
    _event("response.reasoning_text.delta", **_IN_PART, delta=string()),
    _event("response.reasoning_text.done", **_IN_PART, text=string()),
    _event("response.function_call_arguments.delta", **_PLACE, delta=string()),
    _event("response.function_call_arguments.done", **_PLACE, name=string(), arguments=string()),
    _event("response.custom_tool_call_input.delta", **_PLACE, delta=string()),
    _event("response.custom_tool_call_input.done", **_PLACE, input=string()),
    about="The data of one event; the event's name is its type. The last event is `response.completed`,"
    " `response.incomplete` or `response.failed`.",
)

SCHEMAS: Final[Mapping[str, Schema]] = {
    "Response": _RESPONSE,
    "ResponseItem": _ITEM,
    "ResponseCitation": _CITATION,
    "ResponseUsage": _USAGE,
    "ResponseEvent": _EVENT,
    "ResponseDeleted": output_object(
        {"id": string(), "object": literal("response.deleted"), "deleted": {"type": "boolean", "const": True}}
    ),
    "ResponseInputItems": output_object(
        {
            "object": literal("list"),
            "data": array(
                {"type": "object", "required": ["id", "type"]}, "The items as they were sent, each with its id."
            ),
            "first_id": nullable(string()),
            "last_id": nullable(string()),
            "has_more": boolean(),
        }
    ),
    "ResponseInputTokens": output_object({"object": literal("response.input_tokens"), "input_tokens": integer()}),
}
