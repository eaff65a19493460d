"""No secret and no word of a text gets into a recording; the rest keeps its form and can still be parsed."""

from __future__ import annotations

import json
from collections.abc import Callable

import orjson
import pytest
from canaries import (
    ANSWER_WORDS,
    CALLER_KEY,
    CLEARANCE,
    EMAIL,
    EVALUATION,
    PASSWORD,
    PLACES,
    PROMPT_WORDS,
    SESSION,
    call_with_canaries,
    canaries,
    form_with_canaries,
)
from cyclic_garbage import left_behind
from examples import a_share
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.recording import stand_ins
from bridge.recording.bodies import BodyRedactor, RedactionContext
from bridge.recording.document import NotARecording, Recording, decode, encode
from bridge.recording.material import Material
from bridge.recording.redaction import redact
from bridge.recording.stand_ins import StandIns
from upstream.protocol.events import Finish, TextDeltas
from upstream.protocol.wire import Wire

KEY = b"k" * 32


def found_in(file: bytes, words: list[str]) -> list[str]:
    text = file.decode().lower()
    written = json.loads(file)
    flat = json.dumps(written, ensure_ascii=False).lower()
    return [word for word in words if word.lower() in text or word.lower() in flat]


def body_of(recording: Recording, place: int) -> bytes:
    return b"".join(data for _, data in recording.calls[place].pieces)


@pytest.mark.parametrize("make", [call_with_canaries, form_with_canaries])
def test_a_redacted_recording_contains_no_canary(make: Callable[[], Material]) -> None:
    assert len(set(canaries())) >= 50
    recording = redact(make(), KEY)
    assert found_in(encode(recording), canaries()) == []
    for place in range(len(recording.calls)):  # the file holds each body in pieces
        assert found_in(orjson.dumps(body_of(recording, place).decode()), canaries()) == []


def test_a_recording_with_texts_contains_no_secret() -> None:
    file = encode(redact(call_with_canaries(texts=True), KEY))
    secrets = [CALLER_KEY, PASSWORD, CLEARANCE, EMAIL, SESSION[7:40], EVALUATION, PLACES["caller header"]]
    assert found_in(file, secrets) == []
    assert found_in(file, [PROMPT_WORDS[0], PROMPT_WORDS[5]]) != []
    answered = body_of(redact(call_with_canaries(texts=True), KEY), 2)
    wire = Wire()
    texts = "".join(event.text for event in wire.feed(answered) if isinstance(event, TextDeltas))
    assert texts.startswith(" ".join(ANSWER_WORDS))
    assert EMAIL not in texts
    assert PASSWORD not in texts or "41" not in texts


@pytest.mark.parametrize("texts", [False, True])
def test_redaction_leaves_no_reference_cycles(texts: bool) -> None:
    material = call_with_canaries()
    material.texts = texts
    with left_behind() as left:
        redact(material, KEY)
    assert left.ours == {}


def test_every_redacted_body_keeps_its_length_and_its_pieces() -> None:
    material = call_with_canaries()
    recording = redact(material, KEY)
    assert len(recording.body) == len(material.body)
    for captured, call in zip(material.capture.calls, recording.calls, strict=True):
        pieces = captured.body.pieces(0.0)
        assert [len(data) for _, data in call.pieces] == [len(data) for _, data in pieces]
        assert [at for at, _ in call.pieces] == [at for at, _ in pieces]
        assert len(call.target) == len(captured.target)


def test_a_redacted_json_body_keeps_its_shape() -> None:
    material = call_with_canaries()
    body = orjson.loads(redact(material, KEY).body)
    assert body["model"] == "gpt-6.1-high"
    assert [message["role"] for message in body["messages"]] == ["system", "user", "assistant"]
    name = body["tools"][0]["function"]["name"]
    (parameter,) = body["tools"][0]["function"]["parameters"]["properties"]
    call = body["messages"][2]["tool_calls"][0]["function"]
    assert call["name"] == name != PLACES["tool name"]
    assert list(orjson.loads(call["arguments"])) == [parameter]
    assert body["tools"][0]["function"]["parameters"]["required"] == [parameter]


def test_a_uuid_is_replaced_by_the_same_uuid_throughout_a_recording() -> None:
    recording = redact(call_with_canaries(), KEY)
    made = orjson.loads(recording.calls[0].body)["id"]
    assert made != EVALUATION
    assert made[14] == EVALUATION[14]
    assert made in recording.calls[0].target
    assert made in recording.target
    again = orjson.loads(redact(call_with_canaries(), b"another key, thrown away").calls[0].body)["id"]
    assert made != again


