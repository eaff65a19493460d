"""The three calls, byte for byte as PROTOCOL writes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upstream.evaluations import CONTENT_TYPE, Attachment, create, follow_up, referer, regenerate
from upstream.models import Model

CAT = Attachment("u1/1-cat.png", "image/png", "https://r2.example/u1/1-cat.png?X-Amz-Expires=3600&x=1")


def model(*outputs: str) -> Model:
    return Model("m-1", "gpt", "openai", None, frozenset({"text"}), frozenset(outputs), False, 1, ())


def ids() -> Callable[[], str]:
    numbers = count(1)
    return lambda: f"id-{next(numbers)}"


def test_create() -> None:
    call = create(model("text"), "Hello", [CAT], ids(), mode="direct-battle")
    assert (call.method, call.path) == ("POST", "/nextjs-api/stream/create-evaluation")
    assert call.body == (
        b'{"id":"id-1","mode":"direct-battle","modelAId":"m-1","userMessageId":"id-2","modelAMessageId":"id-3",'
        b'"userMessage":{"content":"Hello","experimental_attachments":[{"name":"u1/1-cat.png",'
        b'"contentType":"image/png","url":"https://r2.example/u1/1-cat.png?X-Amz-Expires=3600&x=1"}]},'
        b'"modality":"chat"}'
    )
    assert (call.evaluation_id, call.message_id) == ("id-1", "id-3")


def test_follow_up_has_no_mode_and_two_new_ids() -> None:
    call = follow_up("ev-9", model("text"), "And?", [], ids())
    assert (call.method, call.path) == ("POST", "/nextjs-api/stream/post-to-evaluation/ev-9")
    assert call.body == (
        b'{"id":"ev-9","modelAId":"m-1","userMessageId":"id-1","modelAMessageId":"id-2",'
        b'"userMessage":{"content":"And?","experimental_attachments":[]},"modality":"chat"}'
    )
    assert (call.evaluation_id, call.message_id) == ("ev-9", "id-2")


def test_regenerate() -> None:
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
def test_the_body_names_the_modality_of_the_model(outputs: list[str], modality: str) -> None:
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
def test_what_a_prompt_may_hold(prompt: str, content: str) -> None:
    assert json.loads(create(model("text"), prompt, [], ids(), mode="direct").body)["userMessage"]["content"] == content


@given(st.text())
def test_every_legal_prompt_arrives_unchanged(prompt: str) -> None:
    assert json.loads(follow_up("e", model("text"), prompt, [], ids()).body)["userMessage"]["content"] == prompt


def test_the_headers_of_a_browser() -> None:
    assert referer("https://arena.example", "ev-9") == "https://arena.example/c/ev-9"
    assert CONTENT_TYPE == "text/plain;charset=UTF-8"
