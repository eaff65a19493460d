"""The schemas of the Messages API's answers: the message, every event of a stream, errors, models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bridge.dialects.messages.answer import STOP_REASONS
from bridge.dialects.messages.errors import error_type
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
)
from bridge.error_codes import CODES
from bridge.errors import ApiError

_STOP_REASON: Final = literal(*STOP_REASONS.values(), "stop_sequence")
_CITATION: Final = output_object(
    {
        "type": literal("web_search_result_location"),
        "url": string(),
        "title": string(),
        "cited_text": string(),
        "encrypted_index": string(),
    }
)
_BLOCK: Final = one_of(
    output_object({"type": literal("text"), "text": string()}, {"citations": array(ref("MessageCitation"))}),
    output_object(
        {"type": literal("thinking"), "thinking": string(), "signature": string("A placeholder: nothing checks it.")},
        about="Only if the request asked for it.",
    ),
    output_object({"type": literal("tool_use"), "id": string(), "name": string(), "input": any_object()}),
)


def _message(stop_reason: Schema, usage: Schema) -> Schema:
    return output_object(
        {
            "id": string(),
            "type": literal("message"),
            "role": literal("assistant"),
            "model": string("The name that the request used; `x-bridge-model` has the model that answers."),
            "content": array(ref("MessageAnswerBlock")),
            "stop_reason": stop_reason,
            "stop_sequence": nullable(string("The stop sequence at which the answer ended.")),
            "usage": usage,
        }
    )


_ERROR_TYPES: Final = sorted({error_type(ApiError(row.status, row.code, "")) for row in CODES})
_ERROR: Final = output_object(
    {"type": literal(*_ERROR_TYPES), "message": string("What is wrong, and what to do about it.")},
    {"details": output_object({"error_code": string()})},
)

_EVENT: Final = one_of(
    output_object(
        {
            "type": literal("message_start"),
            "message": _message(
                {"type": "null"}, output_object({"input_tokens": integer(), "output_tokens": integer()})
            ),
        }
    ),
    output_object(
        {"type": literal("content_block_start"), "index": integer(), "content_block": ref("MessageAnswerBlock")}
    ),
    output_object(
        {
            "type": literal("content_block_delta"),
            "index": integer(),
            "delta": one_of(
                output_object({"type": literal("text_delta"), "text": string()}),
                output_object({"type": literal("thinking_delta"), "thinking": string()}),
                output_object({"type": literal("signature_delta"), "signature": string()}),
                output_object({"type": literal("citations_delta"), "citation": ref("MessageCitation")}),
                output_object({"type": literal("input_json_delta"), "partial_json": string()}),
            ),
        }
    ),
    output_object({"type": literal("content_block_stop"), "index": integer()}),
    output_object(
        {
            "type": literal("message_delta"),
            "delta": output_object({"stop_reason": _STOP_REASON, "stop_sequence": nullable(string())}),
            "usage": ref("MessageUsage"),
        }
    ),
    output_object({"type": literal("message_stop")}),
    output_object({"type": literal("ping")}, about="Sent while the bridge waits for the answer."),
    output_object({"type": literal("error"), "error": _ERROR}, about="The stream broke off. It ends with this event."),
    about="The data of one event; the event's name is its type. The last event is `message_stop` or an error.",
)

_MODEL: Final = output_object(
    {
        "type": literal("model"),
        "id": string("The name to use in requests."),
        "display_name": string(),
        "created_at": string(format="date-time"),
        "lifecycle": literal("active"),
        "max_input_tokens": integer(),
    }
)

SCHEMAS: Final[Mapping[str, Schema]] = {
    "Message": _message(_STOP_REASON, ref("MessageUsage")),
    "MessageAnswerBlock": _BLOCK,
    "MessageCitation": _CITATION,
    "MessageUsage": output_object(
        {
            "input_tokens": integer("Without the tokens that count as read from the cache."),
            "cache_creation_input_tokens": integer(),
            "cache_read_input_tokens": integer("The tokens that a follow-up did not have to send again."),
            "output_tokens": integer(),
            "output_tokens_details": output_object({"thinking_tokens": integer()}),
        },
        about="Estimates.",
    ),
    "MessageEvent": _EVENT,
    "MessageTokens": output_object({"input_tokens": integer()}),
    "MessageError": output_object({"type": literal("error"), "error": _ERROR, "request_id": string()}),
    "MessageModel": _MODEL,
    "MessageModelPage": output_object(
        {
            "data": array(ref("MessageModel")),
            "has_more": boolean(),
            "first_id": nullable(string()),
            "last_id": nullable(string()),
        }
    ),
    "ModelInEitherForm": any_of(ref("Model"), ref("MessageModel")),
    "ModelsInEitherForm": any_of(ref("ModelList"), ref("MessageModelPage")),
}
