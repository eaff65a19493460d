"""JSON Schema: invalid schemas and values are reported with their path, and no check takes hours."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.answering.schemas import Misfit, check_schema, first_misfit, path_of

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}},
        "friends": {"type": "array", "items": {"$ref": "#"}},
    },
    "required": ["name"],
    "additionalProperties": False,
}

VALID: dict[str, object] = {
    "nothing": {},
    "an object": PERSON,
    "a tree": {"$defs": {"node": {"items": {"$ref": "#/$defs/node"}}}, "$ref": "#/$defs/node"},
    "an anchor": {"$defs": {"node": {"$anchor": "n", "type": "string"}}, "$ref": "#n"},
    "a pointer with escapes": {"$defs": {"a/b ~": {"type": "null"}}, "$ref": "#/$defs/a~1b%20~0"},
    "an old draft": {"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "string"}]},
    "a draft nobody knows": {"$schema": "https://example.org/mine", "type": "string"},
    "$schema is a number": {"$schema": 7, "type": "string"},
    "keywords nobody knows": {"type": "string", "nullable": True, "x-order": 1},
    "a pattern of JavaScript's": {"pattern": r"^(?=\p{L})[\w\-]+\/\d$"},
    "all is allowed": True,
}


@pytest.mark.parametrize("schema", VALID.values(), ids=VALID)
def test_a_valid_schema_passes_the_check(schema: object) -> None:
    assert check_schema(schema) is None


LAUGHS: dict[str, Any] = {
    f"d{level}": {"anyOf": [{"$ref": f"#/$defs/d{level + 1}"}, {"$ref": f"#/$defs/d{level + 1}"}]}
    for level in range(40)
} | {"d40": {"type": "string"}}

DEEP: dict[str, Any] = {"type": "string"}
for _ in range(400):
    DEEP = {"items": DEEP}

WIDE: dict[str, Any] = {"type": "string"}
for _ in range(60):
    WIDE = {"anyOf": [*[{"minLength": at} for at in range(1_000)], WIDE]}

INVALID: dict[str, tuple[object, str]] = {
    "a type nobody knows": ({"type": "strin"}, "type"),
    "a number as type, inside": ({"properties": {"a": {"type": 5}}}, "properties.a.type"),
    "required is no list": ({"properties": {"a": {"required": True}}}, "properties.a.required"),
    "an enum in a list": ({"anyOf": [{}, {"enum": 1}]}, "anyOf[1].enum"),
    "a broken pattern": ({"properties": {"a": {"pattern": "(a"}}}, "properties.a.pattern"),
    "a pattern too large": ({"pattern": "((a{1000}){1000}){1000}"}, "pattern"),
    "a reference to nothing": ({"$ref": "#/$defs/a"}, ""),
    "a reference to another server": ({"$ref": "https://127.0.0.1:1/schema.json"}, ""),
    "a reference to a file": ({"properties": {"a": {"$ref": "file:///etc/passwd"}}}, ""),
    "a billion laughs": ({"$defs": LAUGHS, "$ref": "#/$defs/d0"}, ""),
    "a billion laughs by name": (
        {
            "$defs": {
                f"d{n}": {"$anchor": f"a{n}", "allOf": [{"$ref": f"#a{n + 1}"}, {"$ref": f"#a{n + 1}"}]}
                for n in range(40)
            }
            | {"end": {"$anchor": "a40"}},
            "$ref": "#a0",
        },
        "",
    ),
    "a circle": ({"anyOf": [{"$ref": "#"}, {"type": "string"}]}, ""),
    "a circle of two": (
        {"$defs": {"a": {"allOf": [{"$ref": "#/$defs/b"}]}, "b": {"not": {"$ref": "#/$defs/a"}}}, "type": "object"},
        "",
    ),
    "a deep tower of wide choices": ({"anyOf": [WIDE, {"items": {"$ref": "#"}}]}, ""),
    "400 deep": (DEEP, ""),
    "a string": ("string", ""),
    "a list": ([], ""),
    "null": (None, ""),
}


@pytest.mark.parametrize(("schema", "path"), INVALID.values(), ids=INVALID)
def test_an_invalid_schema_is_reported_with_the_path_of_the_fault(schema: object, path: str) -> None:
    found = check_schema(schema)
    assert found is not None
    assert found.path == path
    assert found.message


def nested(levels: int) -> object:
    value: object = {"name": "Ada"}
    for _ in range(levels):
        value = {"name": "Ada", "friends": [value]}
    return value


FITTING: dict[str, object] = {
    "least": {"name": "Ada"},
    "whole floats are integers": {"name": "Ada", "age": 36.0},
    "nested": {"name": "Ada", "tags": ["a"], "friends": [{"name": "Bob", "friends": []}]},
    "nested deeply": nested(99),
}


@pytest.mark.parametrize("value", FITTING.values(), ids=FITTING)
def test_a_value_that_fits_the_schema_has_no_misfit(value: object) -> None:
    assert first_misfit(PERSON, value) is None


MISFITS: dict[str, tuple[object, str, str]] = {
    "no object": ([1], "", "object"),
    "a field missing": ({}, "", "name"),
    "a field too many": ({"name": "Ada", "mood": 1}, "", "mood"),
    "a wrong type": ({"name": "Ada", "age": "36"}, "age", "integer"),
    "a fraction": ({"name": "Ada", "age": 36.5}, "age", "integer"),
    "in a list": ({"name": "Ada", "tags": ["a", "c"]}, "tags[1]", "c"),
    "in an object in a list": ({"name": "Ada", "friends": [{"name": "Bob"}, {"name": 1}]}, "friends[1].name", "string"),
    "too deep": (nested(200), "", "deep"),
    "so deep that it would overrun the stack": (nested(20_000), "", "deep"),
    "not JSON": ({"name": {1, 2}}, "", "JSON"),
}


@pytest.mark.parametrize(("value", "path", "said"), MISFITS.values(), ids=MISFITS)
def test_a_value_that_does_not_fit_is_reported_with_its_path(value: object, path: str, said: str) -> None:
    found = first_misfit(PERSON, value)
    assert found is not None
    assert found.path == path
    assert said in found.message


def test_the_message_of_a_misfit_is_bounded() -> None:
    found = first_misfit({"type": "integer"}, "é" * 100_000)
    assert found is not None
    assert len(found.message) < 400


def test_the_path_of_a_misfit_is_bounded() -> None:
    name = "a" * 1_000_000
    for misfit in (
        check_schema({"properties": {name: {"type": "word"}}}),
        first_misfit({"additionalProperties": {"type": "string"}}, {name: 1}),
    ):
        assert misfit is not None
        assert len(misfit.path) == 301


def test_checking_a_value_against_an_invalid_schema_raises_an_error() -> None:
    with pytest.raises(ValueError, match="type"):
        first_misfit({"type": "strin"}, 1)


def test_a_pattern_that_backtracks_exponentially_is_checked_quickly() -> None:
    """Python's own `re` would take longer than the age of the universe."""
    assert first_misfit({"pattern": "^(?=a)(a+)+$"}, "a" * 200 + "!") is not None


