"""Each form in which models write calls is read: whole, byte by byte, and cut at any places."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial

import pytest
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st
from staged import StagedAnswer, cut_at, run_stages
from tool_forms import FORMS, NOW, RUN, WEATHER, block, offering

from bridge.answering.chat import Tools
from bridge.answering.deltas import text_delta
from bridge.answering.events import AnswerEvent, ToolCalls
from bridge.answering.messages import ToolCall
from bridge.answering.stages import ToolsOutcome
from bridge.answering.tools.json_values import MAX_MENDED_CHARS
from bridge.answering.tools.offered import OfferedTools
from bridge.answering.tools.openings import LONGEST
from bridge.answering.tools.reading import read as reading_of
from bridge.answering.tools.stage import ToolsStage
from upstream.protocol.events import TextDeltas

CALLS = [("get_weather", {"city": "Paris", "days": 3}), ("now", {})]
READ = [("get_weather", '{"city":"Paris","days":3}'), ("now", "{}")]
BEFORE = "Let me look.\n\n"

every_form = pytest.mark.parametrize("form", FORMS)


def read(pieces: list[str] | str, tools: Tools | None = None, *, finish: str = "stop") -> StagedAnswer:
    given = [pieces] if isinstance(pieces, str) else pieces
    return run_stages([partial(ToolsStage, tools or offering())], given, finish=finish)


def assert_read(answer: StagedAnswer, text: str = "Let me look.") -> None:
    assert answer.called == READ
    assert answer.text == text
    assert answer.finish == "tool_calls"
    assert answer.stages.outcome is ToolsOutcome.CALLED
    assert answer.stages.faithful
    assert answer.stages.regenerable


@every_form
def test_each_form_of_calls_is_read_in_one_piece(form: str) -> None:
    assert_read(read(BEFORE + FORMS[form](CALLS)))


@every_form
def test_each_form_of_calls_is_read_without_text_before_it(form: str) -> None:
    assert_read(read(FORMS[form](CALLS)), "")


@every_form
def test_each_form_of_calls_is_read_character_by_character(form: str) -> None:
    answer = read(list(BEFORE + FORMS[form](CALLS)))
    assert_read(answer)
    assert "".join(answer.deltas) == "Let me look."  # streamed before the answer has ended


@every_form
@a_share(of=100)
@given(places=st.lists(st.integers(1, 400)))
def test_each_form_of_calls_is_read_across_any_cut(form: str, places: list[int]) -> None:
    assert_read(read(cut_at(BEFORE + FORMS[form](CALLS), places)))


@every_form
def test_a_single_call_is_read_in_each_form(form: str) -> None:
    answer = read(FORMS[form](CALLS[:1]))
    assert answer.called == READ[:1]


# Two forms are left out: their texts are made by replacements that would change these arguments too.
@pytest.mark.parametrize("form", sorted(FORMS.keys() - {"nearly right JSON", "closing tag missing at the end"}))
def test_a_call_whose_arguments_contain_a_closing_tag_and_a_marker_is_read(form: str) -> None:
    text = "a </tool_call> <tool_call> ``` </x> [TOOL_CALLS] b"
    answer = read(FORMS[form]([("get_weather", {"city": text})]))
    assert [json.loads(arguments) for _, arguments in answer.called] == [{"city": text}]


def test_each_call_gets_its_own_random_id() -> None:
    ids = [call.id for call in read(block(CALLS)).calls]
    assert len(set(ids)) == 2
    for id_ in ids:
        prefix, _, digits = id_.partition("_")
        assert (prefix, len(digits)) == ("call", 24)
        int(digits, 16)


@pytest.mark.parametrize("name", ["GET_WEATHER", "functions.get_weather", "default_api.Get_Weather"])
def test_tool_names_are_matched_without_letter_case_and_prefix(name: str) -> None:
    assert read(block([(name, {"city": "Paris"})])).called == [("get_weather", '{"city":"Paris"}')]


@every_form
def test_a_tool_name_as_long_as_any_api_allows_is_read(form: str) -> None:
    name = "mcp__server__" + "n" * 115
    for pieces in (list, lambda text: [text]):
        assert read(pieces(FORMS[form]([(name, {})])), offering(NOW._replace(name=name))).called == [(name, "{}")]


def test_an_exact_tool_name_is_preferred_over_a_similar_one() -> None:
    tools = offering(NOW, NOW._replace(name="NOW"), NOW._replace(name="functions.now"))
    for name in ("now", "NOW", "functions.now"):
        assert read(block([(name, {})]), tools).called == [(name, "{}")]


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name": "run", "input": "echo \\"hi\\"\\nexit"}</tool_call>',
        '<tool_call>{"name": "run", "arguments": {"input": "echo \\"hi\\"\\nexit"}}</tool_call>',
        '<function=run>echo "hi"\nexit</function>',
        '<invoke name="run"><parameter name="input">echo "hi"\nexit</parameter></invoke>',
        '<|channel|>commentary to=functions.run<|message|>echo "hi"\nexit<|call|>',
        '<|tool_call_begin|>run<|tool_call_argument_begin|>echo "hi"\nexit<|tool_call_end|>',
    ],
)
def test_a_custom_tool_takes_free_text(text: str) -> None:
    answer = read(text)
    assert answer.called == [("run", 'echo "hi"\nexit')]
    assert answer.calls[0].kind == "custom"


@pytest.mark.parametrize(
    ("json_text", "arguments"),
    [
        ("{'name': 'get_weather', 'arguments': {'city': 'Paris'}}", '{"city":"Paris"}'),
        ('{"name": "get_weather", "arguments": {"city": "Paris",},}', '{"city":"Paris"}'),
        ('{"name": "get_weather", "arguments": {"city": "Pa\nris"}}', '{"city":"Pa\\nris"}'),
        ('{"name": "get_weather", /* here */ "arguments": {"city": "Paris"}} // so', '{"city":"Paris"}'),
        ('{"name": "get_weather", "arguments": {"city": "Paris"}', '{"city":"Paris"}'),
    ],
)
def test_almost_valid_json_of_a_call_is_repaired(json_text: str, arguments: str) -> None:
    for closing in ("</tool_call>", ""):
        assert read(f"<tool_call>\n{json_text}\n{closing}").called == [("get_weather", arguments)]


LONG = 'print("it\'s fine")  # {}\n' * 15_000


@pytest.mark.parametrize(
    "json_text",
    [
        '{"name": "get_weather", "arguments": {"city": LONG,},}',
        "{'name': 'get_weather', 'arguments': {'city': LONG}}",
        '{"name": "get_weather", "arguments": {"city": LONG',
        '{"name": "get_weather", /* here */ "arguments": {"city": LONG}}',
    ],
)
def test_almost_valid_json_with_a_long_string_is_repaired(json_text: str) -> None:
    text = json_text.replace("LONG", json.dumps(LONG))
    assert len(text) > MAX_MENDED_CHARS
    ((name, arguments),) = read(f"<tool_call>\n{text}\n</tool_call>").called
    assert (name, json.loads(arguments)) == ("get_weather", {"city": LONG})


def test_a_long_string_in_single_quotes_is_read() -> None:
    """Models sometimes write a Python dictionary in place of JSON."""
    text = repr({"name": "get_weather", "arguments": {"city": LONG + '"'}})
    assert "'print(\"it\\'s fine\")" in text
    ((_, arguments),) = read(f"<tool_call>\n{text}\n</tool_call>").called
    assert json.loads(arguments) == {"city": LONG + '"'}


@pytest.mark.parametrize("city", ["x" * MAX_MENDED_CHARS + "'", '"' + 'say "hi" to\n' * 20_000 + '"'])
def test_a_call_too_long_to_be_repaired_is_reported(city: str) -> None:
    text = f'<tool_call>\n{{"name": "get_weather", "arguments": {{"city": {city},}}}}\n</tool_call>'
    reading = reading_of(text, 0, OfferedTools(offering()))
    assert reading.calls == ()
    assert reading.wrong == ("It is not valid JSON with a name and arguments and is too long to be repaired.",)


@pytest.mark.parametrize("arguments", ['{"n": 1e999}', "{'n': 1e999}", '{"n": [-1e999,]}'])
def test_a_number_that_is_too_large_for_a_float_is_not_passed_on(arguments: str) -> None:
    """Serialized again, it would become `Infinity`, which is not JSON."""
    text = f'<tool_call>{{"name": "now", "arguments": {arguments}}}</tool_call>'
    answer = read(text)
    assert (answer.called, answer.text) == ([], text)
    assert read('<invoke name="now"><parameter name="n">1e999</parameter></invoke>').called == [
        ("now", '{"n":"1e999"}')
    ]


def test_a_lone_surrogate_in_arguments_is_replaced() -> None:
    """Many JSON parsers refuse a lone surrogate, even an escaped one."""
    text = '<tool_call>{"name": "now", "arguments": {"a": "\\ud83d", "b": "\\ud83d\\ude00"}}</tool_call>'
    assert read(text).called == [("now", '{"a":"\ufffd","b":"😀"}')]


def test_json_that_has_only_begun_is_not_repaired() -> None:
    tools = offering(NOW)
    assert read('<tool_call>\n{"name": "now", "arguments": {', tools).called == []


def test_values_in_xml_are_converted_to_the_type_in_the_schema() -> None:
    schema = {
        "type": "object",
        "properties": {
            "string": {"type": "string"},
            "integer": {"type": "integer"},
            "number": {"type": ["number", "null"]},
            "boolean": {"$ref": "#/$defs/flag"},
            "array": {"type": "array"},
            "object": {"anyOf": [{"type": "object"}, {"type": "null"}]},
            "enum": {"enum": ["12", "a"]},
            "free": {},
            "number or string": {"type": ["string", "number"]},
            "word or number": {"anyOf": [{"type": "string"}, {"type": "number"}]},
            "version": {"type": ["number", "string"]},
            "whole or string": {"type": ["string", "integer"]},
            "listed or number": {"oneOf": [{"enum": ["auto", "12"]}, {"type": "number"}]},
            "listed": {"enum": ["a", 1, True]},
            "listed as a word": {"enum": ["1", 1]},
            "string or nothing": {"type": ["string", "null"]},
            "string or flag": {"$ref": "#/$defs/either"},
            "string or list": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
        },
        "$defs": {"flag": {"type": "boolean"}, "either": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/flag"}]}},
    }
    values = {
        "string": "12",
        "integer": "12",
        "number": "1.5",
        "boolean": "True",
        "array": '["a", 1]',
        "object": "{'a': 1}",
        "enum": "12",
        "free": "[1]",
        "unknown": "a &amp; b",
        "number or string": "12",
        "word or number": "twelve",
        "version": "1.10",
        "whole or string": "1.5",
        "listed or number": "12",
        "listed": "1",
        "listed as a word": "1",
        "string or nothing": "null",
        "string or flag": "true",
        "string or list": '["a"]',
    }
    expected = {
        "string": "12",
        "integer": 12,
        "number": 1.5,
        "boolean": True,
        "array": ["a", 1],
        "object": {"a": 1},
        "enum": "12",
        "free": [1],
        "unknown": "a &amp; b",
        "number or string": 12,
        "word or number": "twelve",
        "version": "1.10",  # as a number it would lose its last zero
        "whole or string": "1.5",
        "listed or number": "12",
        "listed": 1,
        "listed as a word": "1",
        "string or nothing": None,
        "string or flag": True,
        "string or list": ["a"],
    }
    tools = offering(WEATHER._replace(parameters=schema))
    for form in ("XML", "XML with =", "name, then pairs"):
        ((_, arguments),) = read(FORMS[form]([("get_weather", values)]), tools).called
        assert json.loads(arguments) == expected


def test_line_breaks_in_an_xml_value_are_kept_except_those_next_to_its_tags() -> None:
    tools = offering(RUN._replace(kind="function", parameters=None))
    ((_, arguments),) = read("<function=run>\n<parameter=a>\n\n  x\n\n</parameter>\n</function>", tools).called
    assert json.loads(arguments) == {"a": "\n  x\n"}
    ((_, arguments),) = read('<invoke name="run"><parameter name="a">\nx\n</parameter></invoke>', tools).called
    assert json.loads(arguments) == {"a": "\nx\n"}


def test_text_between_and_after_call_blocks_is_dropped() -> None:
    first, second = block(CALLS[:1]), block(CALLS[1:])
    stage = ToolsStage(offering())
    answer = run_stages([lambda: stage], [f"{BEFORE}{first}\nand then\n{second}\nDone."])
    assert answer.called == READ
    assert answer.text == "Let me look."
    assert stage.dropped == len("and then") + len("Done.")
    assert answer.stages.faithful
    assert not answer.stages.regenerable


def test_everything_after_a_result_invented_by_the_model_is_ignored() -> None:
    result = '<tool_response id="call_1" name="get_weather">\nsunny\n</tool_response>'
    answer = read(f"{block(CALLS[:1])}\n{result}\n{block(CALLS[1:])}\nIt is sunny.")
    assert answer.called == READ[:1]
    assert answer.text == ""
    assert not answer.stages.regenerable


def test_only_the_first_call_is_returned_without_parallel_calls() -> None:
    answer = read(block(CALLS), offering(parallel=False))
    assert answer.called == READ[:1]
    assert not answer.stages.regenerable


@every_form
def test_an_answer_cut_inside_a_block_yields_only_its_complete_calls(form: str) -> None:
    text = FORMS[form](CALLS)
    for end in range(len(text)):
        answer = read(f"{BEFORE}{text[:end]}", finish="length")
        assert answer.finish in ("length", "tool_calls")
        if answer.calls:  # only calls that are complete
            assert answer.called in (READ[:1], READ)
        assert answer.text.startswith("Let me look.")


@every_form
def test_text_before_a_call_is_streamed_almost_without_delay(form: str) -> None:
    """Only a possible marker and white space are held back, and never more than the length of the longest marker."""
    text = "Plain words before it, (a) < b, <b>, c[1] {x} and `code`: a<|b, [x], </x>.\n" * 2
    stage = ToolsStage(offering())
    sent = come = ""
    for char in text:
        come += char
        sent += "".join([event.text for event in stage.feed([text_delta(char)]) if isinstance(event, TextDeltas)])
        assert come.startswith(sent)
        assert len(come.rstrip()) - len(sent) <= LONGEST
    stage.feed([text_delta(FORMS[form](CALLS))])
    rest = stage.conclude(cut=False, may_ask=False)
    assert sent == text.rstrip()
    assert rest[-1] == ToolCalls(stage_calls(rest))


def stage_calls(batch: Sequence[AnswerEvent]) -> tuple[ToolCall, ...]:
    (calls,) = [event.calls for event in batch if isinstance(event, ToolCalls)]
    return calls
