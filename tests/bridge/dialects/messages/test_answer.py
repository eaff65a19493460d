"""A table of answers, each encoded as a stream of events and as one message. Both must carry the same content.

The SDK's own types validate the events strictly; test_messages.py covers the SDK's accumulator.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import orjson
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from bridge.answering.chat import Usage
from bridge.answering.events import MAX_WHOLE_CHARS, AnswerEvent, Stopped, ToolCalls
from bridge.answering.messages import ToolCall
from bridge.dialects.messages.answer import MessageCollector, MessageEncoder, MessageHead
from bridge.errors import ApiError, context_exceeded, overloaded
from upstream.protocol.events import Citations, Images, ReasoningDeltas, Source, TextDeltas

HEAD = MessageHead("msg_1", "claude", 12)
USAGE = Usage(prompt=12, completion=7, reasoning=3, cached=5)
SEEN_USAGE = {
    "input_tokens": 7,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 5,
    "output_tokens": 7,
    "output_tokens_details": {"thinking_tokens": 3},
}
EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
CALL = ToolCall("toolu_1", "get_weather", '{"city":"Paris"}')
OTHER_CALL = ToolCall("toolu_2", "now", "{}")
SOURCE = Source("https://a.example", "A", (3,))


def text(*deltas: str) -> TextDeltas:
    return TextDeltas("".join(deltas), b"\n".join(map(orjson.dumps, deltas)))


def reasoning(*deltas: str) -> ReasoningDeltas:
    return ReasoningDeltas("".join(deltas), b"\n".join(map(orjson.dumps, deltas)))


def events_of(body: bytes) -> list[dict[str, Any]]:
    """Parse the events of a stream: the name of each must agree with its type, and its data is a single line."""
    *blocks, rest = body.decode().split("\n\n")
    assert rest == ""
    found = []
    for block in blocks:
        name, data = block.splitlines()  # splits at every kind of line end, as some clients do
        event = orjson.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        found.append(event)
    return found


def streamed(
    batches: Sequence[Sequence[AnswerEvent]], reason: str | None = "stop", *, thinking: bool = True
) -> list[dict[str, Any]]:
    encoder = MessageEncoder(HEAD, thinking=thinking)
    body = encoder.start() + b"".join(map(encoder.encode, batches)) + encoder.finish(reason, lambda: USAGE)
    return events_of(body)


def collected(
    batches: Sequence[Sequence[AnswerEvent]], reason: str | None = "stop", *, thinking: bool = True
) -> dict[str, Any]:
    collector = MessageCollector(HEAD, thinking=thinking)
    for batch in batches:
        collector.add(batch)
    message: dict[str, Any] = orjson.loads(collector.finish(reason, USAGE))
    Message.model_validate(message, strict=True)
    return message


def accumulated(events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the message that a client makes of a stream by joining the deltas of each block."""
    message: dict[str, Any] = {}
    content: list[dict[str, Any]] = []
    inputs: dict[int, str] = {}
    for event in events:
        EVENT.validate_python(event, strict=True)
        match event:
            case {"message": dict(start)}:
                message = start
            case {"content_block": dict(block)}:
                content.append(dict(block))
            case {"index": int(index), "delta": {"citation": citation}}:
                content[index].setdefault("citations", []).append(citation)
            case {"index": int(index), "delta": {"partial_json": str(part)}}:
                inputs[index] = inputs.get(index, "") + part
                content[index]["input"] = orjson.loads(inputs[index])
            case {"index": int(index), "delta": dict(delta)}:
                (name,) = delta.keys() - {"type"}
                content[index][name] += delta[name]
            case {"delta": dict(delta), "usage": usage}:
                message |= delta | {"usage": usage}
    return message | {"content": content}


