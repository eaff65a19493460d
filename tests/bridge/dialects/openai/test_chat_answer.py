"""A table of answers, each encoded as a stream of chunks and as one completion. Both must carry the same content."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson
import pytest
from examples import a_share
from frames import frames
from hypothesis import given
from hypothesis import strategies as st

from bridge.answering.chat import Usage
from bridge.answering.events import MAX_WHOLE_CHARS, AnswerEvent, ToolCalls
from bridge.answering.messages import ToolCall
from bridge.dialects.openai.chat_answer import (
    SYSTEM_FINGERPRINT,
    ChunkEncoder,
    CompletionCollector,
    Header,
)
from bridge.dialects.openai.chat_choices import ChoicesCollector, ChoicesEncoder
from bridge.dialects.sources import MAX_ANNOTATIONS
from bridge.errors import ApiError, invalid_request
from upstream.protocol.events import Citations, Event, Images, ReasoningDeltas, Source, TextDeltas
from upstream.protocol.line_values import MAX_OFFSETS, MAX_SOURCES

HEADER = Header("chatcmpl-1", 1_700_000_000, "gemini-4-pro")
USAGE = Usage(prompt=7, completion=5, reasoning=2)
USAGE_OBJECT = {
    "prompt_tokens": 7,
    "completion_tokens": 5,
    "total_tokens": 12,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 2, "audio_tokens": 0},
}
LINE_ENDS = "\u2028\u2029\u0085\r"


def text(*deltas: str) -> TextDeltas:
    return TextDeltas("".join(deltas), b"\n".join(orjson.dumps(delta) for delta in deltas))


def reasoning(*deltas: str) -> ReasoningDeltas:
    return ReasoningDeltas("".join(deltas), b"\n".join(orjson.dumps(delta) for delta in deltas))


def cite(*sources: Source) -> Citations:
    return Citations(sources)


def draw(*urls: str) -> Images:
    return Images(urls)


def note(url: str, title: str, at: int) -> dict[str, object]:
    """Return OpenAI's annotation for a place in the text that cites a page."""
    place = {"url": url, "title": title, "start_index": at, "end_index": at}
    return {"type": "url_citation", "url_citation": place}


class Case(NamedTuple):
    """Batches of events from upstream, and the message that they make."""

    batches: list[list[Event]]
    content: str = ""
    reasoning: str | None = None
    annotations: list[dict[str, object]] | None = None


CASES = {
    "one delta": Case([[text("hello")]], "hello"),
    "deltas of one read and of several": Case([[text("a", "b")], [text("c")], [text("", "d")]], "abcd"),
    "nothing (withheld, or cut to nothing)": Case([[]], ""),
    "thoughts, then text": Case([[reasoning("", "hm", "…")], [text("yes")]], "yes", "hm…"),
    "thoughts and text in one read": Case([[reasoning("hm"), text("yes"), reasoning("ah"), text("!")]], "yes!", "hmah"),
    "thoughts alone": Case([[reasoning("hm")]], "", "hm"),
    "quotes, backslashes, controls": Case([[text('"', "\\", "\n", "\t\0")]], '"\\\n\t\0'),
    "every kind of line end": Case([[text(f"a{LINE_ENDS}b"), reasoning(LINE_ENDS)]], f"a{LINE_ENDS}b", LINE_ENDS),
    "emoji and Chinese": Case([[text("哦，", "👋🏽")]], "哦，👋🏽"),
    "text that looks like a frame": Case([[text("\n\ndata: [DONE]\n\n")]], "\n\ndata: [DONE]\n\n"),
    "a picture": Case([[draw("https://r2/1.png?a=b&c=d")]], "![image](https://r2/1.png?a=b&c=d)\n"),
    "pictures and text": Case(
        [[text("look: "), draw("https://r2/1", "https://r2/2")], [text("nice")]],
        "look: ![image](https://r2/1)\n![image](https://r2/2)\nnice",
    ),
    "a citation": Case(
        [[text("it is so."), cite(Source("https://a/", "A", (9,)))]],
        "it is so.",
        annotations=[note("https://a/", "A", 9)],
    ),
    "a citation without a title or a place": Case(
        [[cite(Source("https://a/")), text("x")]], "x", annotations=[note("https://a/", "https://a/", 0)]
    ),
    "a citation that grows": Case(
        [
            [text("one"), cite(Source("https://a/", None, (3,)))],
            [text("two"), cite(Source("https://b/", "B", (6,)))],
            [cite(Source("https://a/", "A", (3, 6))), cite(Source("https://a/"))],
        ],
        "onetwo",
        annotations=[note("https://a/", "A", 3), note("https://a/", "A", 6), note("https://b/", "B", 6)],
    ),
    "a citation with odd characters": Case(
        [[text("x"), cite(Source("https://a/", f"“A”{LINE_ENDS}", (1,)))]],
        "x",
        annotations=[note("https://a/", f"“A”{LINE_ENDS}", 1)],
    ),
}
everywhere = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def stream(
    batches: list[list[Event]], reason: str | None = "stop", *, header: Header = HEADER, include_usage: bool = False
) -> bytes:
    encoder = ChunkEncoder(header, include_usage=include_usage)
    return b"".join((encoder.start(), *map(encoder.encode, batches), encoder.finish(reason, lambda: USAGE)))


