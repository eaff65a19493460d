"""One repair turn for calls that cannot be read, do not fit, or are missing; and its outcome."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pytest
from staged import StagedAnswer, run_stages
from tool_forms import NOW, RUN, WEATHER, block, offering

from bridge.answering.chat import Tools
from bridge.answering.stages import ToolsOutcome
from bridge.answering.tools.repair import calls_prompt, json_prompt
from bridge.answering.tools.stage import ToolsStage

GOOD = block([("get_weather", {"city": "Paris"})])
CALLED = [("get_weather", '{"city":"Paris"}')]

WRONG = {
    "no JSON": "<tool_call>\nget_weather(city='Paris')\n</tool_call>",
    "an unknown name": block([("weather", {"city": "Paris"})]),
    "a misfit": block([("get_weather", {"city": "Paris", "days": "three"})]),
    "a missing argument": block([("get_weather", {})]),
    "arguments that are no object": '<tool_call>{"name": "get_weather", "arguments": "Paris"}</tool_call>',
    "one bad block of two": GOOD + block([("get_weather", {"town": "Paris"})]),
    "an empty wrapper": "<function_calls>\nget_weather\n</function_calls>",
    "XML that is no block": '<function_calls><invoke name="get_weather"><parameter name="city">Pa',
    "a block that has only begun": '<tool_call>\n{"name": "get_weather", "arguments": {',
}


def read(text: str, *repairs: str | None, tools: Tools | None = None, finish: str = "stop") -> StagedAnswer:
    return run_stages([partial(ToolsStage, tools or offering())], [text], repairs=repairs, finish=finish)


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_an_unusable_call_is_requested_once_more(wrong: str) -> None:
    answer = read(f"I look.\n{wrong}", f"Sorry!\n{GOOD}")
    assert len(answer.prompts) == 1
    assert answer.called == CALLED
    assert answer.text == "I look."
    assert answer.finish == "tool_calls"
    assert answer.stages.outcome is ToolsOutcome.REPAIRED
    assert answer.stages.faithful
    assert not answer.stages.regenerable


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
@pytest.mark.parametrize("repair", ["I cannot.", block([("weather", {})]), None])
def test_an_unusable_call_whose_repair_fails_is_returned_as_text(wrong: str, repair: str | None) -> None:
    text = f"I look.\n{wrong}\n"
    answer = read(text, repair)
    assert len(answer.prompts) == 1
    assert answer.text == text
    assert not answer.calls
    assert answer.finish == "stop"
    assert answer.stages.outcome is ToolsOutcome.UNPARSED
    assert answer.stages.error is None
    assert answer.stages.faithful == (repair is not None)


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_an_unusable_call_is_returned_as_text_if_no_repair_is_possible(wrong: str) -> None:
    answer = read(wrong)
    assert not answer.prompts
    assert answer.text == wrong
    assert answer.stages.outcome is ToolsOutcome.UNPARSED


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_an_answer_cut_at_its_length_is_not_repaired(wrong: str) -> None:
    answer = read(f"I look.\n{wrong}", GOOD, finish="length")
    assert not answer.prompts
    assert not answer.calls
    assert answer.text == "I look."
    assert answer.finish == "length"


def test_a_missing_required_call_is_requested_once_more() -> None:
    answer = read("It is sunny.", GOOD, tools=offering(required=True))
    assert "calls no tool" in answer.prompts[0]
    assert answer.called == CALLED
    assert answer.text == "It is sunny."
    assert answer.stages.outcome is ToolsOutcome.REPAIRED


@pytest.mark.parametrize("repairs", [(), ("No.",), (None,)])
def test_an_answer_still_without_its_required_call_is_rejected_with_a_502(repairs: Sequence[str | None]) -> None:
    answer = read("It is sunny.", *repairs, tools=offering(required=True))
    assert answer.stages.error is not None
    assert (answer.stages.error.status, answer.stages.error.code) == (502, "invalid_model_output")
    assert answer.stages.outcome is ToolsOutcome.UNPARSED


def test_a_call_of_a_tool_that_is_not_allowed_is_repaired_as_if_the_tool_did_not_exist() -> None:
    tools = offering(allowed=["now"])
    answer = read(GOOD, block([("now", {})]), tools=tools)
    assert 'The tool "get_weather" does not exist' in answer.prompts[0]
    assert answer.prompts[0].endswith("You may call these tools: now.")
    assert answer.called == [("now", "{}")]


def test_bare_json_that_fits_no_tool_is_returned_as_text_without_a_repair() -> None:
    text = '{"name": "get_weather", "arguments": {"town": "Paris"}}'
    answer = read(text, GOOD)
    assert not answer.prompts
    assert answer.text == text
    assert answer.stages.outcome is ToolsOutcome.NONE


def test_a_tool_with_an_invalid_schema_accepts_any_object() -> None:
    tools = offering(WEATHER._replace(parameters={"type": "no such type"}, checkable=False))
    assert read(block([("get_weather", {"any": "thing"})]), tools=tools).called == [("get_weather", '{"any":"thing"}')]


def test_the_repair_prompt_for_calls_has_this_exact_wording() -> None:
    tools = offering(WEATHER, NOW)
    assert (
        calls_prompt(tools, ["The first mistake.", "The second."])
        == """\
Your last answer could not be read as tool calls, and nothing was done.
- The first mistake.
- The second.

Write all calls again, one block for each, in exactly this form, and write nothing else:

<tool_call>
{"name": "the tool's name", "arguments": {"parameter": "value"}}
</tool_call>

You may call these tools: get_weather, now."""
    )


def test_the_repair_prompt_for_one_call_of_a_custom_tool_has_this_exact_wording() -> None:
    tools = offering(RUN, parallel=False)
    assert (
        calls_prompt(tools, [])
        == """\
Your last answer calls no tool, but a call is required.

Write one call, in one block, in exactly this form, and write nothing else:

<tool_call>
{"name": "the tool's name", "input": "the text"}
</tool_call>

You may call these tools: run."""
    )


def test_the_repair_prompt_for_json_has_this_exact_wording() -> None:
    assert (
        json_prompt("it contains no valid JSON.", has_schema=True)
        == """\
Your last answer cannot be used: it contains no valid JSON.

Answer again with one JSON value that fits the schema given above, and write nothing else: no explanation, no code \
fence."""
    )
    assert "one JSON object, and" in json_prompt("it contains no valid JSON.", has_schema=False)
