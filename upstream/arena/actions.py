"""The site's two server actions for uploads: their arguments and their results.

Source: `docs/protocol.md`, "Server actions and uploads".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import orjson

from upstream.arena.replies import RefusedError, error
from upstream.arena.storage import Storage
from upstream.arena.traits import Era

_IMAGE_TYPES: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_FILE_TYPES: Final[Mapping[Era, frozenset[str]]] = {2025: _IMAGE_TYPES, 2026: _IMAGE_TYPES | {"application/pdf"}}

Result: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Uploads:
    """The storage for uploads, and the era whose rules apply."""

    storage: Storage
    era: Era


@dataclass(frozen=True, slots=True)
class Action:
    """One action: the `kind` of its calls, and `run(uploads, user_id, signed_ago, *arguments)`."""

    kind: str
    arguments: int
    run: Callable[..., Result]


def read_arguments(body: bytes, number: int) -> list[str]:
    """Parse a JSON array of that many strings. Raises RefusedError (400)."""
    try:
        arguments = orjson.loads(body)
    except orjson.JSONDecodeError as cause:
        raise RefusedError(error(400, "Invalid JSON in the request body")) from cause
    match arguments:
        case [*values] if len(values) == number and all(isinstance(value, str) for value in values):
            return values
    raise RefusedError(error(400, f"Expected an array of {number} string(s)"))


def failed(message: str) -> Result:
    """The result of an action that did not succeed."""
    return {"success": False, "error": message}


def _upload_url(uploads: Uploads, user_id: str, signed_ago: float, name: str, content_type: str) -> Result:
    """Return a URL to PUT a file to."""
    if content_type not in _FILE_TYPES[uploads.era]:
        return failed(f"Unsupported file type: {content_type}")
    if not name or "/" in name:
        return failed("Invalid file name")
    key = uploads.storage.new_key(user_id, name)
    url = uploads.storage.presign("PUT", key, content_type=content_type, signed_ago=signed_ago)
    return {"success": True, "data": {"uploadUrl": url, "key": key}}


def _signed_url(uploads: Uploads, user_id: str, signed_ago: float, key: str) -> Result:
    """Return a URL to GET an uploaded file from; only the account's own files."""
    if not key.startswith(f"{user_id}/") or key not in uploads.storage.objects:
        return failed("File not found")
    return {"success": True, "data": {"url": uploads.storage.presign("GET", key, signed_ago=signed_ago)}}


ACTIONS: Final[Mapping[str, Action]] = {
    "generateUploadUrl": Action("upload-url", 2, _upload_url),
    "getSignedUrl": Action("sign", 1, _signed_url),
}
