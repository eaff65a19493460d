"""Limits on the number of blocks in an answer and on the time to read them, whatever they contain."""

from __future__ import annotations

import json
import time

import pytest
from tool_forms import FORMS, RUN, WEATHER, block, offering

from bridge.answering.tools.budget import MAX_BLOCKS, MAX_MENDED_IN_ALL
from bridge.answering.tools.offered import OfferedTools
from bridge.answering.tools.reading import Reading, read

#: The longest that reading may take, in seconds of CPU; it takes 0.4 at most on a machine of 2026.
LONGEST = 4.0


def read_within_bounds(text: str) -> Reading:
    began = time.thread_time()
    reading = read(text, 0, OfferedTools(offering()))
    assert time.thread_time() - began < LONGEST
    return reading


@pytest.mark.parametrize("form", FORMS)
def test_hundreds_of_calls_in_one_answer_are_read(form: str) -> None:
    reading = read_within_bounds(FORMS[form]([("get_weather", {"city": "Paris"})] * 700))
    assert (len(reading.calls), reading.wrong) == (700, ())


def test_calls_in_one_block_count_individually_towards_the_limit() -> None:
    calls = json.dumps([{"name": "get_weather", "arguments": {"city": "Paris"}}] * (MAX_BLOCKS + 1))
    reading = read_within_bounds(f"<tool_call>{calls}</tool_call>")
    assert (reading.calls, reading.start) == ((), 0)
    assert reading.wrong[0].startswith("There are too many calls")


def test_an_answer_with_too_many_blocks_yields_no_calls() -> None:
    reading = read_within_bounds(f"{block([('get_weather', {'city': 'Paris'})])}\n" * (MAX_BLOCKS // 2 + 1))
    assert (reading.calls, reading.start) == ((), 0)
    assert reading.wrong[0].startswith("There are too many calls")


#: Malformed blocks, whose ends are searched for to the end of the answer.
BAD = {
    "not closed": '<|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>{"city":"Paris"}\n',
    "no JSON": "<tool_call>\n{{{\n</tool_call>\n",
    "begun": '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Par\n',
    "spoken of": "<tool_call> is what it is called\n",
    "nearly JSON": '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris",}}\n</tool_call>\n',
    "a pair without an end": "<tool_call>get_weather<arg_key>city</arg_key><arg_value>Paris\n",
    "a parameter without an end": '<invoke name="get_weather"><parameter name="city">Paris\n',
    "a fence without an end": "```\n<tool_call>\n",
}
#: Text that is read repeatedly if a string is searched for at each of its quotation marks.
LONG_STRINGS = {
    "escaped quotation marks": '\\"',
    "escaped single ones": "\\'",
    "both": "\\\"\\'",
}


@pytest.mark.parametrize("piece", BAD.values(), ids=BAD)
@pytest.mark.parametrize("padding", [0, 1000], ids=["dense", "sparse"])
def test_many_malformed_blocks_are_read_in_bounded_time(piece: str, padding: int) -> None:
    filled = piece + "word " * (padding // 5) + "\n"
    read_within_bounds(filled * (100_000 // len(filled)))


@pytest.mark.parametrize("piece", LONG_STRINGS.values(), ids=LONG_STRINGS)
@pytest.mark.parametrize("quote", ['"', "'"])
@pytest.mark.parametrize("before", ["", "<tool_call>"], ids=["bare", "in a block"])
def test_a_long_unterminated_string_is_read_in_bounded_time(before: str, quote: str, piece: str) -> None:
    text = f'{before}{{"name": "get_weather", "arguments": {{"city": {quote}'
    read_within_bounds(text + piece * (50_000 // len(piece)))


#: Blocks that break off where white space is allowed.
STOPPED = {
    "a name in brackets": "[TOOL_CALLS]get_weather",
    "an id in brackets": "[TOOL_CALLS]get_weather[CALL_ID] a",
    "a parameter": "<function=get_weather>\n<parameter=",
    "a parameter's name": "<function=get_weather>\n<parameter=city",
    "a function": "<function=get_weather",
    "an invocation": '<invoke name="get_weather">\n<parameter name',
    "a section": "<|tool_call_begin|>",
    "a section's name": "<|tool_call_begin|>functions.get_weather:0",
    "a channel": "<|channel|>commentary to=functions.get_weather",
    "a pair": "<tool_call>get_weather<arg_key>city</arg_key>",
    "a fence": "<tool_call>```json",
}


@pytest.mark.parametrize("block", STOPPED.values(), ids=STOPPED)
def test_endless_white_space_in_an_unfinished_block_is_read_in_bounded_time(block: str) -> None:
    for blank in (" ", "\n"):
        assert not read_within_bounds(block + blank * 30_000).calls


def test_unclosed_and_repairable_calls_are_read_among_hundreds_of_others() -> None:
    good, nearly = block([("get_weather", {"city": "Paris"})]), BAD["nearly JSON"]
    assert len(read_within_bounds(f"{good}\n{nearly}\n{BAD['not closed']}" * 200).calls) == 600
    assert 200 * len(nearly) < MAX_MENDED_IN_ALL


def test_a_large_schema_is_prepared_once_for_many_calls() -> None:
    properties = {f"p{number}": {"type": "string", "description": "x" * 100} for number in range(500)}
    parameters = {**(WEATHER.parameters or {}), "properties": {"city": {"type": "string"}, **properties}}
    tools = offering(WEATHER._replace(parameters=parameters), RUN)
    began = time.thread_time()
    reading = read(f"{block([('get_weather', {'city': 'Paris'})])}\n" * 700, 0, OfferedTools(tools))
    assert len(reading.calls) == 700
    assert time.thread_time() - began < 1.5  # preparing it for each call takes 4 ms, in total twice as long