def blocks_of(events: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Yield the deltas of each block of a stream; fail if the order of its events is not legal."""
    assert events[0]["type"] == "message_start"
    assert [event["type"] for event in events[-2:]] == ["message_delta", "message_stop"]
    index, deltas = 0, list[dict[str, Any]]()
    is_open = False
    for event in events[1:-2]:
        assert event["index"] == index
        match event["type"], is_open:
            case "content_block_start", False:
                is_open = True
            case "content_block_delta", True:
                deltas.append(event["delta"])
            case "content_block_stop", True:
                yield deltas
                index, deltas, is_open = index + 1, [], False
            case other:
                pytest.fail(f"not legal here: {other}")
    assert not is_open


def said(text: str, *citations: Source) -> dict[str, Any]:
    found = [
        {
            "type": "web_search_result_location",
            "url": source.url,
            "title": source.title or source.url,
            "cited_text": "",
            "encrypted_index": "",
        }
        for source in citations
    ]
    return {"type": "text", "text": text, **({"citations": found} if found else {})}


def called(call: ToolCall) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": orjson.loads(call.arguments)}


class Case(NamedTuple):
    """Batches of events, and the blocks that they make; a thought is represented by its text alone."""

    batches: list[list[AnswerEvent]]
    content: list[dict[str, Any] | str]
    reason: str | None = "stop"
    stop_reason: str = "end_turn"
    stop_sequence: str | None = None


CASES = {
    "one delta": Case([[text("hello")]], [said("hello")]),
    "deltas of one read and of several": Case([[text("a", "b")], [text("c")]], [said("abc")]),
    "nothing": Case([[]], []),
    "quotes, controls, line ends": Case(
        [[text('"', "\\", "\n", "\u2028\u2029\u0085")]], [said('"\\\n\u2028\u2029\u0085')]
    ),
    "thoughts, then text": Case([[reasoning("h", "m")], [text("yes")]], ["hm", said("yes")]),
    "thoughts and text by turns": Case(
        [[reasoning("a"), text("b"), reasoning("c")], [text("d")]], ["a", said("b"), "c", said("d")]
    ),
    "a picture": Case([[Images(("https://a.example/1",))]], [said("![image](https://a.example/1)\n")]),
    "a call": Case([[ToolCalls((CALL,))]], [called(CALL)], "tool_calls", "tool_use"),
    "text, then calls": Case(
        [[text("I look.")], [ToolCalls((CALL, OTHER_CALL))]],
        [said("I look."), called(CALL), called(OTHER_CALL)],
        "tool_calls",
        "tool_use",
    ),
    "a citation": Case([[text("hello"), Citations((SOURCE,))]], [said("hello", SOURCE)]),
    "a citation that comes twice": Case(
        [[Citations((Source("https://a.example"),)), text("hello")], [Citations((SOURCE,))]], [said("hello", SOURCE)]
    ),
    "a citation without a text": Case([[Citations((SOURCE,))]], [said("", SOURCE)]),
    "a citation before thoughts": Case(
        [[text("a"), Citations((SOURCE,)), reasoning("b"), text("c")]], [said("a", SOURCE), "b", said("c")]
    ),
    "a stop string": Case([[text("hel"), Stopped("lo")]], [said("hel")], "stop", "stop_sequence", "lo"),
    "a limit": Case([[text("hel")]], [said("hel")], "length", "max_tokens"),
    "withheld": Case([[]], [], "content-filter", "refusal"),
    "no reason": Case([[text("a")]], [said("a")], None),
}


def as_shown(content: list[dict[str, Any]]) -> list[dict[str, Any] | str]:
    """Return the blocks with each thought replaced by its text, since its signature is made up."""
    shown: list[dict[str, Any] | str] = []
    for block in content:
        if block["type"] == "thinking":
            assert block["signature"]
            shown.append(block["thinking"])
        else:
            shown.append(block)
    return shown


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_stream_adds_up_to_the_whole_message(case: Case) -> None:
    whole = collected(case.batches, case.reason)
    events = streamed(case.batches, case.reason)
    list(blocks_of(events))
    assert as_shown(whole["content"]) == case.content
    assert (whole["stop_reason"], whole["stop_sequence"]) == (case.stop_reason, case.stop_sequence)
    assert whole["usage"] == SEEN_USAGE
    assert accumulated(events) == whole


def test_thinking_is_left_out_unless_requested() -> None:
    batches: list[list[AnswerEvent]] = [[reasoning("hm"), text("a")], [reasoning("hm"), text("b")]]
    assert collected(batches, thinking=False)["content"] == [said("ab")]
    assert accumulated(streamed(batches, thinking=False))["content"] == [said("ab")]


def test_each_text_delta_is_its_own_event() -> None:
    (deltas,) = blocks_of(streamed([[text("a", "b")], [text("c")]]))
    assert deltas == [{"type": "text_delta", "text": each} for each in "abc"]


def test_a_signature_delta_ends_each_thinking_block() -> None:
    (deltas,) = blocks_of(streamed([[reasoning("a", "b")]]))
    *thoughts, signature = deltas
    assert thoughts == [{"type": "thinking_delta", "thinking": each} for each in "ab"]
    assert signature["type"] == "signature_delta"


def test_a_tool_call_is_streamed_with_its_arguments_in_one_delta() -> None:
    events = streamed([[ToolCalls((CALL,))]], "tool_calls")
    assert events[1]["content_block"] == {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {}}
    assert list(blocks_of(events)) == [[{"type": "input_json_delta", "partial_json": CALL.arguments}]]


def test_tool_call_arguments_keep_the_spelling_of_their_numbers() -> None:
    collector = MessageCollector(HEAD, thinking=False)
    collector.add([ToolCalls((CALL._replace(arguments='{"id":123456789012345678901234567890,"price":1.50}'),))])
    assert b'"input":{"id":123456789012345678901234567890,"price":1.50}' in collector.finish("tool_calls", USAGE)


def test_message_start_reports_the_input_tokens() -> None:
    (start,) = events_of(MessageEncoder(HEAD, thinking=False).start())
    assert start["message"]["usage"] == {"input_tokens": 12, "output_tokens": 0}
    assert (start["message"]["content"], start["message"]["stop_reason"]) == ([], None)


def test_keep_alives_are_ping_events() -> None:
    encoder = MessageEncoder(HEAD, thinking=False)
    assert encoder.idle() == encoder.keepalive == b'event: ping\ndata: {"type":"ping"}\n\n'


ERRORS = {
    "overloaded": (overloaded("Full."), {"type": "overloaded_error", "message": "Full."}),
    "too long": (
        context_exceeded("Drop some.", 30_000, 28_250),
        {"type": "invalid_request_error", "message": "prompt is too long: 30000 tokens > 28250 maximum"},
    ),
}


@pytest.mark.parametrize(("error", "told"), ERRORS.values(), ids=ERRORS)
def test_an_error_during_a_stream_is_sent_as_an_error_event(error: ApiError, told: dict[str, str]) -> None:
    assert events_of(MessageEncoder(HEAD, thinking=False).error(error)) == [{"type": "error", "error": told}]


def test_a_whole_message_longer_than_the_limit_is_refused() -> None:
    collector = MessageCollector(HEAD, thinking=True)
    half = "a" * (MAX_WHOLE_CHARS // 2)
    collector.add([text(half)])
    collector.add([reasoning(half)])
    assert collector.size == MAX_WHOLE_CHARS
    with pytest.raises(ApiError) as raised:
        collector.add([text("a")])
    assert raised.value.status == 502


words = st.text(st.characters(codec="utf-8"), max_size=8)
sources = st.builds(Source, st.sampled_from(["https://a.example", "https://b.example"]), st.none() | words, st.just(()))
arguments = st.dictionaries(words, words | st.integers(-(2**53), 2**53) | st.none(), max_size=3)
calls = st.builds(
    ToolCall, words, st.text("abc_", min_size=1), arguments.map(lambda given: orjson.dumps(given).decode())
)
event: st.SearchStrategy[AnswerEvent] = st.one_of(
    st.lists(words, min_size=1, max_size=3).map(lambda deltas: text(*deltas)),
    st.lists(words, min_size=1, max_size=3).map(lambda deltas: reasoning(*deltas)),
    st.lists(sources, max_size=2).map(lambda found: Citations(tuple(found))),
    words.map(lambda name: Images((f"https://a.example/{name}",))),
)
answers = st.tuples(
    st.lists(st.lists(event, max_size=4), max_size=4),
    st.lists(calls, max_size=2).map(lambda found: [ToolCalls(tuple(found))] if found else []),
    st.none() | words.map(Stopped),
)


@a_share(of=20)
@given(answers, st.sampled_from(["stop", "length", "tool_calls", "content-filter", "new", None]), st.booleans())
def test_every_stream_is_legal_and_adds_up_to_the_whole_message(
    answer: tuple[list[list[AnswerEvent]], list[AnswerEvent], Stopped | None], reason: str | None, thinking: bool
) -> None:
    batches, last, stopped = answer
    batches = [*batches, [*last, *([stopped] if stopped else [])]]
    events = streamed(batches, reason, thinking=thinking)
    whole = collected(batches, reason, thinking=thinking)
    deltas = list(blocks_of(events))
    assert len(deltas) == len(whole["content"])
    for block, parts in zip(whole["content"], deltas, strict=True):
        name, kind = {"text": ("text", "text_delta"), "thinking": ("thinking", "thinking_delta")}.get(
            block["type"], ("partial_json", "input_json_delta")
        )
        joined = "".join(part[name] for part in parts if part["type"] == kind)
        assert joined == block[name] if name in block else orjson.loads(joined) == block["input"]
    assert accumulated(events) == whole
