"""The Responses API's answers: every stream is legal and carries the same content as the whole answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson
import pytest
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st
from openresponses import check_event, check_object
from response_events import Json, Read, check_sdk_response, events_of, read_events

from bridge.answering.chat import Usage
from bridge.answering.events import AnswerEvent, Stopped, ToolCalls
from bridge.answering.messages import ToolCall
from bridge.dialects.dialect import Stamp
from bridge.dialects.responses import output
from bridge.dialects.responses.answer import ResponseCollector, ResponseEncoder
from bridge.dialects.responses.output import ResponseHead
from bridge.dialects.responses.tools import ToolNames
from bridge.errors import ApiError, context_exceeded, invalid_request, overloaded
from upstream.protocol.events import Citations, Images, ReasoningDeltas, Source, TextDeltas

USAGE: Final = Usage(prompt=12, completion=7, reasoning=3, cached=5)
ECHO: Final[dict[str, object]] = {
    "model": "gemini",
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "background": False,
    "temperature": 1,
    "top_p": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "top_logprobs": 0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "truncation": "disabled",
}
NAMES: Final = ToolNames({"look": ("look", None), "crm.find": ("find", "crm"), "patch": ("patch", "files")})


def deltas(*texts: str) -> TextDeltas:
    return TextDeltas("".join(texts), b"\n".join(map(orjson.dumps, texts)))


def thoughts(*texts: str) -> ReasoningDeltas:
    return ReasoningDeltas("".join(texts), b"\n".join(map(orjson.dumps, texts)))


def head(kept: list[bytes] | None = None) -> ResponseHead:
    keep = ([] if kept is None else kept).append
    return ResponseHead(Stamp("ab" * 16, 1_700_000_000, 12), orjson.dumps(ECHO), NAMES, keep, lambda: 1_700_000_001.5)


def streamed(*batches: Sequence[AnswerEvent], reason: str | None = "stop", error: ApiError | None = None) -> list[Json]:
    """Return the events of an answer that ends for `reason` or with an error."""
    encoder = ResponseEncoder(head())
    body = encoder.start() + b"".join(map(encoder.encode, batches))
    body += encoder.finish(reason, lambda: USAGE) if error is None else encoder.error(error)
    return events_of(body)


def whole(*batches: Sequence[AnswerEvent], reason: str | None = "stop") -> Json:
    collector = ResponseCollector(head())
    for batch in batches:
        collector.add(batch)
    response: Json = orjson.loads(collector.finish(reason, USAGE))
    return response


def read(*batches: Sequence[AnswerEvent], **options: Any) -> Read:
    return read_events(streamed(*batches, **options))


LOOK: Final = ToolCall("call_1", "look", '{"at":"this"}')
FIND: Final = ToolCall("call_2", "crm.find", "{}")
PATCH: Final = ToolCall("call_3", "patch", "*** Begin\n\u2028", "custom")
SOURCE: Final = Source("https://a.example/", "A", (3, 1))

ANSWERS: Final[dict[str, list[list[AnswerEvent]]]] = {
    "a text": [[deltas("Hel", "lo")], [deltas(" you")]],
    "nothing": [],
    "an empty delta": [[deltas("")]],
    "thoughts before a text": [[thoughts("Hm", "m")], [deltas("Yes")]],
    "thoughts alone": [[thoughts("Hm")]],
    "thoughts within a text": [[deltas("Yes"), thoughts("or")], [deltas("no")]],
    "calls": [[ToolCalls((LOOK, FIND))]],
    "a text before a custom call": [[deltas("I patch.")], [ToolCalls((PATCH,))]],
    "citations": [[deltas("As A says")], [Citations((SOURCE,)), Citations((Source("https://b.example/"),))]],
    "citations before a text": [[Citations((SOURCE,))], [thoughts("Hm")], [deltas("As A says")]],
    "citations without a text": [[Citations((SOURCE,))]],
    "citations before calls": [[Citations((SOURCE,)), ToolCalls((LOOK,))]],
    "a picture": [[Images(("https://p.example/1.png",))]],
    "a stop": [[deltas("one "), Stopped("two")]],
    "ends of lines": [[deltas("a\u2028b\u2029c\u0085d\r\n\x00é🎈")]],
    "formatting": [[deltas("%d %b %% 100%")]],
}

strings = st.text(st.characters(codec="utf-8"), max_size=8)
texts = st.lists(strings, min_size=1, max_size=4)
sources = st.builds(
    Source,
    st.sampled_from(["https://a.example/", "https://b.example/"]),
    st.none() | strings,
    st.lists(st.integers(0, 50), max_size=3).map(tuple),
)
events: st.SearchStrategy[AnswerEvent] = st.one_of(
    texts.map(lambda pieces: deltas(*pieces)),
    texts.map(lambda pieces: thoughts(*pieces)),
    st.lists(sources, max_size=3).map(lambda found: Citations(tuple(found))),
    st.just(Images(("https://p.example/1.png",))),
)
calls = st.lists(st.sampled_from([LOOK, FIND, PATCH]), min_size=1, max_size=3).map(lambda some: ToolCalls(tuple(some)))
answers = st.tuples(st.lists(st.lists(events, max_size=4), max_size=5), st.none() | calls).map(
    lambda answer: [*answer[0], *([[answer[1]]] if answer[1] is not None else [])]
)
reasons = st.sampled_from(["stop", "tool-calls", "length", "content-filter", None])
failures = st.none() | st.sampled_from(
    [overloaded("Full."), invalid_request("content_filter", "No."), ApiError(502, "upstream_error", "Gone.")]
)


@a_share(of=20)
@given(answers, reasons, failures)
def test_every_stream_is_legal_and_carries_the_whole_answer(
    batches: list[list[AnswerEvent]], reason: str | None, failure: ApiError | None
) -> None:
    told = read(*batches, reason=reason, error=failure)
    every = [event for batch in batches for event in batch]
    shown = "".join(
        event.text if isinstance(event, TextDeltas) else "![image](https://p.example/1.png)\n"
        for event in every
        if isinstance(event, TextDeltas | Images)
    )
    assert told.text == shown
    assert "".join(told.reasoning) == "".join(event.text for event in every if isinstance(event, ReasoningDeltas))
    if failure is None:
        assert told.response == whole(*batches, reason=reason)


@a_share(of=20)
@given(answers, reasons, failures)
def test_every_stream_event_matches_the_specification(
    batches: list[list[AnswerEvent]], reason: str | None, failure: ApiError | None
) -> None:
    for event in streamed(*batches, reason=reason, error=failure):
        check_event(event)


@pytest.mark.parametrize("batches", ANSWERS.values(), ids=ANSWERS)
def test_a_stream_ends_with_the_whole_answer(batches: list[list[AnswerEvent]]) -> None:
    told = read(*batches)
    assert told.response == whole(*batches)
    check_sdk_response(told.response)


@pytest.mark.parametrize("batches", ANSWERS.values(), ids=ANSWERS)
def test_a_whole_answer_matches_the_specification(batches: list[list[AnswerEvent]]) -> None:
    check_object("ResponseResource", whole(*batches))


def test_each_text_delta_is_its_own_event() -> None:
    told = read([deltas("one ", "two "), deltas("three")], [deltas(" four")])
    assert told.deltas == ["one ", "two ", "three", " four"]


def test_a_delta_is_encoded_without_waiting_for_the_next_one() -> None:
    encoder = ResponseEncoder(head())
    encoder.start()
    assert b'"delta":"one"' in encoder.encode([deltas("one")])
    (event,) = events_of(encoder.encode([deltas("two")]))
    assert event == {
        "type": "response.output_text.delta",
        "sequence_number": 5,
        "item_id": "msg_" + "ab" * 16 + "0000",
        "output_index": 0,
        "content_index": 0,
        "delta": "two",
        "logprobs": [],
    }


def test_reasoning_precedes_the_message_and_calls_follow_it() -> None:
    told = read([thoughts("Hm")], [deltas("I look.")], [ToolCalls((LOOK, PATCH))])
    assert [item["type"] for item in told.items] == ["reasoning", "message", "function_call", "custom_tool_call"]
    assert told.items[0]["summary"] == []
    assert told.items[0]["content"] == [{"type": "reasoning_text", "text": "Hm"}]
    assert len({item["id"] for item in told.items}) == 4


def test_calls_carry_the_names_and_namespaces_that_the_caller_gave() -> None:
    look, find, patch = read([ToolCalls((LOOK, FIND, PATCH))]).items
    assert (look["name"], "namespace" in look, look["arguments"]) == ("look", False, LOOK.arguments)
    assert (find["name"], find["namespace"], find["call_id"]) == ("find", "crm", "call_2")
    assert (patch["name"], patch["namespace"], patch["input"]) == ("patch", "files", PATCH.arguments)


def test_citations_become_annotations_of_the_message() -> None:
    expected = [
        {"type": "url_citation", "url": SOURCE.url, "title": "A", "start_index": at, "end_index": at} for at in (3, 1)
    ]
    for name in ("citations before a text", "citations without a text", "citations before calls"):
        message = next(item for item in read(*ANSWERS[name]).items if item["type"] == "message")
        assert message["content"][0]["annotations"] == expected


def test_a_source_without_a_title_is_titled_by_its_url() -> None:
    annotations = read(*ANSWERS["citations"]).items[0]["content"][0]["annotations"]
    assert annotations[-1]["title"] == annotations[-1]["url"] == "https://b.example/"


@pytest.mark.parametrize(("reason", "why"), [("length", "max_output_tokens"), ("content-filter", "content_filter")])
def test_a_truncated_answer_has_the_status_incomplete(reason: str, why: str) -> None:
    told = read([deltas("one")], reason=reason)
    assert told.end == "response.incomplete"
    assert told.response["incomplete_details"] == {"reason": why}
    assert told.items[0]["status"] == "incomplete"
    assert told.response == whole([deltas("one")], reason=reason)


def test_the_final_response_reports_usage() -> None:
    assert read([deltas("one")]).response["usage"] == {
        "input_tokens": 12,
        "input_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 0},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 19,
    }


FAILURES: Final = {
    "rate limited": (ApiError(429, "upstream_rate_limited", "Slow down.", retry_after=7.2), "rate_limit_exceeded"),
    "refused": (invalid_request("content_filter", "Not this."), "invalid_prompt"),
    "broken": (ApiError(502, "upstream_error", "It broke."), "server_error"),
    "silent": (ApiError(504, "upstream_timeout", "It is silent."), "server_error"),
    "too long": (context_exceeded("Shorten.", 30_000, 28_000), "context_length_exceeded"),
}


@pytest.mark.parametrize(("error", "code"), FAILURES.values(), ids=FAILURES)
@pytest.mark.parametrize("started", [True, False])
def test_a_failure_ends_the_stream_with_an_error_code_of_openai(error: ApiError, code: str, started: bool) -> None:
    encoder = ResponseEncoder(head())
    body = encoder.start() + encoder.encode([deltas("one")]) if started else b""
    told = read_events(events_of(body + encoder.error(error)))
    assert told.end == "response.failed"
    assert told.response["error"]["code"] == code
    assert error.message in told.response["error"]["message"]
    assert error.code in told.response["error"]["message"]
    assert (told.broken_off, told.items) == (started, [])


def test_the_message_of_a_rate_limit_says_when_to_try_again() -> None:
    failed = read(error=FAILURES["rate limited"][0]).response
    assert "Try again in 7s." in failed["error"]["message"]


def test_only_a_prompt_over_the_limit_is_reported_in_the_stream_before_it_starts() -> None:
    told = {name: ResponseEncoder(head()).reports(error) for name, (error, _) in FAILURES.items()}
    assert told == {name: name == "too long" for name in FAILURES}


def test_finished_responses_are_stored_and_failed_ones_are_not() -> None:
    kept: list[bytes] = []
    encoder = ResponseEncoder(head(kept))
    last = events_of(encoder.start() + encoder.finish("stop", lambda: USAGE))[-1]
    assert [orjson.loads(response) for response in kept] == [last["response"]]
    ResponseEncoder(head(kept)).error(overloaded("Full."))
    assert len(kept) == 1
    assert ResponseCollector(head(kept)).finish("length", USAGE) == kept[1]


@pytest.mark.parametrize("kind", [deltas, thoughts])
def test_an_answer_over_the_size_limit_fails(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "MAX_CHARS", 10)
    collector, encoder = ResponseCollector(head()), ResponseEncoder(head())
    collector.add([kind("0123456789")])
    encoder.encode([kind("0123456789")])
    with pytest.raises(ApiError) as caught:
        collector.add([kind("x")])
    assert (caught.value.status, caught.value.code) == (502, "upstream_error")
    with pytest.raises(ApiError):
        encoder.encode([kind("x")])


def test_the_size_of_a_collected_answer_counts_its_text_and_reasoning() -> None:
    collector = ResponseCollector(head())
    collector.add([deltas("abc"), thoughts("éé")])
    assert collector.size == 3 + 8
