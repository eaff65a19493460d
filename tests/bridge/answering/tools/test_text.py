"""Text that is not a call stays text: none is lost, doubled, or delayed longer than necessary."""

from __future__ import annotations

import time
from functools import partial

import pytest
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st
from staged import StagedAnswer, cut_at, run_stages
from tool_forms import FORMS, offering

from bridge.answering.deltas import text_delta
from bridge.answering.stages import ToolsOutcome
from bridge.answering.tools.budget import MAX_BLOCKS
from bridge.answering.tools.call_buffer import CallBuffer
from bridge.answering.tools.offered import OfferedTools
from bridge.answering.tools.stage import ToolsStage

#: Fragments of markers, fences, calls, and prose about them.
FRAGMENTS = (
    "<",
    "<tool",
    "<tool_call>",
    "</tool_call>",
    "<tool_response",
    "<function",
    "=now>",
    "</function>",
    "<function_calls>",
    '<invoke name="now">',
    "</invoke>",
    "[",
    "[TOOL_CALLS]",
    "[ARGS]",
    "<|",
    "<|python_tag|>",
    "<|channel|>",
    "commentary",
    " to=",
    "now",
    "<|message|>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜>",
    "```",
    "```json\n",
    "~~~",
    "`",
    '"',
    "{",
    "}",
    "]",
    '{"name": "now"',
    ', "arguments": {}}',
    '{"name": "now", "arguments": {}}',
    '{"type": "object"}',
    "\n",
    " ",
    "a",
    "> ",
    "é",
    "\\",
)


def read(pieces: list[str]) -> StagedAnswer:
    return run_stages([partial(ToolsStage, offering())], pieces)


@a_share(of=20)
@given(st.lists(st.text(st.characters(exclude_characters="<[{`~", exclude_categories=["Cs"]), max_size=40)))
def test_text_without_markers_is_passed_on_delta_by_delta(pieces: list[str]) -> None:
    stage = ToolsStage(offering())
    come = sent = ""
    for piece in pieces:
        event = text_delta(piece)
        passed = stage.feed([event])
        if come == come.rstrip() and piece == piece.rstrip() and piece:
            assert passed == [event]
            assert passed[0] is event
        come += piece
        sent += "".join([getattr(each, "text", "") for each in passed])
        assert sent == come.rstrip()  # trailing white space is held back until more text comes
    rest = stage.conclude(cut=False, may_ask=True)
    assert sent + "".join([getattr(each, "text", "") for each in rest]) == come
    assert stage.prompt is None
    assert stage.outcome is ToolsOutcome.NONE


@a_share(of=20)
@given(fragments=st.lists(st.sampled_from(FRAGMENTS), max_size=12), places=st.lists(st.integers(1, 100)))
def test_cuts_between_deltas_change_no_result_and_lose_no_text(fragments: list[str], places: list[int]) -> None:
    text = "".join(fragments)
    whole = read([text])
    for pieces in (cut_at(text, places), list(text)):
        answer = read(pieces)
        assert answer.text == whole.text
        assert answer.called == whole.called
        assert answer.stages.outcome == whole.stages.outcome
        assert answer.stages.regenerable == whole.stages.regenerable
    if whole.calls:
        assert text.startswith(whole.text)
    else:
        assert whole.text == text


