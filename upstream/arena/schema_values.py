"""Makes up values that satisfy a JSON Schema: the same each time, and as small as the schema allows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

#: How many levels are filled in: a schema may refer to itself.
_DEPTH: Final = 12

_STRINGS: Final = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "email": "ada@example.org",
    "uri": "https://example.org/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def value_for(schema: object, root: Mapping[str, Any] | None = None, depth: int = _DEPTH) -> Any:
    """Make a value that satisfies a schema, except for `pattern` and rarer keywords."""
    if not isinstance(schema, Mapping) or depth <= 0:
        return None
    root = schema if root is None else root
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    if isinstance(schema.get("$ref"), str):
        return value_for(_resolved(schema["$ref"], root), root, depth - 1)
    for keyword in ("anyOf", "oneOf"):
        if schema.get(keyword):
            return value_for({**schema[keyword][0], **_without(schema, keyword)}, root, depth - 1)
    if schema.get("allOf"):
        return value_for(_merged(schema, root, depth), root, depth - 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    return _of_type(kind[0] if isinstance(kind, list) else kind, schema, root, depth)


def _of_type(kind: str, schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> Any:
    match kind:
        case "object":
            properties = schema.get("properties", {})
            required = [name for name in properties if name in schema.get("required", properties)]
            return {name: value_for(properties[name], root, depth - 1) for name in required}
        case "array":
            return [value_for(schema.get("items", {}), root, depth - 1) for _ in range(schema.get("minItems", 1))]
        case "integer" | "number":
            return _number(schema)
        case "boolean":
            return True
        case "null":
            return None
    text = _STRINGS.get(schema.get("format", ""), "text")
    return text.ljust(schema.get("minLength", 0), ".")[: schema.get("maxLength")]


def _number(schema: Mapping[str, Any]) -> Any:
    least = schema.get("minimum", schema.get("exclusiveMinimum", 0) + ("exclusiveMinimum" in schema))
    most = schema.get("maximum", schema.get("exclusiveMaximum", least + 2) - ("exclusiveMaximum" in schema))
    step = schema.get("multipleOf", 1)
    value = -(-least // step) * step if least > 0 else 0
    return min(max(value, least), most)


def _merged(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> dict[str, Any]:
    """Merge the parts of an `allOf` into one schema."""
    merged = _without(schema, "allOf")
    for part in schema["allOf"]:
        while isinstance(part.get("$ref"), str) and depth > 0:
            part, depth = _resolved(part["$ref"], root), depth - 1
        merged = {
            **merged,
            **part,
            "properties": {**merged.get("properties", {}), **part.get("properties", {})},
            "required": [*merged.get("required", []), *part.get("required", [])],
        }
    return merged


def _without(schema: Mapping[str, Any], keyword: str) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name != keyword}


def _resolved(reference: str, root: Mapping[str, Any]) -> Any:
    node: Any = root
    for step in filter(None, reference.removeprefix("#").split("/")):
        node = node.get(step.replace("~1", "/").replace("~0", "~"), {})
    return node
