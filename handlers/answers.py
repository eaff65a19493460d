"""Answers that are one JSON document, errors among them."""

from __future__ import annotations

from aiohttp import web

from bridge.dialects.chat_answers import error_body
from bridge.errors import ApiError


def json_response(body: bytes, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A JSON document."""
    return web.Response(body=body, status=status, content_type="application/json", headers=headers)


def error_response(error: ApiError) -> web.Response:
    """OpenAI's error object under its true status."""
    response = json_response(error_body(error), status=error.status, headers=error.http_headers())
    if response.headers.get("Connection") == "close":
        response.force_close()
    return response
