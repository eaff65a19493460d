"""Pages of the list of models in the Messages API."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from anthropic.types import ModelInfo

from bridge.dialects.messages.models import encode_one, encode_page
from bridge.errors import ApiError
from upstream.protocol.models import Model

NAMES = [f"model-{number}" for number in range(25)]
MODELS = [
    (
        name,
        Model(
            f"01900000-0000-7000-8000-0000000000{at:02}", name, None, None, frozenset(), frozenset(), False, None, ()
        ),
    )
    for at, name in enumerate(NAMES)
]

PAGES = {
    "the first": ({}, NAMES[:20], True),
    "all": ({"limit": "1000"}, NAMES, False),
    "behind one": ({"after_id": "model-19"}, NAMES[20:], False),
    "a few behind one": ({"after_id": "model-1", "limit": "2"}, ["model-2", "model-3"], True),
    "before one": ({"before_id": "model-3"}, NAMES[:3], False),
    "a few before one": ({"before_id": "model-3", "limit": "2"}, ["model-1", "model-2"], True),
    "behind the last": ({"after_id": "model-24"}, [], False),
    "between two": ({"after_id": "model-1", "before_id": "model-4"}, ["model-2", "model-3"], False),
}


def page(query: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(encode_page(MODELS, query, 28_000))
    return found


@pytest.mark.parametrize(("query", "names", "more"), PAGES.values(), ids=PAGES)
def test_the_list_of_models_is_paged_by_limit_and_ids(query: dict[str, str], names: list[str], more: bool) -> None:
    found = page(query)
    assert ([model["id"] for model in found["data"]], found["has_more"]) == (names, more)
    assert (found["first_id"], found["last_id"]) == ((names[0], names[-1]) if names else (None, None))


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "1001"}, "limit"),
        ({"limit": "a"}, "limit"),
        ({"after_id": "a"}, "after_id"),
    ],
)
def test_refusals(query: dict[str, str], param: str) -> None:
    with pytest.raises(ApiError) as raised:
        page(query)
    assert (raised.value.status, raised.value.param) == (400, param)


def test_a_single_model_is_encoded_as_in_the_sdk() -> None:
    name, model = MODELS[0]
    body = encode_one(name, model, 28_000)
    found = orjson.loads(body)
    assert found == {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": "2024-06-10T02:35:18Z",
        "lifecycle": "active",
        "max_input_tokens": 28_000,
    }
    ModelInfo.model_validate_json(body, strict=True)