def chunks(data: bytes) -> list[dict[str, Any]]:
    """Parse the frames of a whole stream as the strictest client would."""
    *frames, done, rest = data.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    assert all(frame.startswith(b"data: {") for frame in frames)
    assert data.decode().splitlines() == data.decode().split("\n")[:-1]
    return [orjson.loads(frame.removeprefix(b"data: ")) for frame in frames]


def completion(batches: list[list[Event]], reason: str | None = "stop", header: Header = HEADER) -> dict[str, Any]:
    answer = CompletionCollector(header)
    for batch in batches:
        answer.add(batch)
    read: dict[str, Any] = orjson.loads(answer.finish(reason, USAGE))
    return read


def message(case: Case) -> dict[str, object]:
    """Return the case's message as OpenAI's object."""
    expected: dict[str, object] = {"role": "assistant", "content": case.content, "refusal": None}
    if case.reasoning is not None:
        expected["reasoning_content"] = case.reasoning
    if case.annotations is not None:
        expected["annotations"] = case.annotations
    return expected


@everywhere
def test_a_whole_completion_contains_the_message(case: Case) -> None:
    assert completion(case.batches) == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "gemini-4-pro",
        "system_fingerprint": SYSTEM_FINGERPRINT,
        "choices": [{"index": 0, "message": message(case), "logprobs": None, "finish_reason": "stop"}],
        "usage": USAGE_OBJECT,
    }


@everywhere
def test_the_deltas_of_a_stream_add_up_to_the_message(case: Case) -> None:
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks(stream(case.batches))]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert deltas[-1] == {}
    assert "".join(delta.get("content", "") for delta in deltas) == case.content
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == (case.reasoning or "")
    notes = [delta for delta in deltas if "annotations" in delta]
    assert notes == ([{"content": "", "annotations": case.annotations}] if case.annotations else [])
    assert not notes or deltas.index(notes[0]) == len(deltas) - 2
    assert not any("role" in delta for delta in deltas[1:])


@everywhere
def test_every_chunk_has_the_same_head_and_only_the_last_a_finish_reason(case: Case) -> None:
    *all_but_last, last = chunks(stream(case.batches))
    for chunk in (*all_but_last, last):
        head = {name: value for name, value in chunk.items() if name != "choices"}
        assert head == {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1_700_000_000,
            "model": "gemini-4-pro",
            "system_fingerprint": SYSTEM_FINGERPRINT,
        }
        assert [choice["index"] for choice in chunk["choices"]] == [0]
    assert {chunk["choices"][0]["finish_reason"] for chunk in all_but_last} == {None}
    assert last["choices"][0]["finish_reason"] == "stop"


