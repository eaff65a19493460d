"""Errors and rate limits in the Messages API's format (docs/fronts.md, "Messages")."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import orjson

from bridge.access.limits import Admission
from bridge.dialects.api_key import sent_key
from bridge.dialects.dialect import ErrorAnswer
from bridge.errors import ApiError, ContextExceeded, error_headers, message_in_stream
from bridge.headers import ANTHROPIC_LIMITS, ANTHROPIC_REQUEST_ID

#: A header that Anthropic's clients always send.
VERSION_HEADER: Final = "anthropic-version"

#: The error code after which the SDK sends the request again without a thread.
THREAD_UNSUPPORTED: Final = "thread_unsupported_request"

_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class Anthropic:
    """An `Api`, and the base of the dialect."""

    request_id_header: Final = ANTHROPIC_REQUEST_ID
    key = staticmethod(sent_key)

    def limit_headers(self, admission: Admission, now: float) -> dict[str, str]:
        """Make the `anthropic-ratelimit-requests-*` headers; the reset is a time in RFC 3339."""
        reset = datetime.fromtimestamp(now + admission.reset_seconds, UTC)
        at = reset.isoformat(timespec="seconds").replace("+00:00", "Z")
        return dict(zip(ANTHROPIC_LIMITS, (str(admission.limit), str(admission.remaining), at), strict=True))

    def error(self, error: ApiError, request_id: str) -> ErrorAnswer:
        """Format an error as this API's error object; instead of 503 the status is 529."""
        body = {**error_object(error), "request_id": request_id}
        return ErrorAnswer(_status(error), error_headers(error), orjson.dumps(body))


ANTHROPIC: Final = Anthropic()


def error_object(error: ApiError, *, in_stream: bool = False) -> dict[str, object]:
    """Build the error object, as in an event of a stream, or in a body without its request id."""
    content: dict[str, object] = {"type": error_type(error), "message": _message(error, in_stream=in_stream)}
    if error.code == THREAD_UNSUPPORTED:
        content["details"] = {"error_code": error.code}
    return {"type": "error", "error": content}


def error_type(error: ApiError) -> str:
    """Return this API's `type` for an error's status."""
    status = _status(error)
    return _TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")


def _status(error: ApiError) -> int:
    return 529 if error.status == 503 else error.status


def _message(error: ApiError, *, in_stream: bool) -> str:
    if isinstance(error, ContextExceeded):
        return f"prompt is too long: {error.tokens} tokens > {error.max_tokens} maximum"
    return message_in_stream(error) if in_stream else error.message
