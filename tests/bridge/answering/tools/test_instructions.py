"""The instructions to a model about tools and the form of its answer: the whole wording, and the parts that vary."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.answering.chat import JsonFormat, Tool, Tools
from bridge.answering.tools.instructions import instructions

CITY: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = Tool("get_weather", "Get the «weather».", CITY)
PATCH = Tool("apply_patch", "Change files.", kind="custom", grammar='lark\nstart: "a"')
BOTH = frozenset({"get_weather", "apply_patch"})

WHOLE = """\
# Tools

You can call tools. Each line between the following tags describes one as JSON: its name, what it does, and the JSON \
Schema of its arguments.

<tools>
{"name":"get_weather","description":"Get the «weather».","parameters":{"type":"object","properties":{"city":\
{"type":"string"}},"required":["city"]}}
{"name":"apply_patch","description":"Change files.","type":"custom","grammar":"lark\\nstart: \\"a\\""}
</tools>

To call a tool, end your answer with a block of exactly this form: the tool's name and its arguments as one JSON object.

<tool_call>
{"name": "tool_name", "arguments": {"argument": "value"}}
</tool_call>

A tool with "type": "custom" takes free text, not arguments. Write its text as one JSON string:

<tool_call>
{"name": "tool_name", "input": "the text"}
</tool_call>

- Call only the tools that are listed, with arguments that fit their schema.
- You may write text before a block. Write nothing after it, and put no code fence around it: the result will come in \
the next message, in a <tool_response> block. Never write such a block yourself.
- To make several calls at once, write one block for each, one after the other.
- If no call is needed, answer without any block.

# Form of the answer

Answer with one JSON value that fits the JSON Schema below, unless you call a tool. Write nothing before it or \
after it, and put no code fence around it.
The value is called report.
What it is for: A report.

{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}"""


def test_instructions_for_tools_and_a_format_have_this_exact_wording() -> None:
    form = JsonFormat(CITY, "report", strict=True, description="A report.")
    assert instructions(Tools((WEATHER, PATCH), BOTH), form) == WHOLE


def test_instructions_without_tools_and_format_are_empty() -> None:
    assert instructions(None, None) == ""


def rules(**choice: Any) -> list[str]:
    """Return the rules in the instructions for two tools, from the third on."""
    tools = Tools((WEATHER, PATCH), **({"allowed": BOTH} | choice))
    return [line for line in instructions(tools, None).split("\n") if line.startswith("- ")][2:]


SEVERAL = "- To make several calls at once, write one block for each, one after the other."
CHOICES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "free": ({}, [SEVERAL, "- If no call is needed, answer without any block."]),
    "one at a time": (
        {"parallel": False},
        ["- Make at most one call in an answer.", "- If no call is needed, answer without any block."],
    ),
    "required": ({"required": True}, [SEVERAL, "- You must call a tool in each answer."]),
    "one by name": (
        {"required": True, "allowed": frozenset({"apply_patch"})},
        [SEVERAL, "- You must call the tool apply_patch in each answer."],
    ),
    "one allowed": (
        {"allowed": frozenset({"apply_patch"})},
        [
            SEVERAL,
            "- Of these tools you may call only apply_patch.",
            "- If no call is needed, answer without any block.",
        ],
    ),
}


@pytest.mark.parametrize(("choice", "said"), CHOICES.values(), ids=CHOICES)
def test_a_tool_choice_determines_the_rules_in_the_instructions(choice: dict[str, Any], said: list[str]) -> None:
    assert rules(**choice) == said


def test_instructions_for_a_required_call_name_the_allowed_tools() -> None:
    tools = Tools((WEATHER, PATCH, Tool("look")), frozenset({"look", "get_weather"}), required=True)
    said = instructions(tools, None).split("\n")
    assert said[-2:] == [
        "- Of these tools you may call only get_weather, look.",
        "- You must call a tool in each answer.",
    ]


LINES: dict[str, tuple[Tool, str]] = {
    "a name alone": (Tool("look"), '{"name":"look"}'),
    "no parameters": (Tool("look", parameters={}), '{"name":"look","parameters":{}}'),
    "parameters in their own order": (
        Tool("look", parameters={"z": 1, "a": {"ü": "\n"}}),
        '{"name":"look","parameters":{"z":1,"a":{"ü":"\\n"}}}',
    ),
    "free text": (Tool("patch", kind="custom"), '{"name":"patch","type":"custom"}'),
}


@pytest.mark.parametrize(("tool", "line"), LINES.values(), ids=LINES)
def test_each_tool_is_described_in_one_line_of_json(tool: Tool, line: str) -> None:
    said = instructions(Tools((tool,), frozenset({tool.name})), None).split("\n")
    assert said[said.index("<tools>") + 1 : said.index("</tools>")] == [line]


FORMS: dict[str, tuple[JsonFormat, str]] = {
    "an object": (JsonFormat(), "one JSON object. Write nothing before"),
    "a schema": (JsonFormat({"type": "array"}), '\n\n{"type":"array"}'),
    "a schema that is empty": (JsonFormat({}), "fits the JSON Schema below. Write nothing before"),
    "a name": (JsonFormat(name="report"), "The value is called report."),
}


@pytest.mark.parametrize(("form", "said"), FORMS.values(), ids=FORMS)
def test_a_json_format_is_described_in_the_instructions(form: JsonFormat, said: str) -> None:
    assert said in instructions(None, form)
    assert "tool" not in instructions(None, form)
