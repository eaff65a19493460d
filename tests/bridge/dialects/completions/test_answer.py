"""Completions, streamed and whole: both carry the same content, for each choice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from examples import a_share
from frames import DONE, frames, frames_by_lines
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Completion

from bridge.answering.chat import Usage
from bridge.answering.events import MAX_WHOLE_CHARS, AnswerEvent, Stopped
from bridge.dialects.completions.answer import TextCompletionCollector, TextCompletionEncoder
from bridge.dialects.openai.chat_answer import Header
from bridge.errors import ApiError, overloaded
from upstream.protocol.events import Citations, Images, ReasoningDeltas, Source, TextDeltas

HEADER = Header("cmpl-1", 1_700_000_000, "m")
USAGE = Usage(prompt=7, completion=5, reasoning=2)


def text(*deltas: str) -> TextDeltas:
    return TextDeltas("".join(deltas), b"\n".join(map(orjson.dumps, deltas)))


def chunks_of(body: bytes) -> list[dict[str, Any]]:
    *chunks, done = frames(body)
    assert frames_by_lines(body) == [*chunks, done]
    assert done == DONE
    found = [orjson.loads(chunk) for chunk in chunks]
    for chunk in found:
        if not (chunk["choices"] and chunk["choices"][0]["finish_reason"] is None):
            Completion.model_validate(chunk, strict=True)
    return found


Batches = Sequence[tuple[int, Sequence[AnswerEvent]]]


def streamed(batches: Batches, echoed: Sequence[str] = ("",), *, include_usage: bool = False) -> list[dict[str, Any]]:
    encoder = TextCompletionEncoder(HEADER, echoed, include_usage=include_usage)
    body = encoder.start() + b"".join([encoder.encode_choice(index, batch) for index, batch in batches])
    body += b"".join([encoder.finish_one(index, "stop") for index in range(len(echoed))])
    return chunks_of(body + encoder.end(lambda: USAGE))


def collected(batches: Batches, echoed: Sequence[str] = ("",)) -> dict[str, Any]:
    collector = TextCompletionCollector(HEADER, echoed)
    for index, batch in batches:
        collector.add_to_choice(index, batch)
    for index in range(len(echoed)):
        collector.finish_one(index, "stop")
    body = collector.end(USAGE)
    Completion.model_validate_json(body, strict=True)
    found: dict[str, Any] = orjson.loads(body)
    return found


def joined(chunks: Sequence[dict[str, Any]], index: int) -> str:
    choices = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
    assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + ["stop"]
    return "".join(choice["text"] for choice in choices)


CASES: dict[str, tuple[list[AnswerEvent], str]] = {
    "one delta": ([text("hello")], "hello"),
    "several": ([text("a", "b"), text("c")], "abc"),
    "line ends": ([text("\u2028\u2029\u0085\n")], "\u2028\u2029\u0085\n"),
    "a picture": ([Images(("https://a.example/1",))], "![image](https://a.example/1)\n"),
    "thoughts have no place": ([ReasoningDeltas("hm", b'"hm"'), text("a")], "a"),
    "nor have citations": ([Citations((Source("https://a.example"),)), text("a")], "a"),
    "nor the stop string that was met": ([text("a"), Stopped("b")], "a"),
    "nothing": ([], ""),
}


@pytest.mark.parametrize(("batch", "whole"), CASES.values(), ids=CASES)
def test_a_streamed_completion_has_the_text_of_the_whole_one(batch: list[AnswerEvent], whole: str) -> None:
    (choice,) = collected([(0, batch)])["choices"]
    assert choice == {"index": 0, "text": whole, "logprobs": None, "finish_reason": "stop"}
    assert joined(streamed([(0, batch)]), 0) == whole


def test_completions_and_chunks_have_the_documented_fields() -> None:
    about = {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1_700_000_000,
        "model": "m",
        "system_fingerprint": "fp_lmarena_bridge",
    }
    whole = collected([(0, [text("a")])])
    assert {name: whole[name] for name in about} == about
    assert (whole["usage"]["prompt_tokens"], whole["usage"]["total_tokens"]) == (7, 12)
    first, last = streamed([(0, [text("a")])])
    assert first == about | {"choices": [{"index": 0, "text": "a", "logprobs": None, "finish_reason": None}]}
    assert last == about | {"choices": [{"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"}]}


def test_the_usage_chunk_ends_a_stream() -> None:
    *chunks, last = streamed([(0, [text("a")])], include_usage=True)
    assert {chunk["usage"] for chunk in chunks} == {None}
    assert (last["choices"], last["usage"]["completion_tokens"]) == ([], 5)


def test_an_echoed_prompt_starts_each_choice_once() -> None:
    batches: Batches = [(0, [text("a")]), (1, []), (0, [text("b")])]
    assert [choice["text"] for choice in collected(batches, ("x", "y"))["choices"]] == ["xab", "y"]
    chunks = streamed(batches, ("x", "y"))
    assert [joined(chunks, index) for index in (0, 1)] == ["xab", "y"]


def test_an_error_during_a_stream_is_sent_as_an_event() -> None:
    (event,) = frames(TextCompletionEncoder(HEADER, ("",), include_usage=False).error(overloaded("Full.")))
    error = orjson.loads(event)["error"]
    assert (error["message"], error["code"], error["reason"]) == ("Full.", "overloaded", "rate_limited")


def test_the_message_of_a_temporary_failure_suggests_a_retry() -> None:
    failed = ApiError(502, "upstream_error", "It broke off.")
    (event,) = frames(TextCompletionEncoder(HEADER, ("",), include_usage=False).error(failed))
    assert orjson.loads(event)["error"]["message"] == "It broke off. You can retry your request."


def test_a_whole_answer_longer_than_the_limit_is_refused() -> None:
    collector = TextCompletionCollector(HEADER, ("",))
    collector.add([text("a" * MAX_WHOLE_CHARS)])
    assert collector.size == MAX_WHOLE_CHARS
    with pytest.raises(ApiError) as raised:
        collector.add([text("a")])
    assert raised.value.status == 502


words = st.text(st.characters(codec="utf-8"), max_size=8)
events = st.lists(words, min_size=1, max_size=3).map(lambda deltas: text(*deltas))


@a_share(of=20)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.lists(events, max_size=3)), max_size=8),
    st.lists(words, min_size=3, max_size=3),
    st.booleans(),
)
def test_every_stream_carries_the_text_of_the_whole_answer(
    batches: list[tuple[int, list[AnswerEvent]]], echoed: list[str], include_usage: bool
) -> None:
    chunks = streamed(batches, echoed, include_usage=include_usage)
    whole = collected(batches, echoed)
    assert [joined(chunks, index) for index in range(3)] == [choice["text"] for choice in whole["choices"]]