@everywhere
def test_a_usage_chunk_follows_the_finish_only_if_requested(case: Case) -> None:
    *before, last = chunks(stream(case.batches, include_usage=True))
    assert last["choices"] == []
    assert last["usage"] == USAGE_OBJECT
    assert {chunk.pop("usage") for chunk in before} == {None}
    assert before == chunks(stream(case.batches))


@everywhere
def test_stream_frames_contain_no_line_end_of_any_kind(case: Case) -> None:
    data = stream(case.batches).decode()
    assert not set(data) & set(LINE_ENDS)
    assert "\n" not in data.replace("\n\n", "")


def test_every_delta_is_its_own_chunk_in_order() -> None:
    deltas = [
        chunk["choices"][0]["delta"] for chunk in chunks(stream([[text("a", "", "b"), reasoning("c")], [text("d")]]))
    ]
    said = [{"content": "a"}, {"content": ""}, {"content": "b"}, {"reasoning_content": "c"}, {"content": "d"}]
    assert deltas[1:-1] == said


def test_json_strings_from_upstream_are_passed_on_byte_for_byte() -> None:
    event = TextDeltas("é/é", rb'"\u00e9\/\u00e9"')
    assert rb'"content":"\u00e9\/\u00e9"' in ChunkEncoder(HEADER, include_usage=False).encode([event])


@pytest.mark.parametrize("include_usage", [False, True])
def test_a_keep_alive_chunk_has_an_empty_delta(include_usage: bool) -> None:
    encoder = ChunkEncoder(HEADER, include_usage=include_usage)
    chunk = orjson.loads(encoder.idle().removeprefix(b"data: "))
    assert chunk["choices"] == [{"index": 0, "delta": {"content": ""}, "finish_reason": None}]
    assert ("usage" in chunk) == include_usage


FINISH_REASONS = {
    "stop": "stop",
    "length": "length",
    "content-filter": "content_filter",
    "unknown": "stop",
    "tool-calls": "stop",
    "": "stop",
    None: "stop",
}


@pytest.mark.parametrize(("upstream", "ours"), FINISH_REASONS.items())
def test_finish_reasons_of_the_site_are_translated(upstream: str | None, ours: str) -> None:
    assert chunks(stream([[text("x")]], upstream))[-1]["choices"][0]["finish_reason"] == ours
    assert completion([[text("x")]], upstream)["choices"][0]["finish_reason"] == ours


@pytest.mark.parametrize("name", ['quote"d', "back\\slash", "naïve 模型", f"lines{LINE_ENDS}"])
def test_a_model_name_may_contain_any_characters(name: str) -> None:
    header = Header("chatcmpl-1", 1, name)
    assert {chunk["model"] for chunk in chunks(stream([[text("x")]], header=header, include_usage=True))} == {name}
    assert completion([[text("x")]], header=header)["model"] == name


def test_an_error_in_a_stream_is_a_single_event_with_its_reason() -> None:
    data = ChunkEncoder.error(invalid_request("invalid_value", f"It{LINE_ENDS} broke.", "messages[0]"))
    assert data.startswith(b"data: ")
    assert data.endswith(b"}\n\n")
    assert len(data.decode().splitlines()) == 2
    assert orjson.loads(data.removeprefix(b"data: ")) == {
        "error": {
            "message": f"It{LINE_ENDS} broke.",
            "type": "invalid_request_error",
            "param": "messages[0]",
            "code": "invalid_value",
            "reason": "rejected",
        }
    }


deltas_of_text = st.lists(st.text(), min_size=1, max_size=4)
any_event = st.one_of(
    deltas_of_text.map(lambda deltas: text(*deltas)), deltas_of_text.map(lambda deltas: reasoning(*deltas))
)


@a_share(of=4)
@given(st.lists(st.lists(any_event, max_size=3), max_size=4))
def test_every_stream_carries_the_text_of_the_whole_completion(batches: list[list[Event]]) -> None:
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks(stream(batches))]
    whole = completion(batches)["choices"][0]["message"]
    assert "".join(delta.get("content", "") for delta in deltas) == whole["content"]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == whole.get("reasoning_content", "")


