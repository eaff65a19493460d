"""Answers of the Responses API described: the response object, its items, and every event of a stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bridge.dialects.responses.output import ERROR_CODES, INCOMPLETE
from bridge.dialects.responses.request import ECHOED
from bridge.dialects.schema import (
    Schema,
    answered,
    any_of,
    anything,
    array,
    flag,
    one_of,
    or_null,
    ref,
    text,
    whole,
    without_effect,
    word,
)

_STATUS: Final = word("in_progress", "completed", "incomplete")
_CITATION: Final = answered(
    {
        "type": word("url_citation"),
        "url": text(),
        "title": text(),
        "start_index": whole(),
        "end_index": whole(),
    }
)
_OUTPUT_TEXT: Final = answered(
    {
        "type": word("output_text"),
        "text": text(),
        "annotations": array(ref("ResponseCitation")),
        "logprobs": array(anything(), maxItems=0),
    }
)
_REASONING_TEXT: Final = answered({"type": word("reasoning_text"), "text": text()})
_CALL: Final[Mapping[str, Schema]] = {"id": text(), "call_id": text(), "name": text(), "status": _STATUS}

_ITEM: Final = one_of(
    answered(
        {
            "type": word("message"),
            "id": text(),
            "status": _STATUS,
            "role": word("assistant"),
            "content": array(_OUTPUT_TEXT),
        }
    ),
    answered(
        {
            "type": word("reasoning"),
            "id": text(),
            "summary": array(anything(), maxItems=0),
            "content": array(_REASONING_TEXT),
            "status": _STATUS,
        }
    ),
    answered({"type": word("function_call"), "arguments": text(), **_CALL}, {"namespace": text()}),
    answered({"type": word("custom_tool_call"), "input": text(), **_CALL}, {"namespace": text()}),
)

_USAGE: Final = answered(
    {
        "input_tokens": whole(),
        "input_tokens_details": answered({"cached_tokens": whole(), "cache_write_tokens": whole()}),
        "output_tokens": whole(),
        "output_tokens_details": answered({"reasoning_tokens": whole()}),
        "total_tokens": whole(),
    },
    about="An estimate.",
)

_ECHOED: Final = {
    name: or_null({key: value for key, value in schema.items() if key != "description"})
    for name, schema in without_effect({name: reader for name, (reader, _) in ECHOED.items()}).items()
}

_RESPONSE: Final = answered(
    {
        "id": text(),
        "object": word("response"),
        "created_at": whole("Unix time, in seconds."),
        "completed_at": or_null(whole()),
        "status": word("in_progress", "completed", "incomplete", "failed"),
        "error": or_null(
            answered(
                {
                    "code": word(*dict.fromkeys(ERROR_CODES.values()), "context_length_exceeded", "server_error"),
                    "message": text("Ends in the bridge's own code and its word of diagnosis."),
                }
            )
        ),
        "incomplete_details": or_null(answered({"reason": word(*INCOMPLETE.values())})),
        "output": array(ref("ResponseItem")),
        "usage": or_null(ref("ResponseUsage")),
        **_ECHOED,
        "model": text("As it was asked for."),
        "instructions": or_null(text()),
        "max_output_tokens": or_null(whole()),
        "metadata": anything(),
        "parallel_tool_calls": flag(),
        "previous_response_id": or_null(text()),
        "reasoning": answered({"effort": or_null(text()), "summary": or_null(text())}),
        "store": flag(),
        "background": {"type": "boolean", "const": False},
        "text": answered({"format": anything()}, {"verbosity": text()}),
        "tool_choice": any_of(text(), anything()),
        "tools": array(anything()),
        "truncation": word("auto", "disabled"),
    },
)


def _event(*names: str, **fields: Schema) -> Schema:
    return answered({"type": word(*names), "sequence_number": whole(minimum=0), **fields})


_PLACE: Final[Mapping[str, Schema]] = {"item_id": text(), "output_index": whole()}
_IN_PART: Final[Mapping[str, Schema]] = {**_PLACE, "content_index": whole()}
_NO_LOGPROBS: Final = array(anything(), maxItems=0)

_EVENT: Final = one_of(
    _event(
        "response.created",
        "response.in_progress",
        "response.completed",
        "response.incomplete",
        "response.failed",
        response=ref("Response"),
    ),
    _event("response.output_item.added", "response.output_item.done", output_index=whole(), item=ref("ResponseItem")),
    _event(
        "response.content_part.added",
        "response.content_part.done",
        **_IN_PART,
        part=one_of(
            _OUTPUT_TEXT,
            answered({"type": word("reasoning_text"), "text": text()}, {"annotations": array(anything(), maxItems=0)}),
        ),
    ),
    _event("response.output_text.delta", **_IN_PART, delta=text(), logprobs=_NO_LOGPROBS),
    _event("response.output_text.done", **_IN_PART, text=text(), logprobs=_NO_LOGPROBS),
    _event(
        "response.output_text.annotation.added",
        **_IN_PART,
        annotation_index=whole(),
        annotation=ref("ResponseCitation"),
    ),
    _event("response.reasoning_text.delta", **_IN_PART, delta=text()),
    _event("response.reasoning_text.done", **_IN_PART, text=text()),
    _event("response.function_call_arguments.delta", **_PLACE, delta=text()),
    _event("response.function_call_arguments.done", **_PLACE, name=text(), arguments=text()),
    _event("response.custom_tool_call_input.delta", **_PLACE, delta=text()),
    _event("response.custom_tool_call_input.done", **_PLACE, input=text()),
    about="The data of one event, whose name is its type. The last one is completed, incomplete or failed.",
)

SCHEMAS: Final[Mapping[str, Schema]] = {
    "Response": _RESPONSE,
    "ResponseItem": _ITEM,
    "ResponseCitation": _CITATION,
    "ResponseUsage": _USAGE,
    "ResponseEvent": _EVENT,
    "ResponseDeleted": answered(
        {"id": text(), "object": word("response.deleted"), "deleted": {"type": "boolean", "const": True}}
    ),
    "ResponseInputItems": answered(
        {
            "object": word("list"),
            "data": array({"type": "object", "required": ["id", "type"]}, "As they were sent, each with its id."),
            "first_id": or_null(text()),
            "last_id": or_null(text()),
            "has_more": flag(),
        }
    ),
    "ResponseInputTokens": answered({"object": word("response.input_tokens"), "input_tokens": whole()}),
}