TEXTS = {
    "a tag in quotation marks": 'Write "<tool_call>" and then JSON.',
    "a tag in typographic ones": "Write “<tool_call>{}</tool_call>” and then JSON.",
    "a tag in inline code": "Write `<tool_call>` and then JSON.",
    "a block in inline code": 'Write `<tool_call>{"name": "now", "arguments": {}}</tool_call>`.',
    "inline code that goes on": 'Write `see <tool_call>{"name": "now"}</tool_call> there`.',
    "a block in a fence, text behind it": '```\n<tool_call>\n{"name": "now"}\n</tool_call>\n```\nThat is the form.',
    "a block in a fence with text": '```\nExample:\n<tool_call>\n{"name": "now"}\n</tool_call>\n```',
    "a block in a fence of tildes": '~~~\nso:\n<tool_call>\n{"name": "now"}\n</tool_call>\n~~~\n',
    "a fence that never ends": '```\nso:\n<tool_call>\n{"name": "now"}\n</tool_call>\n',
    "a fence in a fence": '````\n```\n<tool_call>\n{"name": "now"}\n</tool_call>\n```\n````\nSo.',
    "a quoted line": '> <tool_call>{"name": "now", "arguments": {}}</tool_call>\n\nSo it says.',
    "prose about a tag": "The <tool_call> tag opens a call, the </tool_call> tag closes it.",
    "prose about a made-up result": "The result stands in <tool_response id=1>, he said.",
    "C++": "std::function<function=x> f;",
    "HTML": "<div class='a'><invoke-me>x</invoke-me></div>",
    "XML": '<?xml version="1.0"?>\n<functions><function name="now"/></functions>',
    "bare JSON of another kind": '{"name": "Ada", "arguments": ["for", "against"]}',
    "bare JSON of a known name, not the end": '{"name": "now", "arguments": {}}\nThat is what I would call.',
    "bare JSON of a known name without arguments": '{"name": "now"}',
    "bare JSON that does not fit": '{"name": "get_weather", "arguments": {"town": "Paris"}}',
    "bare JSON within a line": 'So: {"name": "now", "arguments": {}}',
    "a schema": '```json\n{"type": "object", "properties": {"name": {"type": "string"}}}\n```',
    "a list": "[1, 2, 3]",
    "a list of objects": '[\n  {"name": "Ada"},\n  {"name": "Bob"}\n]',
    "a reference in brackets": "[TOOL_CALLS: see below] and [ARGS]",
    "a marker at the end": "and then comes `<tool_call",
    "half a marker": "<tool_cal",
    "half a fence": "``",
    "white space": "  \n \n",
    "the final channel": "<|channel|>final<|message|>Hello",
    "a fence with many words": f"```{'x' * 60}\n<tool_call>{{}}</tool_call>\n```\n",
    "a marker inside JSON that is no call": '{"name": "now", "doc": [<tool_call>{"name": "now"}</tool_call>]} so.',
    "a shell": "cat <<EOF > a\n[section]\n{ echo; }\nEOF\n",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_text_that_merely_mentions_calls_stays_text(text: str) -> None:
    for pieces in ([text], list(text)):
        answer = run_stages([partial(ToolsStage, offering())], pieces, repairs=["no more"])
        assert answer.text == text
        assert not answer.calls
        assert not answer.prompts  # no repair is asked for
        assert answer.finish == "stop"


def adversarial() -> dict[str, dict[str, str]]:
    """Return hundreds of texts that quote each form of call in the ways in which prose quotes code."""
    calls = [("get_weather", {"city": "Paris"})]
    shown = {
        "in a fence": "To call a tool, the model writes:\n\n```\n{}\n```\n\nThat is all.",
        "in a fence with a language": "Example:\n```xml\n{}\n```\nThen the result comes.",
        "in a fence among code": "```python\nEXAMPLE = '''\n{}\n'''\n```\n",
        "in a longer fence": "````markdown\nSome text.\n{}\n````\nSo far the README.",
        "in a fence of tildes": "~~~\nso:\n{}\n~~~",
        "in a list": "1. The form:\n   ```\n   {}\n   ```\n2. The rest.",
        "in a string": 'assert parse("{}") == []',
        "in inline code": "The form is `{}`, as before.",
        "in typographic quotation marks": "It then writes “{}”.",
        "in single quotation marks": "it wrote '{}' again",
        "in a quoted paragraph": "> {}\n\nThat was quoted.",
        "in a table of Markdown": "| form | example |\n|---|---|\n| it | `{}` |",
        "in guillemets": "Es schreibt «{}», sagt er.",
    }
    texts: dict[str, dict[str, str]] = {}
    for form, write in FORMS.items():
        written = write(calls)
        for way, frame in shown.items():
            one_line = " ".join(written.split("\n"))
            if "fence" in form and (("in a" in way and "fence" in way) or way == "in a list"):
                continue  # a fence within a fence of the same length ends the outer one
            if form.startswith("bare JSON in a fence") or "`" in one_line:
                continue
            multi = "fence" in way or way == "in a list"
            texts.setdefault(form, {})[way] = frame.replace("{}", written if multi else one_line)
    return texts


ADVERSARIAL = adversarial()


@pytest.mark.parametrize("form", ADVERSARIAL)
def test_a_quoted_example_of_a_call_stays_text(form: str) -> None:
    for way, text in ADVERSARIAL[form].items():
        for pieces in ([text], list(text)):
            answer = run_stages([partial(ToolsStage, offering())], pieces, repairs=[None])
            assert not answer.calls, way
            assert answer.text == text, way


def test_there_are_at_least_300_texts_that_only_look_like_calls() -> None:
    assert sum(map(len, ADVERSARIAL.values())) + len(TEXTS) >= 300


@a_share(of=10)
@given(st.text(max_size=2000))
def test_arbitrary_text_is_passed_on_unchanged(text: str) -> None:
    text = text.encode(errors="replace").decode()
    answer = read(list(text))
    assert answer.text == text


def test_long_json_arguments_in_small_deltas_are_read_in_linear_time() -> None:
    buffer = CallBuffer(OfferedTools(offering()))
    pieces = ['{"name": "get_weather", "arguments": {"city": "', *["x" * 20] * 10_000, '"}}']
    began = time.process_time()
    assert not any(buffer.push(piece) for piece in pieces)
    assert buffer.size > 200_000
    assert time.process_time() - began < 5


def test_an_answer_with_more_blocks_than_are_read_is_returned_as_text() -> None:
    text = "[TOOL_CALLS]now[ARGS]{}" * (MAX_BLOCKS // 2 + 1)
    answer = run_stages([partial(ToolsStage, offering())], [text])
    assert not answer.calls
    assert answer.text == text
    assert answer.stages.outcome is ToolsOutcome.UNPARSED


@pytest.mark.parametrize("piece", ["<tool_call>", "```\n", '{"name": "now",\n', "[[", "<", " ", "'", "/*", '{"a": '])
def test_repetitive_text_is_not_read_in_quadratic_time(piece: str) -> None:
    text = f'<tool_call>{{"name": {piece * (200_000 // len(piece))}' if piece in "'/*" else piece * 20_000
    began = time.process_time()
    for pieces in ([text], cut_at(text, range(0, len(text), 50))):
        assert not read(pieces).calls
    assert time.process_time() - began < 20  # usually one second; quadratic time would be minutes
