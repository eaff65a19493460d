"""A stored request is read back as it was written, whatever its texts; any other line is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from ended import ended
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.activity.entry import MAX_TEXT_CHARS, Attempt, Entry

texts = st.text(max_size=10)
numbers = st.integers(0, 10**9)
attempts = st.builds(
    Attempt,
    texts,
    st.floats(0, 999).map(lambda value: round(value, 3)),
    st.floats(0, 999).map(lambda value: round(value, 4)),
    st.none() | st.integers(100, 599),
    texts,
)
entries = st.builds(
    Entry,
    at=st.floats(0, 4e9).map(lambda value: round(value, 3)),
    id=texts,
    status=st.integers(100, 599),
    word=texts,
    seconds=st.floats(0, 9999).map(lambda value: round(value, 4)),
    refused=st.booleans(),
    **dict.fromkeys(("api", "key", "asked", "model", "account", "client", "code", "message"), texts),
    **dict.fromkeys(("conversation", "evaluation", "ignored"), texts),
    attempts=st.lists(attempts, max_size=3).map(tuple),
    first=st.none() | st.floats(0, 99).map(lambda value: round(value, 4)),
    **dict.fromkeys(("read", "written", "messages", "tools", "unkept"), numbers),
    streamed=st.booleans(),
    prompt=st.none() | texts,
)


@settings(max_examples=40)
@given(entries)
def test_an_activity_entry_is_read_as_it_was_written(entry: Entry) -> None:
    line = entry.to_line()
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert Entry.from_line(line) == entry


def test_an_entry_s_line_contains_the_prompt_only_if_it_is_logged() -> None:
    assert b"prompt" not in ended().to_line()
    assert Entry.from_line(ended(prompt="user: hello").to_line()).prompt == "user: hello"


def test_long_texts_and_attempts_of_an_entry_are_cut_and_lone_surrogates_replaced() -> None:
    entry = Entry.from_line(
        ended(message="a" * 99_999, client="\ud800b", attempts=(Attempt("x", 0, 0, None, "ok"),) * 99).to_line()
    )
    assert len(entry.message) == MAX_TEXT_CHARS
    assert entry.client == "\ufffdb"
    assert len(entry.attempts) == 20


def test_the_line_of_an_ordinary_request_is_short() -> None:
    assert len(ended().to_line()) < 480
    assert len(Entry(at=1.0, id="req_1", status=401, word="rejected", seconds=0.001).to_line()) < 80


@pytest.mark.parametrize(
    "change",
    [
        {"at": None},
        {"at": "x"},
        {"id": 7},
        {"status": "ok"},
        {"attempts": [[1]]},
        {"attempts": 5},
        {"client": ["a"]},
        {"read": []},
        {"first": {}},
        {"prompt": 1},
    ],
)
def test_a_line_with_a_field_of_the_wrong_type_is_rejected(change: dict[str, Any]) -> None:
    plain = orjson.loads(ended().to_line())
    with pytest.raises(ValueError, match=r"not a record|convert|invalid|unpack"):
        Entry.from_line(orjson.dumps({**plain, **change}))


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b"7", b"null", b'"at"', b'{"at": 1}', b"\xff\n"])
def test_a_line_that_is_no_entry_is_rejected(line: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 — raised by orjson or by the bridge
        Entry.from_line(line)


def test_an_unknown_field_of_a_newer_version_is_ignored() -> None:
    plain = orjson.loads(ended().to_line())
    assert Entry.from_line(orjson.dumps({**plain, "mood": "good"})) == ended()


def test_an_entry_s_outcome_is_named_as_in_the_statistics() -> None:
    assert ended(word="rejected", refused=True).ending == "rejected@here"
    assert replace(ended(), word="timeout").ending == "timeout"
