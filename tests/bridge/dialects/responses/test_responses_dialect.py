"""The Responses API as a dialect: the links it finds, the responses it stores, and the fields that its errors name."""

from __future__ import annotations

from typing import Any, Final

import orjson
import pytest
from response_requests import OWNER, files

from bridge.answering.chat import Usage
from bridge.dialects.dialect import Dialect, ReportsErrorsInStream, Stamp, StatefulDialect, StoringRequest
from bridge.dialects.fields import Fields
from bridge.dialects.files import FileReader, FileRules
from bridge.dialects.responses.dialect import Responses, count_responses
from bridge.dialects.responses.ids import response_id
from bridge.dialects.responses.stored import StoredResponses
from bridge.errors import ApiError, context_exceeded, invalid_request

CAT: Final = "https://example.org/cat.png"
STAMP: Final = Stamp("ab" * 16, 1, 2)


@pytest.fixture
def dialect() -> Responses:
    return Responses(StoredResponses(), lambda: 2.0)


def asking(**body: Any) -> Fields:
    return Fields({"model": "gemini", "input": "hi", **body})


def answer(dialect: Responses, **body: Any) -> dict[str, Any]:
    """Read a request and return an empty response to it."""
    found: dict[str, Any] = orjson.loads(
        dialect.read(asking(**body), files(), OWNER).collector(STAMP).finish("stop", Usage(1, 1, 0))
    )
    return found


def picture(url: object) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "input_image", "image_url": url}]}]


def test_the_responses_api_is_a_stateful_dialect(dialect: Responses) -> None:
    as_dialect: Dialect = dialect
    assert isinstance(as_dialect, StatefulDialect)
    request = dialect.read(asking(), files(), OWNER)
    assert isinstance(request, StoringRequest)
    assert isinstance(request.encoder(STAMP), ReportsErrorsInStream)


def test_a_response_is_stored_for_its_key_once_it_is_answered(dialect: Responses) -> None:
    request = dialect.read(asking(), files(), OWNER)
    assert request.input_bytes == len(b'[{"type":"message","role":"user","content":"hi"}]')
    assert len(dialect.stored) == 0
    body = request.collector(STAMP).finish("stop", Usage(1, 1, 0))
    stored = dialect.stored.find(OWNER, response_id(STAMP.id))
    assert stored is not None
    assert (stored.response, len(stored.input), stored.previous) == (body, request.input_bytes, None)


def test_a_request_with_store_false_stores_nothing(dialect: Responses) -> None:
    assert dialect.read(asking(store=False), files(), OWNER).input_bytes == 0
    answer(dialect, store=False)
    assert len(dialect.stored) == 0


def test_stored_bytes_count_what_a_request_continues(dialect: Responses) -> None:
    answer(dialect)
    size = dialect.stored.size
    reference = {"type": "item_reference", "id": f"item_{STAMP.id}0000"}
    assert dialect.stored_bytes(asking(), OWNER) == 0
    assert dialect.stored_bytes(asking(previous_response_id=response_id(STAMP.id)), OWNER) == size
    assert dialect.stored_bytes(asking(input=[reference, reference]), OWNER) == size
    assert dialect.stored_bytes(asking(previous_response_id=response_id(STAMP.id)), "another") == 0
    assert dialect.stored_bytes(asking(previous_response_id=7, input=7), OWNER) == 0


def test_picture_links_are_found_in_the_input_of_a_request(dialect: Responses) -> None:
    assert list(dialect.links(asking(input=picture(CAT)), OWNER)) == [CAT]
    assert list(dialect.links(asking(input=picture({"url": CAT})), OWNER)) == [CAT]
    output = [{"type": "function_call_output", "call_id": "1", "output": picture(CAT)[0]["content"]}]
    assert list(dialect.links(asking(input=output), OWNER)) == [CAT]
    nothing: list[Any] = [[7, {"content": 7}], {"content": []}, picture(7), picture("data:,"), None]
    for wrong in nothing:
        assert list(dialect.links(asking(input=wrong), OWNER)) == []


def test_picture_links_are_found_in_the_response_that_a_request_continues(dialect: Responses) -> None:
    given = picture(CAT)
    reader = FileReader(FileRules(1000, 2), {CAT: None})  # not yet fetched
    dialect.read(asking(input=given), reader, OWNER).collector(STAMP).finish("stop", Usage(1, 1, 0))
    id_ = response_id(STAMP.id)
    assert list(dialect.links(asking(previous_response_id=id_), OWNER)) == [CAT]
    assert list(dialect.links(asking(input=[{"id": f"item_{STAMP.id}0000"}]), OWNER)) == [CAT]
    assert list(dialect.links(asking(previous_response_id=id_), "another")) == []


def test_errors_about_the_messages_name_the_input_field(dialect: Responses) -> None:
    def param(error: ApiError) -> object:
        return orjson.loads(dialect.error(error, "r").body)["error"]["param"]

    assert param(context_exceeded("Shorten.", 2, 1)) == "input"
    assert param(invalid_request("invalid_value", "No.", "model")) == "model"
    assert param(invalid_request("invalid_value", "No.")) is None


def test_a_request_can_be_read_for_counting_its_tokens() -> None:
    chat = count_responses(StoredResponses())(asking(instructions="Be brief."), files(), OWNER)
    assert [message.text for message in chat.messages] == ["Be brief.", "hi"]
