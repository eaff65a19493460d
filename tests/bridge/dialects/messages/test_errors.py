"""Errors in the form of the Messages API, each with a status that its SDKs know."""

from __future__ import annotations

import orjson
import pytest
from multidict import CIMultiDict

from bridge.access.limits import Admission
from bridge.dialects.fields import Fields
from bridge.dialects.files import FileReader, FileRules
from bridge.dialects.messages.errors import ANTHROPIC
from bridge.dialects.messages.request import read_request
from bridge.errors import ApiError, context_exceeded, invalid_api_key, overloaded

STATUSES = {
    400: (400, "invalid_request_error"),
    401: (401, "authentication_error"),
    403: (403, "permission_error"),
    404: (404, "not_found_error"),
    405: (405, "invalid_request_error"),
    413: (413, "request_too_large"),
    415: (415, "invalid_request_error"),
    429: (429, "rate_limit_error"),
    500: (500, "api_error"),
    502: (502, "api_error"),
    503: (529, "overloaded_error"),
    504: (504, "timeout_error"),
}


@pytest.mark.parametrize(("status", "expected"), STATUSES.items(), ids=map(str, STATUSES))
def test_the_error_type_follows_from_the_status(status: int, expected: tuple[int, str]) -> None:
    answer = ANTHROPIC.error(ApiError(status, "a_code", "Why."), "req_1")
    error = {"type": expected[1], "message": "Why."}
    assert answer.status == expected[0]
    assert orjson.loads(answer.body) == {"type": "error", "error": error, "request_id": "req_1"}


def test_errors_carry_the_headers_common_to_all_apis() -> None:
    assert ANTHROPIC.error(overloaded("Full.", 2.5), "req_1").headers["Retry-After"] == "3"
    assert ANTHROPIC.error(invalid_api_key(), "req_1").headers["WWW-Authenticate"] == "Bearer"


def test_a_prompt_over_the_limit_gets_the_error_text_that_agents_recognise() -> None:
    answer = ANTHROPIC.error(context_exceeded("Drop some.", 30_000, 28_250), "req_1")
    error = orjson.loads(answer.body)["error"]
    assert (answer.status, error["type"]) == (400, "invalid_request_error")
    assert error["message"] == "prompt is too long: 30000 tokens > 28250 maximum"


def test_a_thread_is_refused_with_the_code_that_makes_the_sdk_resend_the_history() -> None:
    fields = Fields({"thread": {"type": "create"}, "model": "claude"})
    with pytest.raises(ApiError) as raised:
        read_request(fields, FileReader(FileRules(1, 1), {}))
    error = orjson.loads(ANTHROPIC.error(raised.value, "req_1").body)["error"]
    assert error["details"] == {"error_code": "thread_unsupported_request"}


def test_limits() -> None:
    admission = Admission(allowed=True, limit=60, remaining=59, reset_seconds=1.0, retry_after=0.0)
    assert ANTHROPIC.limit_headers(admission, 1_700_000_000.0) == {
        "anthropic-ratelimit-requests-limit": "60",
        "anthropic-ratelimit-requests-remaining": "59",
        "anthropic-ratelimit-requests-reset": "2023-11-14T22:13:21Z",
    }


@pytest.mark.parametrize("name", ["Authorization", "x-api-key", "api-key"])
def test_keys(name: str) -> None:
    assert ANTHROPIC.key(CIMultiDict({name: "sk-1"})) == "sk-1"
