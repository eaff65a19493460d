"""Stored responses: their bounds and owners, the chains that continue them, and the listing of input items."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any, Final

import orjson
import pytest
from openai.types.responses.response_item_list import ResponseItemList
from openresponses import check_object

from bridge.dialects.responses.ids import input_item_id, item_id, response_id, response_id_of
from bridge.dialects.responses.listed import listed_items, page_of
from bridge.dialects.responses.stored import MAX_BYTES, MAX_RESPONSES, ItemFinder, Stored, StoredResponses
from bridge.errors import ApiError

MINE: Final = "key-1"


def id_of(number: int) -> str:
    return response_id(f"{number:032x}")


def stored(number: int = 0, *, previous: int | None = None, owner: str = MINE, text: str = "") -> Stored:
    """Return a response whose input and output contain its number."""
    before = None if previous is None else id_of(previous)
    given = [{"role": "user", "content": f"ask {number}{text}"}]
    output = [{"type": "message", "id": item_id("msg", f"{number:032x}", 0), "content": f"answer {number}"}]
    return Stored(owner, before, orjson.dumps(given), orjson.dumps({"output": output}))


def said(items: list[object]) -> list[object]:
    return [item["content"] for item in items if isinstance(item, dict)]


def test_the_limits_of_stored_responses_are_as_documented() -> None:
    assert (MAX_RESPONSES, MAX_BYTES) == (10_000, 64 * 1024 * 1024)


def test_the_oldest_stored_responses_are_dropped_first() -> None:
    kept = StoredResponses(max_responses=3)
    for number in range(5):
        kept.put(id_of(number), stored(number))
    assert [id_ for id_, _ in kept] == [id_of(2), id_of(3), id_of(4)]
    assert kept.size == sum(each.size for _, each in kept)


def test_stored_responses_together_stay_within_the_byte_limit() -> None:
    size = stored(0, text="x" * 1000).size
    kept = StoredResponses(max_bytes=3 * size)
    for number in range(9):
        kept.put(id_of(number), stored(number, text="x" * 1000))
        assert kept.size <= 3 * size
    assert len(kept) == 3


@pytest.mark.parametrize("bounds", [{"max_responses": 6}, {"max_bytes": 6 * stored(100, text="x" * 1000).size}])
def test_the_oldest_response_of_the_key_with_the_most_responses_is_dropped_first(bounds: dict[str, int]) -> None:
    kept = StoredResponses(**bounds)
    for number, owner in enumerate(["quiet", "quiet", *["greedy"] * 50, "third", *["greedy"] * 50], 100):
        kept.put(id_of(number), stored(number, owner=owner, text="x" * 1000))
    assert [kept_of.owner for _, kept_of in kept] == ["quiet", "quiet", "third", *["greedy"] * 3]
    for number in range(300, 303):
        kept.put(id_of(number), stored(number, owner="third", text="x" * 1000))
    assert [kept_of.owner for _, kept_of in kept] == ["quiet", "quiet", "greedy", "greedy", *["third"] * 2]
    for id_, _ in list(kept):
        kept.remove(id_)
    assert (len(kept), kept.size) == (0, 0)


@pytest.mark.parametrize(("chars", "fit"), [(100, MAX_RESPONSES), (3_000, MAX_RESPONSES), (10_000, 5_000)])
def test_ten_thousand_stored_responses_use_at_most_64_mib(chars: int, fit: int) -> None:
    """This holds for measured memory too: the counted size is never less than the memory that is used."""
    kept = StoredResponses()
    tracemalloc.start()
    try:
        for number in range(MAX_RESPONSES + 10):
            kept.put(id_of(number), stored(number, text="x" * chars))
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken <= kept.size <= MAX_BYTES
    assert len(kept) >= fit


def test_a_response_over_the_byte_limit_is_not_stored_and_drops_no_other() -> None:
    kept = StoredResponses(max_bytes=2000)
    kept.put(id_of(0), stored(0))
    kept.put(id_of(1), stored(1, text="x" * 3000))
    assert [id_ for id_, _ in kept] == [id_of(0)]


def test_a_stored_response_can_be_replaced_and_removed() -> None:
    kept = StoredResponses()
    kept.put(id_of(0), stored(0, text="longer"))
    kept.put(id_of(0), stored(0))
    assert (len(kept), kept.size) == (1, stored(0).size)
    kept.remove(id_of(0))
    kept.remove(id_of(0))
    assert (len(kept), kept.size) == (0, 0)


def test_a_stored_response_is_visible_only_to_its_own_key() -> None:
    kept = StoredResponses()
    kept.put(id_of(0), stored(0))
    assert kept.find(MINE, id_of(0)) == stored(0)
    assert kept.find("another", id_of(0)) is None
    assert ItemFinder(kept, "another").find(item_id("msg", f"{0:032x}", 0)) is None
    with pytest.raises(ApiError):
        kept.history("another", id_of(0))


def test_a_chain_of_responses_is_read_as_one_history() -> None:
    kept = StoredResponses()
    kept.put(id_of(0), stored(0))
    kept.put(id_of(1), stored(1, previous=0))
    kept.put(id_of(2), stored(2, previous=1))
    kept.put(id_of(3), stored(3, previous=0))
    assert said(kept.history(MINE, id_of(2))) == ["ask 0", "answer 0", "ask 1", "answer 1", "ask 2", "answer 2"]
    assert said(kept.history(MINE, id_of(3))) == ["ask 0", "answer 0", "ask 3", "answer 3"]
    sizes = [kept.history_bytes(MINE, id_of(number)) for number in range(4)]
    assert sizes[2] == kept.size - stored(3, previous=0).size > sizes[1] > sizes[0] > 0
    assert kept.history_bytes("another", id_of(2)) == 0


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_a_chain_with_a_missing_response_is_refused_as_not_found(gone: int) -> None:
    kept = StoredResponses()
    for number in range(3):
        kept.put(id_of(number), stored(number, previous=number - 1 if number else None))
    kept.remove(id_of(gone))
    with pytest.raises(ApiError) as caught:
        kept.history(MINE, id_of(2))
    error = caught.value
    assert (error.status, error.code, error.param) == (400, "previous_response_not_found", "previous_response_id")
    assert id_of(2) in error.message


def test_a_chain_through_another_keys_response_is_refused() -> None:
    kept = StoredResponses()
    kept.put(id_of(0), stored(0, owner="another"))
    kept.put(id_of(1), stored(1, previous=0))
    with pytest.raises(ApiError):
        kept.history(MINE, id_of(1))


def test_stored_items_are_found_by_their_ids() -> None:
    kept = StoredResponses()
    kept.put(id_of(7), stored(7))
    answer, given = item_id("msg", f"{7:032x}", 0), input_item_id(id_of(7), 0)
    finder = ItemFinder(kept, MINE)
    assert said([finder.find(answer)]) == ["answer 7"]
    assert finder.find(given) == listed_items(id_of(7), orjson.loads(stored(7).input))[0]
    assert finder.find(item_id("msg", f"{7:032x}", 1)) is None
    assert finder.find("msg_1") is None


def test_a_second_reference_to_the_same_item_is_refused() -> None:
    kept = StoredResponses()
    kept.put(id_of(7), stored(7))
    reference = {"type": "item_reference", "id": item_id("msg", f"{7:032x}", 0)}
    assert said(list(kept.resolve(MINE, [reference, {"content": "and?"}]))) == ["answer 7", "and?"]
    with pytest.raises(ApiError) as caught:
        list(kept.resolve(MINE, [reference, {"content": "and?"}, reference]))
    assert (caught.value.status, caught.value.param) == (400, "input[2].id")


@pytest.mark.parametrize("index", [0, 9, 0xFFFF, 0x12345])
def test_the_id_of_an_item_contains_the_id_of_its_response(index: int) -> None:
    assert response_id_of(item_id("fc", "ab" * 16, index)) == response_id("ab" * 16)
    assert response_id_of(input_item_id(response_id("ab" * 16), index)) == response_id("ab" * 16)


LISTED: Final[list[dict[str, Any]]] = [
    {"role": "user", "content": "hi"},
    {"type": "message", "role": "assistant", "id": "mine", "content": "hello", "phase": None},
    {
        "role": "user",
        "content": [{"type": "input_text", "text": "see"}, {"type": "input_image", "image_url": "data:,"}],
    },
    {"type": "reasoning", "id": "rs_1", "summary": []},
    {"type": "function_call", "call_id": "1", "name": "look", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "1", "output": "red"},
]


def page(**query: str) -> dict[str, Any]:
    return page_of(listed_items(id_of(1), LISTED), query)


def test_listed_input_items_have_ids_and_typed_content_parts() -> None:
    data = page(order="asc")["data"]
    assert [item["type"] for item in data] == [
        "message",
        "message",
        "message",
        "reasoning",
        "function_call",
        "function_call_output",
    ]
    assert data[0] == {
        "id": input_item_id(id_of(1), 0),
        "type": "message",
        "status": "completed",
        "role": "user",
        "content": [{"type": "input_text", "text": "hi"}],
    }
    assert data[1]["id"] == "mine"
    assert data[1]["content"] == [{"type": "output_text", "text": "hello", "annotations": [], "logprobs": []}]
    assert data[2]["content"][1] == {"type": "input_image", "image_url": "data:,", "detail": "auto"}
    ResponseItemList.model_validate_json(orjson.dumps(page()), strict=True)


@pytest.mark.parametrize("at", range(len(LISTED)))
def test_listed_input_items_match_the_specification(at: int) -> None:
    check_object("ItemField", page(order="asc")["data"][at])


def test_input_items_are_paged_by_order_limit_and_id() -> None:
    ids = [item["id"] for item in page(order="asc")["data"]]
    assert [item["id"] for item in page()["data"]] == ids[::-1]
    first = page(order="asc", limit="4")
    assert (first["object"], first["first_id"], first["last_id"], first["has_more"]) == ("list", ids[0], ids[3], True)
    rest = page(order="asc", limit="4", after=ids[3])
    assert ([item["id"] for item in rest["data"]], rest["has_more"]) == (ids[4:], False)
    nothing = page(order="asc", after=ids[-1])
    assert (nothing["data"], nothing["first_id"], nothing["last_id"]) == ([], None, None)


def test_a_page_of_input_items_has_twenty_unless_limit_is_given() -> None:
    items = listed_items(id_of(1), [{"role": "user", "content": str(at)} for at in range(120)])
    assert len(page_of(items, {})["data"]) == 20  # type: ignore[arg-type]  # a list
    assert len(page_of(items, {"limit": "100"})["data"]) == 100  # type: ignore[arg-type]  # a list


@pytest.mark.parametrize(
    "query", [{"limit": "0"}, {"limit": "101"}, {"limit": "-1"}, {"limit": "x"}, {"order": "up"}, {"after": "zzz"}]
)
def test_an_invalid_page_query_for_input_items_is_refused_by_name(query: dict[str, str]) -> None:
    with pytest.raises(ApiError) as caught:
        page(**query)
    assert (caught.value.status, caught.value.param) == (400, *query)