#: Patterns of which each match stays within its bound, but which are matched many times.
BACK = {"not": {"pattern": r"(?=(a+))a*b\1"}}
STATES = {"pattern": "[ab]*a[ab]{900}c"}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"items": BACK}, ["a" * 170] * 2_000),
        ({"additionalProperties": BACK}, {str(n): "a" * 170 for n in range(2_000)}),
        ({"propertyNames": {"allOf": [BACK]}}, {"a" * 170 + str(n): 1 for n in range(2_000)}),
        ({"patternProperties": {BACK["not"]["pattern"]: {}}}, {"a" * 170 + str(n): 1 for n in range(2_000)}),
        ({"not": STATES}, "ab" * 200_000),
        ({"anyOf": [{"$ref": "#/$defs/a"}] * 40, "$defs": {"a": STATES}}, "ab" * 20_000),
    ],
    ids=["items", "values", "names", "names by pattern", "states", "references"],
)
def test_patterns_that_would_take_too_long_in_total_are_rejected_as_too_large(
    schema: dict[str, Any], value: object
) -> None:
    assert check_schema(schema) is None
    misfit = first_misfit(schema, value)
    assert misfit is not None
    assert "too large to be checked" in misfit.message


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"^[A-Za-z0-9+/]*={0,2}$", "ab" * 500_000),
        (r"^[\w.%+-]{1,64}@[\w.-]{1,255}\.[A-Za-z]{2,}$", "ada@example.org"),
        (r"^(?!.*--)[a-z][a-z0-9-]{2,61}$", "an-ordinary-name"),
        (r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$", "2026-11-30T12:00:00Z"),
        (r"^[^\]\[]*$", "plain"),
    ],
)
def test_patterns_of_real_tools_are_checked(pattern: str, text: str) -> None:
    schema = {"items": {"pattern": pattern}}
    assert first_misfit(schema, [text] * (1 if len(text) > 100 else 200)) is None
    misfit = first_misfit(schema, [f"{text}]\n"])
    assert misfit is not None
    assert "too large" not in misfit.message


