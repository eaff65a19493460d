"""The model catalog of 2026: the models grouped by the arenas in which they compete (`docs/protocol.md`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from upstream.arena.models import UNREADABLE, Model


def _is_chat(model: Model) -> bool:
    return bool(model.outputs.get("text"))


def _is_document(model: Model) -> bool:
    return _is_chat(model) and bool(model.inputs.get("file"))


def _gives(output: str) -> Callable[[Model], bool]:
    return lambda model: bool(model.outputs.get(output))


# A model belongs to every group whose condition it meets.
_GROUPS: Final[Mapping[str, Callable[[Model], bool]]] = {
    "text": _is_chat,
    "code": _gives("web"),
    "document": _is_document,
    "text-to-image": _gives("image"),
    "text-to-video": _gives("video"),
    "search": _gives("search"),
}


def catalog(models: Sequence[Model]) -> list[dict[str, Any]]:
    """The groups for `GET /nextjs-api/model-catalog`, with one invalid entry among the chat models."""
    groups = {arena: [model.catalog_entry for model in models if belongs(model)] for arena, belongs in _GROUPS.items()}
    groups["text"].insert(len(groups["text"]) // 2, dict(UNREADABLE))
    return [{"arena": arena, "models": entries, "complete": True} for arena, entries in groups.items()]
