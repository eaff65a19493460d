"""When two calls are equal, and which call a result answers."""

from __future__ import annotations

import orjson
import pytest
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st

from bridge.answering.messages import Message, ToolCall
from bridge.answering.tools.calls import CallsSoFar, Matched, compared_call


def compared(arguments: str) -> bytes:
    return orjson.dumps(compared_call(ToolCall("id", "look", arguments)), option=orjson.OPT_SORT_KEYS)


EQUAL: dict[str, tuple[str, str]] = {
    "white space": ('{"a":1,"b":[1,2]}', ' {"a": 1,\n "b": [1, 2]} '),
    "the order of names": ('{"a":1,"b":{"c":2,"d":3}}', '{"b":{"d":3,"c":2},"a":1}'),
    "escapes": ('{"a":"é\\u000a/"}', '{"a":"\\u00e9\\n\\/"}'),
    "whole floats": ('{"a":3,"b":[-2,0,1000]}', '{"a":3.0,"b":[-2.0,-0.0,1e3]}'),
    "nothing": ("", "{}"),
    "blanks": (" \n", "{}"),
    "no JSON, with white space around": ("{a: 1}", " {a: 1}\n"),
    "a name twice": ('{"a":1,"a":2}', '{"a":2}'),
}


@pytest.mark.parametrize(("one", "other"), EQUAL.values(), ids=EQUAL)
def test_arguments_that_differ_only_in_spelling_are_equal(one: str, other: str) -> None:
    assert compared(one) == compared(other)


DIFFERENT: dict[str, tuple[str, str]] = {
    "another value": ('{"a":1}', '{"a":2}'),
    "another name": ('{"a":1}', '{"b":1}'),
    "a string for a number": ('{"a":1}', '{"a":"1"}'),
    "true for 1": ('{"a":1}', '{"a":true}'),
    "null for nothing": ('{"a":null}', "{}"),
    "the order of a list": ("[1,2]", "[2,1]"),
    "a fraction": ('{"a":3}', '{"a":3.5}'),
    "white space in a string": ('{"a":"b c"}', '{"a":"b  c"}'),
    "no JSON": ('{"a":1}', '{"a":1'),
    "JSON as a string of JSON": ('{"a":1}', '"{\\"a\\":1}"'),
    "numbers too large to be exact": ("9007199254740993.0", "9007199254740993"),
}


@pytest.mark.parametrize(("one", "other"), DIFFERENT.values(), ids=DIFFERENT)
def test_arguments_with_different_values_are_not_equal(one: str, other: str) -> None:
    assert compared(one) != compared(other)


def test_calls_are_compared_by_name_and_kind_but_not_by_id() -> None:
    call = ToolCall("id", "look", "{}")
    assert compared_call(call) == compared_call(call._replace(id="another"))
    assert compared_call(call) != compared_call(call._replace(name="go"))
    assert compared_call(call) != compared_call(call._replace(kind="custom"))


def test_free_text_of_a_custom_tool_is_compared_verbatim() -> None:
    call = ToolCall("id", "patch", '{"a":1}', "custom")
    assert compared_call(call) != compared_call(call._replace(arguments='{"a": 1}'))


def test_arguments_nested_too_deeply_are_compared_as_text() -> None:
    text = '{"a":' * 900 + "1.0" + "}" * 900
    assert compared_call(ToolCall("id", "look", text)) == ["look", "function", text]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@a_share(of=20)
@given(json_values, json_values)
def test_arguments_compare_equal_exactly_if_their_values_are_equal(one: object, other: object) -> None:
    def spelled(value: object, option: int) -> bytes:
        return compared(orjson.dumps(value, option=option).decode())

    assert spelled(one, orjson.OPT_INDENT_2) == spelled(one, orjson.OPT_SORT_KEYS)
    if spelled(one, 0) == spelled(other, 0):
        assert one == other


LOOK, GO = ToolCall("call_1", "look", "{}"), ToolCall("call_2", "go", "{}")


def result(call_id: str | None, name: str | None = None) -> Message:
    return Message("tool", "blue", name, tool_call_id=call_id)


MATCHED: dict[str, tuple[list[ToolCall], Message, Matched]] = {
    "by its id": ([LOOK, GO], result("call_1"), Matched(0, "look")),
    "by its id, whatever it is called": ([LOOK, GO], result("call_1", "go"), Matched(0, "look")),
    "of two with one id the later": ([LOOK, GO, GO._replace(id="call_1")], result("call_1"), Matched(2, "go")),
    "by its name": ([LOOK, GO], result(None, "go"), Matched(1, "go")),
    "of two with one name the later": ([GO, LOOK, GO], result(None, "go"), Matched(2, "go")),
    "an id of no call": ([LOOK], result("call_9", "look"), Matched(None, "look")),
    "a name of no call": ([LOOK], result(None, "go"), Matched(None, "go")),
    "neither": ([LOOK], result(None), Matched(None, "")),
    "no calls": ([], result("call_1"), Matched(None, "")),
    "an empty id is none": ([LOOK._replace(id="")], result("", "look"), Matched(0, "look")),
}


@pytest.mark.parametrize(("calls", "message", "matched"), MATCHED.values(), ids=MATCHED)
def test_a_tool_result_is_matched_to_its_call_by_id_or_name(
    calls: list[ToolCall], message: Message, matched: Matched
) -> None:
    so_far = CallsSoFar()
    for call in calls:
        so_far.add((call,))
    assert so_far.answered_by(message) == matched