def test_patterns_that_take_a_second_to_compile_are_refused() -> None:
    misfit = check_schema({"anyOf": [{"pattern": "(a|b)" * 2_000}, {"patternProperties": {"(a|b)" * 2_000: {}}}]})
    assert misfit is not None
    assert "16,384" in misfit.message


def tree(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = {"a": value}
    return value


TWICE: dict[str, Any] = {"properties": {"a": {"$ref": "#"}}, "type": "object"}
EXPLODING: dict[str, tuple[dict[str, Any], object]] = {
    "two branches at each level": ({"anyOf": [TWICE, TWICE]}, tree(100)),
    "two branches by pattern": (
        {"anyOf": [{"patternProperties": {"enum|a": {"$ref": "#"}}}] * 2, "required": ["b"]},
        tree(100),
    ),
    "two branches by dependency": (
        {"dependentSchemas": {"a": TWICE, "enum": TWICE}, "dependencies": {"a": TWICE}},
        tree(100),
    ),
    "two branches of items": ({"allOf": [{"items": {"$ref": "#"}}, {"prefixItems": [{"$ref": "#"}]}]}, [[[[]]]]),
    "many items, many choices": ({"items": {"anyOf": [{"const": at} for at in range(30_000)]}}, ["a"] * 30_000),
    "many names, many choices": (
        {"additionalProperties": {"anyOf": [{"properties": {"a": True}}] * 5_000}},
        {str(at): {str(at): 1} for at in range(5_000)},
    ),
    "many names in one object, many choices": (
        {"anyOf": [{"required": [str(at)]} for at in range(20_000)]},
        {f"name {at}": at for at in range(100_000)},
    ),
    "many items, many words": ({"items": {"enum": list(range(30_000))}}, ["a"] * 30_000),
}
for _ in range(60):
    EXPLODING["two branches of items"] = (
        EXPLODING["two branches of items"][0],
        [EXPLODING["two branches of items"][1]],
    )


@pytest.mark.parametrize(("schema", "value"), EXPLODING.values(), ids=EXPLODING)
def test_a_check_that_would_take_hours_is_rejected_as_too_large(schema: dict[str, Any], value: object) -> None:
    assert check_schema(schema) is None
    found = first_misfit(schema, value)
    assert found is not None
    assert "too large" in found.message


OPERATION: dict[str, Any] = {
    "oneOf": [
        {"type": "number"},
        *[
            {
                "type": "object",
                "properties": {"op": {"const": name}, "left": {"$ref": "#"}, "right": {"$ref": "#"}},
                "required": ["op", "left", "right"],
            }
            for name in ("add", "sub", "mul", "div")
        ],
    ]
}


def operation(levels: int) -> object:
    return {"op": "add", "left": operation(levels - 1), "right": operation(levels - 1)} if levels else 1


HARMLESS: dict[str, tuple[dict[str, Any], object]] = {
    "a tree of operations": (OPERATION, operation(5)),
    "a long list of persons": (PERSON, {"name": "Ada", "friends": [{"name": "Bob", "tags": ["a", "b"]}] * 10_000}),
    "a list as deep as is allowed": (PERSON, nested(99)),
    "a long text": ({"type": "object", "properties": {"text": {"type": "string"}}}, {"text": "x" * 1_000_000}),
    "a long list": ({"items": {"enum": list("abcdefgh")}}, list("abcdefgh") * 10_000),
}


@pytest.mark.parametrize(("schema", "value"), HARMLESS.values(), ids=HARMLESS)
def test_large_values_and_schemas_of_real_tools_are_checked(schema: dict[str, Any], value: object) -> None:
    assert check_schema(schema) is None
    assert first_misfit(schema, value) is None


def test_only_the_first_of_many_misfits_is_reported() -> None:
    assert first_misfit({"items": {"type": "string"}}, [1] * 200_000) == Misfit("[0]", '1 is not of type "string"')


def test_path_of_writes_names_with_dots_and_indexes_in_brackets() -> None:
    assert path_of([]) == ""
    assert path_of(["a", 0, 1, "b"]) == "a[0][1].b"


def test_the_cached_verdict_on_a_schema_depends_on_its_content_not_on_the_object() -> None:
    schema: dict[str, object] = {"type": "object", "description": "whose verdict is remembered"}
    assert check_schema(schema) is None
    schema["type"] = "no such type"
    assert check_schema(schema) is not None
    schema["type"] = "object"
    assert check_schema(dict(reversed(schema.items()))) is None
