"""Every error of the API: its status and code, its words of diagnosis, when it comes, and in which calls.

docs/behaviour.md, "Errors", has the same table for people; `/openapi.json` and `/docs` are made of this one.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from upstream.protocol.errors import Reason


class Cause(Enum):
    """What an error is about. A call may meet the errors of each cause that it has."""

    REQUEST = "any request"
    KEY = "its key"
    BODY = "its body"
    QUERY = "its query"
    METRICS = "the right to read metrics"
    MODELS = "the list of models"
    MODEL = "its model"
    PROMPT = "its prompt"
    JSON = "the form of its answer"
    LIMITS = "its key's limits"
    SITE = "the site"
    PICTURES = "its pictures"
    DOCUMENTS = "its documents"
    PREVIOUS = "what it continues"
    STORED = "what is stored"
    THREAD = "a thread"
    NOTHING_THERE = "a path without anything"
    METHOD = "its method"


class Code(NamedTuple):
    """One error: `status` is OpenAI's, `of` is its cause, which says which calls may meet it."""

    status: int
    code: str
    reasons: tuple[Reason, ...]
    when: str
    of: Cause


_REJECTED: Final = (Reason.REJECTED,)
_LIMITED: Final = (Reason.RATE_LIMITED,)

CODES: Final[tuple[Code, ...]] = (
    Code(400, "invalid_http", _REJECTED, "what came is not HTTP", Cause.REQUEST),
    Code(400, "invalid_json", _REJECTED, "the body is not JSON", Cause.BODY),
    Code(400, "invalid_body", _REJECTED, "its chunks, coding or form are broken", Cause.BODY),
    Code(400, "invalid_type", _REJECTED, "a field has a wrong type; `param` is its path", Cause.BODY),
    Code(400, "invalid_value", _REJECTED, "a field has a wrong value; `param` is its path", Cause.BODY),
    Code(400, "invalid_value", _REJECTED, "a parameter has a wrong value; `param` names it", Cause.QUERY),
    Code(400, "missing_required_parameter", _REJECTED, "a field is missing; `param` is its path", Cause.BODY),
    Code(400, "unsupported_parameter", _REJECTED, "a parameter or part is not supported", Cause.BODY),
    Code(400, "unsupported_model", _REJECTED, "the model cannot do what is asked", Cause.PROMPT),
    Code(400, "invalid_image", _REJECTED, "something is not a picture, or there are too many pictures", Cause.PICTURES),
    Code(400, "image_too_large", _REJECTED, "a picture is over `images.max_bytes`", Cause.PICTURES),
    Code(400, "invalid_file", _REJECTED, "a file part is neither a PDF nor a picture", Cause.DOCUMENTS),
    Code(400, "file_too_large", _REJECTED, "a file is over `images.max_bytes`", Cause.DOCUMENTS),
    Code(400, "context_length_exceeded", _REJECTED, "the prompt is over `upstream.max_prompt_chars`", Cause.PROMPT),
    Code(400, "upstream_rejected", _REJECTED, "the site refused the request; the message quotes it", Cause.SITE),
    Code(400, "content_filter", (Reason.MODERATED,), "the site's moderation refused the prompt", Cause.SITE),
    Code(400, "previous_response_not_found", _REJECTED, "the response before is gone", Cause.PREVIOUS),
    Code(400, "item_not_found", _REJECTED, "an item that is referred to is gone", Cause.PREVIOUS),
    Code(400, "unsupported_parameter", _REJECTED, "a stored response is not streamed again", Cause.STORED),
    Code(400, "invalid_request", _REJECTED, "the response has ended: nothing can be cancelled", Cause.STORED),
    Code(400, "thread_unsupported_request", _REJECTED, "`thread`: the bridge keeps none", Cause.THREAD),
    Code(401, "invalid_api_key", _REJECTED, "no key, or a bad one", Cause.KEY),
    Code(401, "key_expired", _REJECTED, "the key has expired", Cause.KEY),
    Code(401, "key_paused", _REJECTED, "the key is paused", Cause.KEY),
    Code(403, "model_not_allowed", _REJECTED, "the key may not use the model", Cause.MODEL),
    Code(403, "metrics_not_allowed", _REJECTED, "the key may not read metrics", Cause.METRICS),
    Code(404, "model_not_found", _REJECTED, "no such model, or one that nobody may choose", Cause.MODEL),
    Code(404, "model_not_found", (Reason.REJECTED, Reason.UPSTREAM_ERROR), "the site has it no more", Cause.SITE),
    Code(404, "not_found", _REJECTED, "no such response of this key", Cause.STORED),
    Code(404, "not_found", _REJECTED, "there is nothing like it here", Cause.NOTHING_THERE),
    Code(405, "method_not_allowed", _REJECTED, "another method, see `Allow`", Cause.METHOD),
    Code(408, "request_timeout", _REJECTED, "the body did not come within `server.body_timeout`", Cause.BODY),
    Code(413, "request_too_large", _REJECTED, "the body is over `server.max_body_bytes`", Cause.BODY),
    Code(414, "request_too_large", _REJECTED, "the request's target has more than 8,190 bytes", Cause.REQUEST),
    Code(415, "unsupported_encoding", _REJECTED, "a `Content-Encoding` that is not known", Cause.BODY),
    Code(417, "expectation_failed", _REJECTED, "an `Expect` other than `100-continue`", Cause.BODY),
    Code(429, "rate_limit_exceeded", _LIMITED, "the key is over its requests a minute or at once", Cause.LIMITS),
    Code(429, "budget_exceeded", _LIMITED, "the key's budget of the day is used up", Cause.LIMITS),
    Code(429, "upstream_rate_limited", _LIMITED, "every account is on cooldown", Cause.SITE),
    Code(431, "request_too_large", _REJECTED, "the head is too large", Cause.REQUEST),
    Code(500, "internal_error", (Reason.UPSTREAM_ERROR,), "a mistake of the bridge's own", Cause.REQUEST),
    Code(
        502,
        "upstream_error",
        (
            Reason.UPSTREAM_ERROR,
            Reason.TRUNCATED,
            Reason.UNREACHABLE,
            Reason.EXPIRED,
            Reason.WRONG_ACCOUNT,
            Reason.SITE_CHANGED,
            Reason.REJECTED,
        ),
        "the model or the site failed, or could not be reached; the reason says how",
        Cause.SITE,
    ),
    Code(502, "upstream_redirect", (Reason.UPSTREAM_ERROR,), "the site has moved; the message names it", Cause.SITE),
    Code(502, "invalid_model_output", (Reason.UPSTREAM_ERROR,), "no call, or no JSON that fits", Cause.JSON),
    Code(502, "image_upload_failed", (Reason.UPSTREAM_ERROR,), "an upload failed for good", Cause.PICTURES),
    Code(
        503,
        "upstream_challenge",
        (Reason.CHALLENGE, Reason.BLOCKED, Reason.RECAPTCHA),
        "the site wants a human, or blocks",
        Cause.SITE,
    ),
    Code(503, "no_account", (Reason.NO_ACCOUNT, Reason.GUEST, Reason.TERMS), "no usable account", Cause.SITE),
    Code(503, "models_unavailable", tuple(Reason), "no list of models can be read", Cause.MODELS),
    Code(503, "upstream_error", (Reason.UPSTREAM_ERROR,), "the site fails for all: wait `Retry-After`", Cause.SITE),
    Code(503, "overloaded", _LIMITED, "the daemon is full or shutting down", Cause.REQUEST),
    Code(503, "ended_by_owner", (Reason.TRUNCATED,), "the owner ended the answer", Cause.SITE),
    Code(504, "upstream_timeout", (Reason.TIMEOUT,), "no first byte, silence, or too long in all", Cause.SITE),
    Code(505, "http_505", _REJECTED, "another version than HTTP/1.0 or 1.1", Cause.REQUEST),
)
