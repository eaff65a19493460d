"""Lists input items as the API does: with ids, with content as parts, and in pages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from bridge.dialects.paging import read_limit
from bridge.dialects.responses.ids import input_item_id
from bridge.errors import invalid_request

#: The maximum and default number of items on a page.
MAX_ITEMS: Final = 100
_DEFAULT_ITEMS: Final = 20

#: Required fields of content parts that clients may leave out.
_PART_FIELDS: Final[Mapping[object, Mapping[str, object]]] = {
    "output_text": {"annotations": [], "logprobs": []},
    "input_image": {"detail": "auto"},
}
_WITH_STATUS: Final = frozenset({"message", "function_call", "function_call_output"})


def listed_items(response: str, items: Iterable[object]) -> list[dict[str, object]]:
    """Complete the input items of the response with this id."""
    return [_listed(item, at, response) for at, item in enumerate(items) if isinstance(item, Mapping)]


def page_of(items: Sequence[Mapping[str, object]], query: Mapping[str, str]) -> dict[str, object]:
    """Build one page: at most `limit` items after the item `after`, the newest first unless `order` is `asc`.

    Raises ApiError (400) that names the parameter.
    """
    if _order(query) == "desc":
        items = items[::-1]
    ids = [item["id"] for item in items]
    start, limit = _index_after(query.get("after"), ids), read_limit(query, default=_DEFAULT_ITEMS, maximum=MAX_ITEMS)
    page = items[start : start + limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": start + limit < len(items),
    }


def _listed(item: Mapping[str, object], at: int, response: str) -> dict[str, object]:
    values = {name: value for name, value in item.items() if value is not None}
    values.setdefault("id", input_item_id(response, at))
    kind = values.setdefault("type", "message")
    if kind in _WITH_STATUS:
        values.setdefault("status", "completed")
    if kind == "message":
        answered = values.get("role") == "assistant"
        content = values.get("content")
        if isinstance(content, str):
            content = [{"type": "output_text" if answered else "input_text", "text": content}]
        values["content"] = [_whole_part(part) for part in content] if isinstance(content, list) else []
    if kind == "reasoning":
        values.setdefault("summary", [])
    return values


def _whole_part(part: object) -> object:
    """Add the required fields that a content part lacks."""
    if not isinstance(part, dict):
        return part
    return {**_PART_FIELDS.get(part.get("type"), {}), **part}


def _order(query: Mapping[str, str]) -> str:
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise invalid_request("invalid_value", "'order' must be asc or desc.", "order")
    return order


def _index_after(after: str | None, ids: Sequence[object]) -> int:
    if after is None:
        return 0
    if after not in ids:
        raise invalid_request("invalid_value", "'after' is not the id of an item of this response.", "after")
    return ids.index(after) + 1
