"""The Responses API beside asking: what was stored, and what an input would count."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import orjson
from aiohttp import web

from bridge.dialects.responses.stored import Stored
from bridge.errors import ApiError, invalid_request, not_there
from handlers.request.answers import json_response
from handlers.request.appkeys import KEY, RESPONSES
from upstream.protocol.errors import Reason

_OK: Final = {"x-bridge-reason": Reason.OK.value}
#: Items of one page of `input_items`.
MAX_ITEMS: Final = 100
_USUAL_ITEMS: Final = 20


async def get_response(request: web.Request) -> web.Response:
    """GET /responses/{id}: the object as it was stored."""
    if "stream" in request.query:
        message = "A stored response is not streamed again: leave out 'stream'."
        raise invalid_request("unsupported_parameter", message, "stream")
    return json_response(_find(request).response, headers=_OK)


async def delete_response(request: web.Request) -> web.Response:
    """DELETE /responses/{id}."""
    _find(request)
    id_ = request.match_info["id"]
    request.app[RESPONSES].remove(id_)
    return json_response(orjson.dumps({"id": id_, "object": "response.deleted", "deleted": True}), headers=_OK)


async def cancel_response(request: web.Request) -> web.Response:
    """POST /responses/{id}/cancel: only a response in the background could be cancelled, and there are none."""
    _find(request)
    raise invalid_request("invalid_request", "Only responses in the background can be cancelled; this one has ended.")


async def input_items(request: web.Request) -> web.Response:
    """GET /responses/{id}/input_items: a page of what the response was asked, the newest first unless `order=asc`."""
    items = [_with_id(item, at, request.match_info["id"]) for at, item in enumerate(orjson.loads(_find(request).input))]
    if _choice(request.query, "order", "desc", ("asc", "desc")) == "desc":
        items.reverse()
    ids = [item["id"] for item in items]
    start = _place_after(request.query.get("after"), ids)
    limit = _limit(request.query)
    page = items[start : start + limit]
    body = {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": start + limit < len(items),
    }
    return json_response(orjson.dumps(body), headers=_OK)


def _find(request: web.Request) -> Stored:
    id_ = request.match_info["id"]
    stored: Stored | None = request.app[RESPONSES].find(request[KEY].id, id_)
    if stored is None:
        raise not_there(f"Response with id '{id_[:100]}' not found.", "response_id")
    return stored


def _with_id(item: object, at: int, response: str) -> dict[str, object]:
    """An input item as the API lists it: it has an id, and a message has its content as parts."""
    values = dict(item) if isinstance(item, Mapping) else {}
    values.setdefault("id", f"item_{response.removeprefix('resp_')}{at:04x}")
    if values.get("role") is not None:
        values.setdefault("type", "message")
        values.setdefault("status", "completed")
        if isinstance(values.get("content"), str):
            kind = "output_text" if values["role"] == "assistant" else "input_text"
            noted: dict[str, object] = {"annotations": []} if kind == "output_text" else {}
            values["content"] = [{"type": kind, "text": values["content"], **noted}]
    return values


def _place_after(after: str | None, ids: list[object]) -> int:
    if after is None:
        return 0
    if after not in ids:
        raise invalid_request("invalid_value", "'after' names no item of this response.", "after")
    return ids.index(after) + 1


def _limit(query: Mapping[str, str]) -> int:
    text = query.get("limit", str(_USUAL_ITEMS))
    if not text.isdecimal() or len(text) > len(str(MAX_ITEMS)) or not 1 <= int(text) <= MAX_ITEMS:
        raise invalid_request("invalid_value", f"'limit' must be 1 to {MAX_ITEMS}.", "limit")
    return int(text)


def _choice(query: Mapping[str, str], name: str, usual: str, allowed: tuple[str, ...]) -> str:
    value = query.get(name, usual)
    if value not in allowed:
        raise invalid_request("invalid_value", f"'{name}' must be {' or '.join(allowed)}.", name)
    return value


async def no_websocket(_: web.Request) -> web.Response:
    """GET /responses: clients that ask for a WebSocket go on without one."""
    raise ApiError(405, "method_not_allowed", "There is no WebSocket here: send POST.", accepted={"Allow": "POST"})


async def no_compaction(_: web.Request) -> web.Response:
    """POST /responses/compact."""
    raise not_there("The bridge does not compact conversations: let your client do it, by a request of its own.")
