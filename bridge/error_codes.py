"""Every error of the API: its status and code, its words of diagnosis, when it occurs, and in which calls.

docs/behaviour.md, "Errors", has the same table for people; `/openapi.json` and `/docs` are generated from this one.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from upstream.protocol.errors import Reason


class Cause(Enum):
    """What an error is about. A call can fail with the errors of each cause that its description lists."""

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
    NOTHING_THERE = "an unknown path"
    METHOD = "its method"


class Code(NamedTuple):
    """One error: `status` is OpenAI's, and `of` is its cause, which decides which calls can fail with it."""

    status: int
    code: str
    reasons: tuple[Reason, ...]
    when: str
    of: Cause


_REJECTED: Final = (Reason.REJECTED,)
_LIMITED: Final = (Reason.RATE_LIMITED,)

CODES: Final[tuple[Code, ...]] = (
    Code(400, "invalid_http", _REJECTED, "the request is not valid HTTP", Cause.REQUEST),
    Code(400, "invalid_json", _REJECTED, "the body is not valid JSON", Cause.BODY),
    Code(400, "invalid_body", _REJECTED, "the body's chunks, content coding or form are malformed", Cause.BODY),
    Code(400, "invalid_type", _REJECTED, "a field has the wrong type; `param` is its path", Cause.BODY),
    Code(400, "invalid_value", _REJECTED, "a field has an invalid value; `param` is its path", Cause.BODY),
    Code(400, "invalid_value", _REJECTED, "a parameter has an invalid value; `param` names it", Cause.QUERY),
    Code(400, "missing_required_parameter", _REJECTED, "a field is missing; `param` is its path", Cause.BODY),
    Code(400, "unsupported_parameter", _REJECTED, "a parameter or part is not supported", Cause.BODY),
    Code(400, "unsupported_model", _REJECTED, "the model cannot do what the request asks for", Cause.PROMPT),
    Code(400, "invalid_image", _REJECTED, "something is not a picture, or there are too many pictures", Cause.PICTURES),
    Code(400, "image_too_large", _REJECTED, "a picture is larger than `images.max_bytes`", Cause.PICTURES),
    Code(400, "invalid_file", _REJECTED, "a file part is neither a PDF nor a picture", Cause.DOCUMENTS),
    Code(400, "file_too_large", _REJECTED, "a file is larger than `images.max_bytes`", Cause.DOCUMENTS),
    Code(
        400, "context_length_exceeded", _REJECTED, "the prompt is longer than `upstream.max_prompt_chars`", Cause.PROMPT
    ),
    Code(400, "upstream_rejected", _REJECTED, "the site refused the request; the message quotes the site", Cause.SITE),
    Code(400, "content_filter", (Reason.MODERATED,), "the site's moderation refused the prompt", Cause.SITE),
    Code(400, "previous_response_not_found", _REJECTED, "the previous response is gone", Cause.PREVIOUS),
    Code(400, "item_not_found", _REJECTED, "a referenced item is gone", Cause.PREVIOUS),
    Code(400, "unsupported_parameter", _REJECTED, "a stored response cannot be streamed", Cause.STORED),
    Code(400, "invalid_request", _REJECTED, "the response has ended and cannot be cancelled", Cause.STORED),
    Code(400, "thread_unsupported_request", _REJECTED, "`thread` was sent: the bridge keeps no threads", Cause.THREAD),
    Code(401, "invalid_api_key", _REJECTED, "the key is missing or invalid", Cause.KEY),
    Code(401, "key_expired", _REJECTED, "the key has expired", Cause.KEY),
    Code(401, "key_paused", _REJECTED, "the key is paused", Cause.KEY),
    Code(403, "model_not_allowed", _REJECTED, "the key may not use the model", Cause.MODEL),
    Code(403, "metrics_not_allowed", _REJECTED, "the key may not read metrics", Cause.METRICS),
    Code(404, "model_not_found", _REJECTED, "the model does not exist or cannot be chosen", Cause.MODEL),
    Code(
        404, "model_not_found", (Reason.REJECTED, Reason.UPSTREAM_ERROR), "the site no longer has the model", Cause.SITE
    ),
    Code(404, "not_found", _REJECTED, "this key has no such response", Cause.STORED),
    Code(404, "not_found", _REJECTED, "there is nothing at this path", Cause.NOTHING_THERE),
    Code(405, "method_not_allowed", _REJECTED, "the method is not one that `Allow` names", Cause.METHOD),
    Code(408, "request_timeout", _REJECTED, "the body did not arrive within `server.body_timeout`", Cause.BODY),
    Code(413, "request_too_large", _REJECTED, "the body is larger than `server.max_body_bytes`", Cause.BODY),
    Code(414, "request_too_large", _REJECTED, "the request target is longer than 8,190 bytes", Cause.REQUEST),
    Code(415, "unsupported_encoding", _REJECTED, "the `Content-Encoding` is not supported", Cause.BODY),
    Code(417, "expectation_failed", _REJECTED, "`Expect` is not `100-continue`", Cause.BODY),
    Code(429, "rate_limit_exceeded", _LIMITED, "the key is over its requests per minute or at once", Cause.LIMITS),
    Code(429, "budget_exceeded", _LIMITED, "the key's daily budget is used up", Cause.LIMITS),
    Code(429, "upstream_rate_limited", _LIMITED, "every account is on cooldown", Cause.SITE),
    Code(431, "request_too_large", _REJECTED, "the request's head is too large", Cause.REQUEST),
    Code(500, "internal_error", (Reason.UPSTREAM_ERROR,), "an internal error of the bridge", Cause.REQUEST),
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
    Code(502, "upstream_redirect", (Reason.UPSTREAM_ERROR,), "the site has moved; the message says where", Cause.SITE),
    Code(
        502,
        "invalid_model_output",
        (Reason.UPSTREAM_ERROR,),
        "the model made no tool call, or gave no JSON that fits",
        Cause.JSON,
    ),
    Code(502, "image_upload_failed", (Reason.UPSTREAM_ERROR,), "a file could not be uploaded", Cause.PICTURES),
    Code(
        503,
        "upstream_challenge",
        (Reason.CHALLENGE, Reason.BLOCKED, Reason.RECAPTCHA),
        "the site demands a human, or blocks the bridge",
        Cause.SITE,
    ),
    Code(503, "no_account", (Reason.NO_ACCOUNT, Reason.GUEST, Reason.TERMS), "there is no usable account", Cause.SITE),
    Code(503, "models_unavailable", tuple(Reason), "the list of models cannot be read", Cause.MODELS),
    Code(
        503,
        "upstream_error",
        (Reason.UPSTREAM_ERROR,),
        "the site is failing; wait as long as `Retry-After` says",
        Cause.SITE,
    ),
    Code(503, "overloaded", _LIMITED, "the daemon is full or shutting down", Cause.REQUEST),
    Code(503, "ended_by_owner", (Reason.TRUNCATED,), "the owner ended the answer", Cause.SITE),
    Code(504, "upstream_timeout", (Reason.TIMEOUT,), "the answer did not start, stalled, or took too long", Cause.SITE),
    Code(505, "http_505", _REJECTED, "the version is neither HTTP/1.0 nor HTTP/1.1", Cause.REQUEST),
)
