"""The rest of the Responses API: stored responses, and calls that are not supported."""

from __future__ import annotations

import orjson
from aiohttp import web

from bridge.dialects.responses.listed import listed_items, page_of
from bridge.dialects.responses.stored import Stored
from bridge.errors import ApiError, invalid_request, not_found
from handlers.request.answers import ok_response
from handlers.request.appkeys import KEY, SHARED_RESPONSES, STORED_RESPONSES


async def get_response(request: web.Request) -> web.Response:
    """GET /responses/{id}: the response as it was stored."""
    if request.query.get("stream", "").lower() == "true":
        message = "A stored response cannot be streamed: leave out 'stream'."
        raise invalid_request("unsupported_parameter", message, "stream")
    return ok_response((await _find(request)).response)


async def delete_response(request: web.Request) -> web.Response:
    """DELETE /responses/{id}: delete the response, in all processes."""
    await _find(request)
    id_ = request.match_info["id"]
    request.app[STORED_RESPONSES].remove(id_)
    if (shared := request.app[SHARED_RESPONSES]) is not None:
        await shared.wait_until_confirmed()
    return ok_response(orjson.dumps({"id": id_, "object": "response.deleted", "deleted": True}))


async def cancel_response(request: web.Request) -> web.Response:
    """POST /responses/{id}/cancel: an error, since only background responses can be cancelled, and there are none."""
    await _find(request)
    message = "Only background responses can be cancelled; this response has ended."
    raise invalid_request("invalid_request", message, "response_id")


async def input_items(request: web.Request) -> web.Response:
    """GET /responses/{id}/input_items: a page of the request's items."""
    items = listed_items(request.match_info["id"], orjson.loads((await _find(request)).input))
    return ok_response(orjson.dumps(page_of(items, request.query)))


async def _find(request: web.Request) -> Stored:
    id_ = request.match_info["id"]
    if (shared := request.app[SHARED_RESPONSES]) is not None:
        await shared.fetch(request[KEY].id, (id_,))
    stored: Stored | None = request.app[STORED_RESPONSES].find(request[KEY].id, id_)
    if stored is None:
        raise not_found(f"Response with id '{id_[:100]}' not found.", "response_id")
    return stored


async def no_websocket(_: web.Request) -> web.Response:
    """GET /responses: an error, after which clients that want a WebSocket do without one."""
    raise ApiError(405, "method_not_allowed", "There is no WebSocket here: send POST.", accepted={"Allow": "POST"})


async def no_compaction(_: web.Request) -> web.Response:
    """POST /responses/compact: an error, since the bridge does not compact conversations."""
    raise not_found("The bridge does not compact conversations: have your client do it, with a request of its own.")
