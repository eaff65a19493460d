"""Answers that must be JSON: the caller receives nothing but JSON, and only JSON that fits."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pytest
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st
from staged import StagedAnswer, cut_at, run_stages
from tool_forms import block, offering

from bridge.answering.chat import JsonFormat
from bridge.answering.deltas import text_delta
from bridge.answering.stages import StageMaker, ToolsOutcome
from bridge.answering.stages.structured import JsonStage
from bridge.answering.tools.stage import ToolsStage

SCHEMA: Mapping[str, object] = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "tags": {"type": "array", "items": {"type": "integer"}}},
    "required": ["name"],
    "additionalProperties": False,
}
GOOD = '{"name": "Ada", "tags": [1, 2]}'

AROUND = {
    "alone": GOOD,
    "in a fence": f"```json\n{GOOD}\n```",
    "in a fence without a word": f"```\n{GOOD}\n```\n",
    "behind chatter": f"Here is the JSON that you asked for:\n\n{GOOD}",
    "before chatter": f"{GOOD}\n\nIs there anything else?",
    "in a fence between chatter": f"Sure! It is {{short}}:\n```json\n{GOOD}\n```\nThat [1] is all.",
}


def answered(
    text: str | Sequence[str],
    *repairs: str | None,
    schema: Mapping[str, object] | None = SCHEMA,
    streamed: bool = False,
    finish: str = "stop",
) -> StagedAnswer:
    pieces = [text] if isinstance(text, str) else text
    return run_stages(
        [partial(JsonStage, JsonFormat(schema), streamed=streamed)], pieces, repairs=repairs, finish=finish
    )


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("text", AROUND.values(), ids=AROUND.keys())
def test_text_around_the_json_is_removed(text: str, streamed: bool) -> None:
    for pieces in ([text], list(text)):
        answer = answered(pieces, streamed=streamed)
        assert answer.text == GOOD
        assert answer.stages.error is None
        assert answer.stages.faithful
        assert answer.stages.regenerable == (text == GOOD)


def test_json_is_streamed_from_its_beginning_on() -> None:
    answer = answered(["Here: ", "{", '"na', 'me": "A', 'da"}', " bye"], streamed=True)
    assert "".join(answer.deltas) == '{"name": "Ada"}'
    assert answer.deltas == ['{"na', 'me": "A', 'da"}']
    assert answer.late == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{'name': 'Ada', 'tags': [1, 2,],}", {"name": "Ada", "tags": [1, 2]}),
        ('{"name": "A\nda"}', {"name": "A\nda"}),
        ('{"name": "Ada" // the name\n}', {"name": "Ada"}),
        ('{"name": "Ada", "tags": [1, 2]', {"name": "Ada", "tags": [1, 2]}),
    ],
)
def test_almost_valid_json_is_repaired(text: str, value: object) -> None:
    answer = answered(f"```json\n{text}\n```")
    assert json.loads(answer.text) == value


@pytest.mark.parametrize("streamed", [False, True])
def test_raw_control_characters_in_strings_are_escaped(streamed: bool) -> None:
    """Models write them, but the JSON parsers of the SDKs refuse them."""
    text = '{\n\t"name": "A\nd\\\\\ta\\"\r\n", "tags":\n[1]}'
    escaped = '{\n\t"name": "A\\nd\\\\\\ta\\"\\r\\n", "tags":\n[1]}'
    assert json.loads(escaped) == {"name": 'A\nd\\\ta"\r\n', "tags": [1]}
    for pieces in ([text], list(text), *[cut_at(text, [place]) for place in range(1, len(text))]):
        answer = answered([*pieces, "\nSo."], streamed=streamed)
        assert answer.text == escaped
        assert answer.stages.error is None


MISFITS = {
    "no JSON": "I would rather not.",
    "another type": '{"name": 1}',
    "deep": '{"name": "Ada", "tags": [1, "2"]}',
    "a list": "[1]",
}


@pytest.mark.parametrize("text", MISFITS.values(), ids=MISFITS.keys())
def test_an_answer_that_does_not_fit_the_schema_is_requested_once_more(text: str) -> None:
    answer = answered(text, f"Sorry:\n{GOOD}")
    assert len(answer.prompts) == 1
    assert answer.text == GOOD
    assert answer.stages.error is None
    assert not answer.stages.regenerable


@pytest.mark.parametrize("repairs", [(), ("Still not.",), ('{"name": "Ada", "tags": ["x"]}',), (None,)])
def test_an_answer_whose_repair_fails_is_rejected_with_a_502(repairs: Sequence[str | None]) -> None:
    answer = answered('{"name": "Ada", "tags": [1, "2"]}', *repairs)
    assert answer.text == ""
    assert answer.stages.error is not None
    assert (answer.stages.error.status, answer.stages.error.code) == (502, "invalid_model_output")


def test_the_error_names_the_first_value_that_does_not_fit_the_schema() -> None:
    answer = answered('{"name": "Ada", "tags": [1, "2"]}')
    assert answer.stages.error is not None
    assert "'tags[1]'" in answer.stages.error.message


def test_streamed_json_that_does_not_fit_the_schema_ends_with_an_error() -> None:
    answer = answered(list('{"name": 1}'), GOOD, streamed=True)
    assert answer.text == '{"name": 1}'
    assert not answer.prompts
    assert answer.stages.error is not None
    assert "'name'" in answer.stages.error.message


def test_a_stream_in_which_no_json_has_begun_is_repaired() -> None:
    answer = answered("I would rather not.", GOOD, streamed=True)
    assert answer.text == GOOD
    assert len(answer.prompts) == 1


def test_json_without_a_schema_must_be_an_object() -> None:
    assert answered("It is [1] or [2]: {}", schema=None).text == "{}"
    assert answered("[1]", schema=None).stages.error is not None


@pytest.mark.parametrize(
    ("schema", "text"),
    [({"type": "string"}, '"Ada"'), ({"type": "integer"}, "12"), ({"enum": [None]}, "null"), ({}, "[1, 2]")],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_a_schema_may_require_any_json_type(schema: Mapping[str, object], text: str, streamed: bool) -> None:
    assert answered(text, schema=schema, streamed=streamed).text == text
    assert answered(f"```\n{text}\n```", schema=schema, streamed=streamed).text == text


def test_incomplete_json_of_an_answer_cut_at_its_length_is_returned_unchanged() -> None:
    for streamed in (False, True):
        answer = answered('{"name": "A', GOOD, streamed=streamed, finish="length")
        assert answer.text == '{"name": "A'
        assert answer.finish == "length"
        assert not answer.prompts
        assert answer.stages.error is None


def test_an_answer_may_be_tool_calls_or_json_if_both_are_requested() -> None:
    makers: list[StageMaker] = [partial(ToolsStage, offering()), partial(JsonStage, JsonFormat(SCHEMA), streamed=False)]
    answer = run_stages(makers, ["I look.\n" + block([("now", {})])])
    assert answer.called == [("now", "{}")]
    assert answer.text == ""
    assert answer.finish == "tool_calls"
    assert answer.stages.error is None
    answer = run_stages(makers, [f"So:\n{GOOD}"])
    assert answer.text == GOOD
    assert answer.stages.outcome is ToolsOutcome.NONE
    answer = run_stages(makers, ["Neither."], repairs=[GOOD])
    assert answer.text == GOOD


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('ab{}[]"\\', max_size=4), inner, max_size=3),
    max_leaves=8,
)


@a_share(of=20)
@given(
    value=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), values, max_size=4),
    places=st.lists(st.integers(1, 200)),
    indent=st.none() | st.integers(0, 2),
    streamed=st.booleans(),
)
def test_any_json_object_is_found_across_any_cut(
    value: dict[str, Any], places: list[int], indent: int | None, streamed: bool
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    pieces = cut_at(f"Well, here it is:\n```json\n{text}\n```\n", places)
    assert answered(pieces, schema=None, streamed=streamed).text == text


def test_the_error_for_json_too_long_to_be_repaired_says_so() -> None:
    answer = answered("{'name': " + "x" * 200_000 + "}")
    assert answer.text == ""
    assert answer.stages.error is not None
    assert "too long to be repaired" in answer.stages.error.message


def test_streamed_json_counts_towards_the_size_of_its_stage() -> None:
    stage = JsonStage(JsonFormat(SCHEMA), streamed=True)
    pieces = ['{"name": "', "a" * 1000]
    for piece in pieces:
        stage.feed([text_delta(piece)])
    assert stage.size == sum(map(len, pieces))


@pytest.mark.parametrize("before", ["", "```json\n", '```json\n{"city": "Paris"', "~~~\n```\n", '{"city": "'])
@pytest.mark.parametrize("piece", [" ", "\n", "\n ", "`", "`` ", '\\"', "{", "```\n"])
@pytest.mark.parametrize("streamed", [True, False])
def test_a_repetitive_json_answer_is_read_in_bounded_time(before: str, piece: str, streamed: bool) -> None:
    """Models that write JSON are known to repeat white space endlessly; a slow search would block all threads."""
    stage = JsonStage(JsonFormat(SCHEMA), streamed=streamed)
    began = time.thread_time()
    stage.feed([text_delta(before + piece * (20_000 // len(piece)))])
    stage.conclude(cut=False, may_ask=True)
    assert time.thread_time() - began < 2  # 0.2 at most on a machine of 2026; a quadratic search took 5