# Bounds on the answer of a hostile site.


@pytest.mark.parametrize(
    "batch",
    [
        [text("x" * 99_999)],
        [reasoning("x" * 99_999)],
        [text("x" * 33_333), reasoning("y" * 33_333)],
        [text("é" * 99_999)],
        [text("👋" * 99_999)],
        [text(*["x"] * 5000)],
        [draw(*["https://x/" + "y" * 1000] * 100)],
    ],
)
def test_a_whole_completion_over_the_size_limit_fails(batch: list[Event]) -> None:
    completion = CompletionCollector(HEADER)

    def add_without_end() -> None:
        for _ in range(10 * MAX_WHOLE_CHARS):
            completion.add(batch)

    with pytest.raises(ApiError) as caught:
        add_without_end()
    assert completion.chars < MAX_WHOLE_CHARS + 200_000
    assert completion.chars <= completion.size <= 4 * completion.chars
    error = caught.value
    assert (error.status, error.code, error.retry) == (502, "upstream_error", False)
    assert '"stream": true' in error.message


def test_a_completion_of_the_maximum_length_is_complete() -> None:
    completion = CompletionCollector(HEADER)
    for _ in range(16):
        completion.add([text("x" * (MAX_WHOLE_CHARS // 16))])
    content = orjson.loads(completion.finish("stop", USAGE))["choices"][0]["message"]["content"]
    assert content == "x" * MAX_WHOLE_CHARS


@pytest.mark.parametrize(
    "batches",
    [
        pytest.param([[cite(Source(f"https://{n}/"))] for n in range(3000)], id="sources"),
        pytest.param([[cite(Source("https://a/", None, (n,)))] for n in range(3000)], id="places of one"),
        pytest.param(
            [[cite(*(Source(f"https://{n}/", "t", tuple(range(100))) for n in range(200)))]], id="places of many"
        ),
        pytest.param(
            [[cite(*(Source(f"https://{n}/{at}", None, (at,)) for n in range(50)))] for at in range(50)],
            id="lines of both",
        ),
    ],
)
def test_the_number_of_annotations_is_limited(batches: list[list[Event]]) -> None:
    """Each annotation repeats its source: 200 sources with 100 places each would make 20,000."""
    completion, encoder = CompletionCollector(HEADER), ChunkEncoder(HEADER, include_usage=False)
    for batch in batches:
        completion.add(batch)
        assert encoder.encode(batch) == b""
    whole = orjson.loads(completion.finish("stop", USAGE))["choices"][0]["message"]["annotations"]
    chunk, *_ = encoder.finish("stop", lambda: USAGE).split(b"\n\n")
    assert orjson.loads(chunk.removeprefix(b"data: "))["choices"][0]["delta"]["annotations"] == whole
    assert len(whole) <= MAX_ANNOTATIONS
    assert max(len(source.offsets) for source in completion._sources.values()) <= MAX_OFFSETS
    assert len(completion._sources) <= MAX_SOURCES


CALLS = ToolCalls(
    (ToolCall("call_1", "look", '{"at":"\u2028it"}'), ToolCall("call_2", "write", "free \u00e9 text", "custom"))
)


def calls_streamed(*batches: list[AnswerEvent], older_form: bool = False) -> list[dict[str, Any]]:
    """Return the deltas of a stream of these batches, followed by its finish reason."""
    encoder = ChunkEncoder(HEADER, include_usage=False, older_form=older_form)
    first = encoder.encode(batches[0])
    data = encoder.start() + first + b"".join(map(encoder.encode, batches[1:]))
    data += encoder.finish("tool_calls", lambda: USAGE)
    choices = [orjson.loads(frame)["choices"][0] for frame in frames(data)[:-1]]
    return [*[choice["delta"] for choice in choices], {"finish": choices[-1]["finish_reason"]}]


def test_each_tool_call_is_streamed_in_one_complete_delta() -> None:
    assert calls_streamed([CALLS]) == [
        {"role": "assistant", "content": None},
        {
            "tool_calls": [
                {
                    "index": 0,
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "look", "arguments": '{"at":"\u2028it"}'},
                }
            ]
        },
        {
            "tool_calls": [
                {"index": 1, "id": "call_2", "type": "custom", "custom": {"name": "write", "input": "free \u00e9 text"}}
            ]
        },
        {},
        {"finish": "tool_calls"},
    ]


def test_content_is_not_null_if_text_precedes_the_tool_calls() -> None:
    first, *_ = calls_streamed([text("Let me see.")], [CALLS])
    assert first == {"role": "assistant", "content": ""}
    first, *_ = calls_streamed([text("Let me see."), CALLS])
    assert first == {"role": "assistant", "content": ""}
    first, *_ = calls_streamed([reasoning("I should look."), CALLS])
    assert first == {"role": "assistant", "content": None}


def test_the_older_form_streams_a_single_function_call_without_an_id() -> None:
    assert calls_streamed([CALLS], older_form=True) == [
        {"role": "assistant", "content": None},
        {"function_call": {"name": "look", "arguments": '{"at":"\u2028it"}'}},
        {},
        {"finish": "function_call"},
    ]


def calls_completed(*batches: list[AnswerEvent], older_form: bool = False) -> dict[str, Any]:
    answer = CompletionCollector(HEADER, older_form=older_form)
    for batch in batches:
        answer.add(batch)
    (choice,) = orjson.loads(answer.finish("tool_calls", USAGE))["choices"]
    found: dict[str, Any] = {**choice["message"], "finish": choice["finish_reason"]}
    return found


def test_a_whole_completion_contains_the_tool_calls() -> None:
    message = calls_completed([CALLS])
    assert message["content"] is None
    assert message["finish"] == "tool_calls"
    assert message["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at":"\u2028it"}'}},
        {"id": "call_2", "type": "custom", "custom": {"name": "write", "input": "free \u00e9 text"}},
    ]
    assert calls_completed([text("Let me see.")], [CALLS])["content"] == "Let me see."


def test_a_whole_completion_in_the_older_form_contains_one_function_call() -> None:
    message = calls_completed([CALLS], older_form=True)
    assert message["finish"] == "function_call"
    assert message["function_call"] == {"name": "look", "arguments": '{"at":"\u2028it"}'}
    assert "tool_calls" not in message


def test_streamed_choices_are_distinguished_by_their_index() -> None:
    choices = ChoicesEncoder([HEADER] * 2, include_usage=True, older_form=False)
    data = choices.start() + choices.encode(1, [text("two")]) + choices.encode(0, [text("one")])
    data += choices.finish_one(1, "stop") + choices.finish_one(0, "length") + choices.finish(lambda: USAGE)
    *chunks, done = frames(data)
    assert done == b"[DONE]"
    *told, last = [orjson.loads(chunk) for chunk in chunks]
    assert [(each["choices"][0]["index"], each["choices"][0]["delta"].get("content")) for each in told] == [
        (0, ""),
        (1, ""),
        (1, "two"),
        (0, "one"),
        (1, None),
        (0, None),
    ]
    assert (last["choices"], last["usage"]) == ([], USAGE_OBJECT)
    (end,) = frames(choices.finish_one(0, "stop", lambda: USAGE))
    assert orjson.loads(end)["choices"][0]["usage"] == USAGE_OBJECT  # of this choice alone
    silent = ChoicesEncoder([HEADER], include_usage=False, older_form=False)
    assert b"usage" not in silent.finish_one(0, "stop", lambda: USAGE)


def test_a_whole_completion_contains_several_choices_in_order() -> None:
    completions = ChoicesCollector([HEADER] * 2, older_form=False)
    completions.add(1, [text("two")])
    completions.add(0, [text("one")])
    completions.finish_one(1, "stop")
    completions.finish_one(0, "length")
    body = orjson.loads(completions.finish(USAGE))
    assert [(each["index"], each["message"]["content"], each["finish_reason"]) for each in body["choices"]] == [
        (0, "one", "length"),
        (1, "two", "stop"),
    ]
