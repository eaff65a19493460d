"""Requests of the Responses API as a test reads them."""

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
    """A reader of files with room for two."""
    return FileReader(FileRules(max_bytes=1_000_000, max_per_request=2), {})


def read(body: dict[str, Any], stored: StoredResponses | None = None) -> ResponsesFields:
    """Read a request for some model."""
    asked = Fields({"model": "gemini", "input": "hi", **body})
    return read_request(asked, files(), OWNER, stored or StoredResponses())


def refused(body: dict[str, Any], stored: StoredResponses | None = None) -> tuple[str, str | None]:
    """The code and the parameter of the 400 for a request."""
    with pytest.raises(ApiError) as caught:
        read(body, stored)
    assert caught.value.status == 400
    assert caught.value.message
    return caught.value.code, caught.value.param
