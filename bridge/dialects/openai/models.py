"""Encodes OpenAI's list of models, with details from LMArena."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import orjson

from upstream.protocol.models import Model

#: `created` of a model whose id (a UUIDv4) has no timestamp: a constant, 2025-01-01.
_UNKNOWN_CREATED: Final = 1_735_689_600


def encode_list(models: Iterable[tuple[str, Model]], context_window: int) -> bytes:
    """Encode a list of models under their listed names, all with the same context window in tokens."""
    return orjson.dumps({"object": "list", "data": [_object(name, model, context_window) for name, model in models]})


def encode_one(name: str, model: Model, context_window: int) -> bytes:
    """Encode one model under the requested name."""
    return orjson.dumps(_object(name, model, context_window))


def _object(name: str, model: Model, context_window: int) -> dict[str, object]:
    display_name = {} if model.display_name is None else {"display_name": model.display_name}
    return {
        "id": name,
        "object": "model",
        "created": created(model.id),
        "owned_by": model.organization or "stealth",
        **display_name,
        "capabilities": {"input": sorted(model.inputs), "output": sorted(model.outputs)},
        "modality": "video" if model.video else model.modality,
        "rank": model.rank,
        "context_window": context_window,
    }


def created(model_id: str) -> int:
    """Return the Unix time in seconds in a model's id: a UUIDv7 begins with milliseconds."""
    digits = model_id.replace("-", "")
    return int(digits[:12], 16) // 1000 if digits[12:13] == "7" else _UNKNOWN_CREATED
