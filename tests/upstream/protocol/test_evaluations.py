"""The three calls, byte for byte as in docs/protocol.md, "Evaluations"."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st

from upstream.protocol.evaluations import (
    CONTENT_TYPE,
    Attachment,
    create,
    follow_up,
    history_path,
    read_back,
    referer,
    regenerate,
)
from upstream.protocol.models import Model

CAT = Attachment("u1/1-cat.png", "image/png", "https://r2.example/u1/1-cat.png?X-Amz-Expires=3600&x=1")


def model(*outputs: str) -> Model:
    return Model("m-1", "gpt", "openai", None, frozenset({"text"}), frozenset(outputs), False, 1, ())


def ids() -> Callable[[], str]:
    numbers = count(1)
    return lambda: f"id-{next(numbers)}"


def test_a_create_call_has_the_documented_path_body_and_ids() -> None:
    call = create(model("text"), "Hello", [CAT], ids(), mode="direct-battle")
    assert (call.method, call.path) == ("POST", "/nextjs-api/stream/create-evaluation")
    assert call.body == (
        b'{"id":"id-1","mode":"direct-battle","modelAId":"m-1","userMessageId":"id-2","modelAMessageId":"id-3",'
        b'"userMessage":{"content":"Hello","experimental_attachments":[{"name":"u1/1-cat.png",'
        b'"contentType":"image/png","url":"https://r2.example/u1/1-cat.png?X-Amz-Expires=3600&x=1"}],'
        b'"metadata":{}},"modality":"chat"}'
    )
    assert (call.evaluation_id, call.message_id) == ("id-1", "id-3")


def test_a_follow_up_call_has_no_mode_and_two_new_ids() -> None:
    call = follow_up("ev-9", model("text"), "And?", [], ids())
    assert (call.method, call.path) == ("POST", "/nextjs-api/stream/post-to-evaluation/ev-9")
    assert call.body == (
        b'{"id":"ev-9","modelAId":"m-1","userMessageId":"id-1","modelAMessageId":"id-2",'
        b'"userMessage":{"content":"And?","experimental_attachments":[],"metadata":{}},"modality":"chat"}'
    )
    assert (call.evaluation_id, call.message_id) == ("ev-9", "id-2")


def test_a_regenerate_call_is_a_put_of_an_empty_object() -> None:
    call = regenerate("ev-9", "msg-2")
    assert call.method == "PUT"
    assert call.path == "/nextjs-api/stream/retry-evaluation-session-message/ev-9/messages/msg-2"
    assert call.body == b"{}"
    assert (call.evaluation_id, call.message_id) == ("ev-9", "msg-2")


@pytest.mark.parametrize(
    ("outputs", "modality"),
    [
        pytest.param(["text"], "chat", id="text"),
        pytest.param(["text", "web"], "chat", id="web"),
        pytest.param(["search", "text"], "search", id="search"),
        pytest.param(["image", "search"], "image", id="image goes first"),
        pytest.param(["video"], "chat", id="video"),
    ],
)
def test_a_calls_body_names_the_modality_of_its_model(outputs: list[str], modality: str) -> None:
    assert json.loads(create(model(*outputs), "x", [], ids(), mode="direct").body)["modality"] == modality


@pytest.mark.parametrize(
    ("prompt", "content"),
    [
        pytest.param("\ud83d\ude00", "😀", id="a pair in two halves"),
        pytest.param("a\ud83db", "a�b", id="a lone high surrogate"),
        pytest.param("\ude00", "�", id="a lone low surrogate"),
        pytest.param("\u2028\x00\r\ufeff", "\u2028\x00\r\ufeff", id="odd but legal characters"),
    ],
)
def test_lone_surrogates_in_a_prompt_are_replaced_and_pairs_are_joined(prompt: str, content: str) -> None:
    assert json.loads(create(model("text"), prompt, [], ids(), mode="direct").body)["userMessage"]["content"] == content


@given(st.text())
def test_every_legal_prompt_arrives_unchanged(prompt: str) -> None:
    assert json.loads(follow_up("e", model("text"), prompt, [], ids()).body)["userMessage"]["content"] == prompt


def test_calls_have_the_referer_and_the_content_type_of_a_browser() -> None:
    assert referer("https://arena.example", "ev-9") == "https://arena.example/c/ev-9"
    assert CONTENT_TYPE == "text/plain;charset=UTF-8"


# Reading an evaluation back


def message(**changes: object) -> dict[str, object]:
    """An answer as the site returns it; a field given as `...` is omitted."""
    whole = {
        "id": "msg-2",
        "role": "assistant",
        "content": "Hello 👋",
        "modelId": "m-1",
        "participantPosition": "a",
        "status": "success",
        "failureReason": None,
    }
    return {key: value for key, value in (whole | changes).items() if value is not ...}


def document(*messages: object) -> bytes:
    return json.dumps({"id": "ev-9", "messages": messages}).encode()


#: By field, the values with which a message is not a complete answer.
OTHERWISE: dict[str, tuple[object, ...]] = {
    "status": ("pending", "failed", "flagged", "stopped", None, ...),
    "role": ("user", "system", None, ...),
    "content": (None, 1, ["Hello"], {}, ...),
    "participantPosition": ("b", None),
}

ASKED = message(id="msg-1", role="user", content="Who are you?")


def test_an_evaluation_is_read_from_its_documented_path() -> None:
    assert history_path("ev-9") == "/api/evaluation/ev-9"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(message(), id="as seen"),
        pytest.param(message(id=..., participantPosition=..., modelId=..., failureReason=...), id="what is needed"),
    ],
)
def test_the_last_answer_is_read_back(answer: object) -> None:
    assert read_back(document(ASKED, answer), "msg-2") == "Hello 👋"
    assert read_back(document(answer), "msg-2") == "Hello 👋"


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param([], id="no message"),
        pytest.param([message(), ASKED], id="a question follows it"),
        pytest.param([ASKED, message(id="msg-0")], id="the answer to another question"),
        *(
            pytest.param([ASKED, message(**{name: value})], id=f"{name} {value}")
            for name, wrong in OTHERWISE.items()
            for value in wrong
        ),
    ],
)
def test_an_incomplete_answer_is_not_read_back(messages: list[object]) -> None:
    assert read_back(document(*messages), "msg-2") is None


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"{}", b'{"messages":{}}', b"<html>", b'{"messages":[1]}', b"\xff"]
)
def test_an_invalid_evaluation_is_not_read_back(body: bytes) -> None:
    assert read_back(body, "msg-2") is None


def test_a_lone_surrogate_in_a_question_does_not_hide_the_answer() -> None:
    body = json.dumps({"messages": [message(role="user", content="\ud83e"), message(content="an \ud83e")]}).encode()
    assert read_back(body, "msg-2") == "an \ufffd"


@given(st.text())
def test_every_text_of_an_answer_is_read_back_unchanged(text: str) -> None:
    assert read_back(document(ASKED, message(content=text)), "msg-2") == text


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
fields = st.dictionaries(
    st.sampled_from(["id", "role", "content", "participantPosition", "status"]),
    st.sampled_from(["msg-2", "assistant", "user", "a", "b", "success", "pending"]) | values,
)


@a_share(of=5)
@given(st.binary(max_size=200) | st.lists(fields | values, max_size=3).map(lambda each: document(*each)))
def test_only_the_content_of_a_complete_answer_is_read_back(body: bytes) -> None:
    text = read_back(body, "msg-2")
    if text is not None:
        last: dict[str, Any] = json.loads(body)["messages"][-1]
        assert (last["role"], last["status"], last["content"]) == ("assistant", "success", text)
        assert last.get("id", "msg-2") == "msg-2"
        assert last.get("participantPosition", "a") == "a"
