"""A thousand tools with schemas of many shapes, each called in a random form: every call is read back equal."""

from __future__ import annotations

import json
import random
import string
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
from staged import cut_at, run_stages
from tool_forms import FORMS, offering

from bridge.answering.chat import Tool
from bridge.answering.schemas import check_schema, first_misfit
from bridge.answering.tools.stage import ToolsStage

NUMBER = 1000
LETTERS = string.ascii_letters + string.digits + "_-"
TEXTS = (
    "Paris",
    "",
    "12",
    "true",
    "null",
    "a\nb\n",
    "  a ",
    '{"a": 1}',
    "naïve 天気 🦦",
    'say "hi"',
    "it's",
    "<b>&amp;</b>",
    "</tool_call>",
    "C:\\dir\\n",
    "```\ncode\n```",
    "def f(x):\n\treturn [x, {}]\n",
)


class Maker:
    """A seeded generator of schemas, and of values that fit them."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def name(self, *, unicode: bool = False) -> str:
        chars = LETTERS + ("éß天気" if unicode else "")
        return "p" + "".join(self.random.choices(chars, k=self.random.randrange(1, 12)))

    def schema(self, depth: int, defs: dict[str, Any]) -> tuple[dict[str, Any], Callable[[], Any]]:
        """Make a schema, and a function that makes values for it."""
        simple: list[Callable[[], tuple[dict[str, Any], Callable[[], Any]]]] = [
            lambda: ({"type": "string"}, lambda: self.random.choice(TEXTS)),
            lambda: (
                {"type": "integer", "minimum": 0},
                lambda: self.random.randrange(10 ** self.random.randrange(1, 15)),
            ),
            lambda: ({"type": "number"}, lambda: self.random.choice([0, 1.5, -2e10, 3])),
            lambda: ({"type": "boolean"}, lambda: self.random.random() < 0.5),
            lambda: ({"type": ["integer", "null"]}, lambda: self.random.choice([None, 7])),
            lambda: (
                {"type": ["string", "number", "null"]},
                lambda: self.random.choice(["word", "1.10", "12 apples", None, 12, 1.5, -3]),
            ),
            lambda: (
                {"anyOf": [{"enum": ["auto", "7"]}, {"type": "integer"}, {"type": "boolean"}]},
                lambda: self.random.choice(["auto", "7", 12, False]),
            ),
            self._enum,
            lambda: ({"const": "fixed"}, lambda: "fixed"),
            lambda: ({"type": "string", "format": "uri", "maxLength": 90}, lambda: "https://example.org/?a=b&c=d"),
        ]
        nested = [self._array, self._object, self._free, self._union, self._reference]
        if depth <= 0 or self.random.random() < 0.5:
            return self.random.choice(simple)()
        return self.random.choice(nested)(depth - 1, defs)

    def _enum(self) -> tuple[dict[str, Any], Callable[[], Any]]:
        values: list[object] = self.random.choice([["a", "b", "12"], [1, 2, 3], ["ünïcode", ""]])
        return {"enum": values}, lambda: self.random.choice(values)

    def _array(self, depth: int, defs: dict[str, Any]) -> tuple[dict[str, Any], Callable[[], Any]]:
        items, make = self.schema(depth, defs)
        return {"type": "array", "items": items}, lambda: [make() for _ in range(self.random.randrange(4))]

    def _object(
        self, depth: int, defs: dict[str, Any], size: int | None = None
    ) -> tuple[dict[str, Any], Callable[[], Any]]:
        names = {self.name(unicode=True) for _ in range(self.random.randrange(5) if size is None else size)}
        made = {name: self.schema(depth, defs) for name in sorted(names)}
        required = [name for name in made if self.random.random() < 0.7]
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {name: schema for name, (schema, _) in made.items()},
            "required": required,
        }
        if self.random.random() < 0.7:
            schema["additionalProperties"] = False

        def make() -> dict[str, Any]:
            return {name: each() for name, (_, each) in made.items() if name in required or self.random.random() < 0.5}

        return schema, make

    def _free(self, _: int, __: dict[str, Any]) -> tuple[dict[str, Any], Callable[[], Any]]:
        value = {"any": [1, {"deep": None}], "": "x", "\u2028": "\n"}
        return {"type": "object", "additionalProperties": True}, lambda: value

    def _union(self, depth: int, defs: dict[str, Any]) -> tuple[dict[str, Any], Callable[[], Any]]:
        first, make_first = self._object(depth, defs)
        second, make_second = self._array(depth, defs)
        return {"anyOf": [first, second]}, lambda: self.random.choice([make_first, make_second])()

    def _reference(self, depth: int, defs: dict[str, Any]) -> tuple[dict[str, Any], Callable[[], Any]]:
        schema, make = self.schema(depth, defs)
        name = f"def{len(defs)}"
        defs[name] = schema
        return {"$ref": f"#/$defs/{name}"}, make

    def tool(self, number: int) -> tuple[Tool, Callable[[], dict[str, Any]]]:
        """Make a tool, and a function that makes arguments for it; one tool in fifty has a hundred parameters."""
        defs: dict[str, Any] = {}
        size = 100 if number % 50 == 0 else self.random.randrange(1, 8)
        schema, make = self._object(0 if size == 100 else 3, defs, size)
        if defs:
            schema["$defs"] = defs
        return Tool(f"{self.name()}_{number}"[:64], "A tool.", schema), make


def write(form: str, tool: Tool, arguments: Mapping[str, Any]) -> str:
    return FORMS[form]([(tool.name, dict(arguments))])


@pytest.mark.parametrize("part", range(10))
def test_valid_calls_of_random_tools_are_read_back_unchanged(part: int) -> None:
    for number in range(part * NUMBER // 10, (part + 1) * NUMBER // 10):
        maker = Maker(number)
        tool, make = maker.tool(number)
        assert tool.parameters is not None
        assert check_schema(tool.parameters) is None
        others = [maker.tool(number + 1)[0]._replace(name=f"other_{index}") for index in range(3)]
        arguments = make()
        assert first_misfit(tool.parameters, arguments) is None
        form = maker.random.choice([form for form in FORMS if form != "nearly right JSON"])
        text = "Well then.\n\n" + write(form, tool, arguments)
        if form == "closing tag missing at the end" and not text.endswith("}"):
            text = text.rstrip()
        places = [maker.random.randrange(1, len(text)) for _ in range(maker.random.randrange(20))]
        answer = run_stages([partial(ToolsStage, offering(*others, tool))], cut_at(text, places))
        assert [name for name, _ in answer.called] == [tool.name], (form, text, answer.text)
        assert json.loads(answer.called[0][1]) == arguments, (form, text)
        assert answer.text == "Well then."
