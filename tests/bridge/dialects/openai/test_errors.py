"""Errors and limits in the form of OpenAI's APIs."""

from __future__ import annotations

import orjson
import pytest

from bridge.access.limits import Admission
from bridge.dialects.openai.errors import OPENAI
from bridge.errors import ApiError, ended_by_owner, internal_error, invalid_api_key, invalid_request, overloaded


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0s"), (1.2, "1.2s"), (0.0001, "0.001s"), (12.3456, "12.346s"), (59.9999, "1m0s"), (63.0, "1m3s")],
)
def test_rate_limit_headers_are_formatted_as_openais(seconds: float, text: str) -> None:
    assert OPENAI.limit_headers(Admission(True, 60, 59, seconds, 0.0)) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": text,
    }


@pytest.mark.parametrize(
    ("error", "type_"),
    [
        pytest.param(invalid_request("invalid_value", "No."), "invalid_request_error", id="400"),
        pytest.param(invalid_api_key(), "invalid_request_error", id="401"),
        pytest.param(ApiError(403, "model_not_allowed", "No."), "permission_error", id="403"),
        pytest.param(ApiError(404, "model_not_found", "No."), "invalid_request_error", id="404"),
        pytest.param(ApiError(413, "request_too_large", "No."), "invalid_request_error", id="413"),
        pytest.param(ApiError(429, "rate_limit_exceeded", "No."), "rate_limit_error", id="429"),
        pytest.param(internal_error(), "server_error", id="a mistake of ours"),
        pytest.param(ApiError(502, "upstream_error", "No."), "upstream_error", id="502"),
        pytest.param(ApiError(503, "no_account", "No."), "upstream_error", id="503"),
        pytest.param(overloaded("No."), "server_error", id="overloaded"),
        pytest.param(ended_by_owner(), "server_error", id="ended in the dashboard"),
        pytest.param(ApiError(504, "upstream_timeout", "No."), "upstream_error", id="504"),
    ],
)
def test_the_error_type_follows_from_status_and_code(error: ApiError, type_: str) -> None:
    answer = OPENAI.error(error, "req_1")
    spelt = orjson.loads(answer.body)["error"]
    assert answer.status == error.status
    assert (spelt["type"], spelt["code"], spelt["message"]) == (type_, error.code, error.message)
    assert answer.headers["x-bridge-reason"] == error.reason.value
