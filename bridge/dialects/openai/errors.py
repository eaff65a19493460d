"""Errors, rate limits and keys in OpenAI's format, common to all of its APIs."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

import orjson

from bridge.access.limits import Admission
from bridge.dialects.api_key import sent_key
from bridge.dialects.dialect import ErrorAnswer
from bridge.errors import ApiError, error_headers, message_in_stream
from bridge.headers import OPENAI_LIMITS, REQUEST_ID

_TYPES_BY_CODE: Final = {"overloaded": "server_error", "ended_by_owner": "server_error"}
_TYPES_BY_STATUS: Final = {403: "permission_error", 429: "rate_limit_error", 500: "server_error"}


class OpenAI:
    """An `Api`, and the base of OpenAI's dialects (docs/behaviour.md, "Errors")."""

    request_id_header: Final = REQUEST_ID
    key = staticmethod(sent_key)

    def limit_headers(self, admission: Admission, now: float = 0.0) -> dict[str, str]:  # noqa: ARG002 — Dialect has it
        """Make the `x-ratelimit-*` headers; the reset is a duration such as `1.2s` or `1m0s`."""
        values = str(admission.limit), str(admission.remaining), _duration(admission.reset_seconds)
        return dict(zip(OPENAI_LIMITS, values, strict=True))

    def error(self, error: ApiError, request_id: str) -> ErrorAnswer:  # noqa: ARG002 — the id is in a header here
        """Format an error as OpenAI's error object, with the error's own status."""
        return ErrorAnswer(error.status, error_headers(error), error_body(error))


OPENAI: Final = OpenAI()


def error_body(error: ApiError, *, in_stream: bool = False) -> bytes:
    """Encode OpenAI's error object; in a stream it includes what status and headers would say otherwise."""
    return orjson.dumps({"error": error_object(error, in_stream=in_stream)})


def error_object(error: ApiError, *, in_stream: bool) -> dict[str, object]:
    """Build the object under `error`."""
    content: dict[str, object] = {
        "message": message_in_stream(error) if in_stream else error.message,
        "type": error_type(error),
        "param": error.param,
        "code": error.code,
    }
    if in_stream:
        content["reason"] = error.reason.value
    return content


def error_type(error: ApiError) -> str:
    """Return OpenAI's `type` for an error's code and status; an error of the site is an `upstream_error`."""
    usual = "upstream_error" if error.status in (502, 503, 504) else "invalid_request_error"
    return _TYPES_BY_CODE.get(error.code) or _TYPES_BY_STATUS.get(error.status, usual)


@lru_cache(maxsize=8)  # admitted requests often have the same reset
def _duration(seconds: float) -> str:
    minutes, milliseconds = divmod(math.ceil(seconds * 1000), 60_000)
    rest = f"{milliseconds / 1000:g}s"
    return f"{minutes}m{rest}" if minutes else rest