def test_a_redirect_to_the_site_stays_recognisable() -> None:
    material = call_with_canaries()
    material.capture.calls[1].headers = (("Location", "https://arena.ai/login?next=Zanzibar"),)
    (location,) = redact(material, KEY).calls[1].answer_headers
    assert location == ("Location", "{site}/login?xxxx=Xxxxxxxx")


def test_a_recording_file_is_decoded_as_it_was_encoded() -> None:
    recording = redact(call_with_canaries(), KEY)
    file = encode(recording)
    assert encode(decode(file)) == file
    assert decode(file).calls[2].pieces[5][1] == recording.calls[2].pieces[5][1]


@pytest.mark.parametrize(
    "file", [b"", b"[]", b"{}", b'{"lmarena_bridge_recording": 2}', b'{"lmarena_bridge_recording": 1}']
)
def test_files_that_are_not_recordings_are_refused(file: bytes) -> None:
    with pytest.raises(NotARecording):
        decode(file)


words = st.sampled_from(["kumquat", "Überraschungsei", "тайна", "秘密計画", "x9Zq81Lm", "ada@engine.example", "𠀀𠀁"])
values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(0, 1) | words | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(words | st.sampled_from(["content", "type"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@a_share(3)
@given(values, st.booleans(), st.booleans())
def test_any_redacted_json_stays_json_without_the_original_words(value: object, site: bool, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    written = frozenset(("kumquat", "überraschungsei", "тайна", "秘密計画", "𠀀𠀁"))
    shown = BodyRedactor(StandIns(KEY), RedactionContext(written=written)).json(text, site=site)
    assert len(shown) == len(text)
    assert len(shown.encode(errors="surrogatepass")) == len(text.encode(errors="surrogatepass"))
    document = json.dumps(json.loads(shown), ensure_ascii=False)
    assert not any(word in document for word in ("kumquat", "berraschungsei", "тайна", "秘密", "x9Zq", "engine", "𠀁"))


@a_share(3)
@given(st.lists(st.text(max_size=6), max_size=8), st.booleans(), st.booleans())
def test_a_redacted_stream_has_texts_of_the_same_lengths(texts: list[str], calls: bool, ascii_only: bool) -> None:
    lines = [b"a0:" + json.dumps(text, ensure_ascii=ascii_only).encode(errors="replace") + b"\n" for text in texts]
    stream = b"".join([*lines, b'ad:{"finishReason":"length"}\n'])
    shown = BodyRedactor(StandIns(KEY), RedactionContext(calls=calls)).redact(
        stream, "text/event-stream", site=True, stream=True
    )
    assert len(shown) == len(stream)
    before, after = read(stream), read(shown)
    assert [len(text) for text in after[0]] == [len(text) for text in before[0]]
    assert after[1] == before[1]


def read(stream: bytes) -> tuple[list[str], str | None]:
    wire = Wire()
    events = [event for line in stream.splitlines(keepends=True) for event in wire.feed(line)]
    texts = [event.text for event in events if isinstance(event, TextDeltas)]
    return texts, next((event.reason for event in events if isinstance(event, Finish)), None)


PIECES = ["kumquat", "kumquat jam", "x", "é", " ", "\\n", "\\u00fc", "\\\\", "https://", "-", "1", EVALUATION, "Zq81"]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), st.integers(1, 60))
def test_searching_in_windows_finds_the_same_matches_as_searching_the_whole(text: str, window: int) -> None:
    pattern = stand_ins.mask_pattern(frozenset(("x", "https")), ("kumquat jam", "kumquat"))
    whole = [(found.span(), found.groups()) for found in pattern.finditer(text)]
    assert [(found.span(), found.groups()) for found in stand_ins.finditer_in_windows(pattern, text, window)] == whole


@given(
    st.binary(max_size=60),
    st.sampled_from(["", "application/json", "text/html", "image/png", "multipart/form-data; boundary=x"]),
)
@example("߀".encode(), "")  # a digit of two bytes
def test_any_redacted_bytes_keep_their_length(data: bytes, content_type: str) -> None:
    bodies = BodyRedactor(StandIns(KEY), RedactionContext())
    assert len(bodies.redact(data, content_type, site=True)) == len(data)
    assert len(bodies.redact(data, content_type, site=True, stream=True)) == len(data)


def test_redacting_digits_of_another_script_keeps_their_length() -> None:
    data = '{"seed":\u06f4, \u06f412}'.encode()
    assert len(BodyRedactor(StandIns(KEY), RedactionContext()).redact(data, "application/json", site=True)) == len(data)
