"""Reads requests of the Responses API for tests."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.dialects.fields import Fields
from bridge.dialects.files import FileReader, FileRules
from bridge.dialects.responses.request import ResponsesFields, read_request
from bridge.dialects.responses.stored import StoredResponses
from bridge.errors import ApiError

OWNER = "key-1"


def files() -> FileReader:
    """A file reader that allows two files per request."""
    return FileReader(FileRules(max_bytes=1_000_000, max_per_request=2), {})


def read(body: dict[str, Any], stored: StoredResponses | None = None) -> ResponsesFields:
    """Read a request; `body` overrides the default model and input."""
    asked = Fields({"model": "gemini", "input": "hi", **body})
    return read_request(asked, files(), OWNER, stored or StoredResponses())


def refused(body: dict[str, Any], stored: StoredResponses | None = None) -> tuple[str, str | None]:
    """Check that a request is refused with status 400; return the error's code and parameter."""
    with pytest.raises(ApiError) as caught:
        read(body, stored)
    assert caught.value.status == 400
    assert caught.value.message
    return caught.value.code, caught.value.param
