"""Encodes the models as the Messages API lists them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import orjson

from bridge.dialects.openai.models import created
from bridge.dialects.paging import read_limit
from bridge.errors import invalid_request
from upstream.protocol.models import Model

#: The default and maximum number of models on a page, as in the original API.
DEFAULT_PAGE: Final = 20
MAX_PAGE: Final = 1000


def encode_page(models: Sequence[tuple[str, Model]], query: Mapping[str, str], max_tokens: int) -> bytes:
    """Encode one page of the list, selected by `limit`, `before_id` and `after_id`. Raises ApiError (400)."""
    ids = [name for name, _ in models]
    limit = read_limit(query, default=DEFAULT_PAGE, maximum=MAX_PAGE)
    start, end = 0, len(models)
    if (after := query.get("after_id")) is not None:
        start = _index(ids, after, "after_id") + 1
    if (before := query.get("before_id")) is not None:
        end = _index(ids, before, "before_id")
    page = models[start:end][-limit:] if before is not None and after is None else models[start:end][:limit]
    return orjson.dumps(
        {
            "data": [_object(name, model, max_tokens) for name, model in page],
            "has_more": len(page) < end - start,
            "first_id": page[0][0] if page else None,
            "last_id": page[-1][0] if page else None,
        }
    )


def encode_one(name: str, model: Model, max_tokens: int) -> bytes:
    """Encode one model under the requested name."""
    return orjson.dumps(_object(name, model, max_tokens))


def _object(name: str, model: Model, max_tokens: int) -> dict[str, object]:
    at = datetime.fromtimestamp(created(model.id), UTC)
    return {
        "type": "model",
        "id": name,
        "display_name": model.display_name or name,
        "created_at": at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "lifecycle": "active",
        "max_input_tokens": max_tokens,
    }


def _index(ids: Sequence[str], id_: str, param: str) -> int:
    if id_ not in ids:
        raise invalid_request("invalid_value", f"'{param}' is not the id of a model in the list.", param)
    return ids.index(id_)
