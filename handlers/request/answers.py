"""Answers that are a single JSON document, among them errors."""

from __future__ import annotations

from aiohttp import web

from bridge.config.schema import Config
from bridge.dialects.dialect import Api
from bridge.errors import ApiError
from bridge.headers import REASON
from handlers.request.aiohttp_internals import CallerResponse
from handlers.request.writing import CallerWriter
from upstream.protocol.errors import Reason


def json_response(body: bytes, *, status: int = 200, headers: dict[str, str]) -> web.Response:
    """A response with a JSON document."""
    return web.Response(body=body, status=status, content_type="application/json", headers=headers)


def ok_response(body: bytes) -> web.Response:
    """A JSON document with status 200 and the reason `ok`."""
    return json_response(body, headers={REASON: Reason.OK.value})


async def write_json(request: web.Request, body: bytes, config: Config) -> web.StreamResponse:
    """Send a JSON document, which may be large, in slices as the caller reads it."""
    response = CallerResponse(headers={"Content-Type": "application/json; charset=utf-8", REASON: Reason.OK.value})
    response.content_length = len(body)
    writer = CallerWriter(request, response, config.server.write_timeout)
    await writer.prepare()
    await writer.write_whole(body)
    return response


def error_response(error: ApiError, api: Api, request_id: str) -> web.Response:
    """An error in the format of the caller's API, with its HTTP status."""
    status, headers, body = api.error(error, request_id)
    response = json_response(body, status=status, headers=headers)
    if response.headers.get("Connection") == "close":
        response.force_close()
    return response
