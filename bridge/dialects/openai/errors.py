"""How OpenAI's APIs spell errors, limits and keys: what Chat Completions, Images and Models have in common."""

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
    """What is the same in each of OpenAI's APIs (an `Api`, docs/behaviour.md, "Errors")."""

    request_id_header: Final = REQUEST_ID
    key = staticmethod(sent_key)

    def limit_headers(self, admission: Admission, now: float = 0.0) -> dict[str, str]:  # noqa: ARG002
        """The `x-ratelimit-*` headers; the reset is a duration such as `1.2s` or `1m0s`."""
        told = str(admission.limit), str(admission.remaining), _duration(admission.reset_seconds)
        return dict(zip(OPENAI_LIMITS, told, strict=True))

    def error(self, error: ApiError, request_id: str) -> ErrorAnswer:  # noqa: ARG002 — its header says it
        """OpenAI's error object under the error's own status."""
        return ErrorAnswer(error.status, error_headers(error), error_body(error))


OPENAI: Final = OpenAI()


def error_body(error: ApiError, *, in_stream: bool = False) -> bytes:
    """OpenAI's error object; in a stream it says itself what otherwise status and headers say."""
    return orjson.dumps({"error": error_object(error, in_stream=in_stream)})


def error_object(error: ApiError, *, in_stream: bool) -> dict[str, object]:
    """What stands under `error`."""
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
    """OpenAI's `type`, by code and status. What the site is to blame for is an `upstream_error`."""
    usual = "upstream_error" if error.status in (502, 503, 504) else "invalid_request_error"
    return _TYPES_BY_CODE.get(error.code) or _TYPES_BY_STATUS.get(error.status, usual)


@lru_cache(maxsize=8)  # a request that is admitted has the same reset as the one before
def _duration(seconds: float) -> str:
    minutes, milliseconds = divmod(math.ceil(seconds * 1000), 60_000)
    rest = f"{milliseconds / 1000:g}s"
    return f"{minutes}m{rest}" if minutes else rest
