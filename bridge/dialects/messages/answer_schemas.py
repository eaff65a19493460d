"""Answers of the Messages API described: the message, every event of a stream, errors, models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bridge.dialects.messages.answer import STOP_REASONS
from bridge.dialects.messages.errors import error_type
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
    word,
)
from bridge.error_codes import CODES
from bridge.errors import ApiError

_STOP_REASON: Final = word(*STOP_REASONS.values(), "stop_sequence")
_CITATION: Final = answered(
    {
        "type": word("web_search_result_location"),
        "url": text(),
        "title": text(),
        "cited_text": text(),
        "encrypted_index": text(),
    }
)
_BLOCK: Final = one_of(
    answered({"type": word("text"), "text": text()}, {"citations": array(ref("MessageCitation"))}),
    answered(
        {"type": word("thinking"), "thinking": text(), "signature": text("Made up: nothing checks it.")},
        about="Only where the request asked for it.",
    ),
    answered({"type": word("tool_use"), "id": text(), "name": text(), "input": anything()}),
)


def _message(stop_reason: Schema, usage: Schema) -> Schema:
    return answered(
        {
            "id": text(),
            "type": word("message"),
            "role": word("assistant"),
            "model": text("As it was asked for; x-bridge-model says which one answers."),
            "content": array(ref("MessageAnswerBlock")),
            "stop_reason": stop_reason,
            "stop_sequence": or_null(text("The one that was met.")),
            "usage": usage,
        }
    )


_ERROR_TYPES: Final = sorted({error_type(ApiError(row.status, row.code, "")) for row in CODES})
_ERROR: Final = answered(
    {"type": word(*_ERROR_TYPES), "message": text("What is wrong, and what to do.")},
    {"details": answered({"error_code": text()})},
)

_EVENT: Final = one_of(
    answered(
        {
            "type": word("message_start"),
            "message": _message({"type": "null"}, answered({"input_tokens": whole(), "output_tokens": whole()})),
        }
    ),
    answered({"type": word("content_block_start"), "index": whole(), "content_block": ref("MessageAnswerBlock")}),
    answered(
        {
            "type": word("content_block_delta"),
            "index": whole(),
            "delta": one_of(
                answered({"type": word("text_delta"), "text": text()}),
                answered({"type": word("thinking_delta"), "thinking": text()}),
                answered({"type": word("signature_delta"), "signature": text()}),
                answered({"type": word("citations_delta"), "citation": ref("MessageCitation")}),
                answered({"type": word("input_json_delta"), "partial_json": text()}),
            ),
        }
    ),
    answered({"type": word("content_block_stop"), "index": whole()}),
    answered(
        {
            "type": word("message_delta"),
            "delta": answered({"stop_reason": _STOP_REASON, "stop_sequence": or_null(text())}),
            "usage": ref("MessageUsage"),
        }
    ),
    answered({"type": word("message_stop")}),
    answered({"type": word("ping")}, about="While an answer is waited for."),
    answered({"type": word("error"), "error": _ERROR}, about="The stream broke off: nothing comes behind it."),
    about="The data of one event, whose name is its type. The last one is message_stop, or an error.",
)

_MODEL: Final = answered(
    {
        "type": word("model"),
        "id": text("The name to ask for."),
        "display_name": text(),
        "created_at": text(format="date-time"),
        "lifecycle": word("active"),
        "max_input_tokens": whole(),
    }
)

SCHEMAS: Final[Mapping[str, Schema]] = {
    "Message": _message(_STOP_REASON, ref("MessageUsage")),
    "MessageAnswerBlock": _BLOCK,
    "MessageCitation": _CITATION,
    "MessageUsage": answered(
        {
            "input_tokens": whole("Without what was read from the cache."),
            "cache_creation_input_tokens": whole(),
            "cache_read_input_tokens": whole("What was not sent again."),
            "output_tokens": whole(),
            "output_tokens_details": answered({"thinking_tokens": whole()}),
        },
        about="An estimate.",
    ),
    "MessageEvent": _EVENT,
    "MessageTokens": answered({"input_tokens": whole()}),
    "MessageError": answered({"type": word("error"), "error": _ERROR, "request_id": text()}),
    "MessageModel": _MODEL,
    "MessageModelPage": answered(
        {
            "data": array(ref("MessageModel")),
            "has_more": flag(),
            "first_id": or_null(text()),
            "last_id": or_null(text()),
        }
    ),
    "ModelInEitherForm": any_of(ref("Model"), ref("MessageModel")),
    "ModelsInEitherForm": any_of(ref("ModelList"), ref("MessageModelPage")),
}
