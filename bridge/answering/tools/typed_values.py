"""Arguments written as text, as in XML, converted to the types in a tool's schema."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import unquote

from bridge.answering.tools.json_values import Value, compact, read_nearly, read_value, skip_spaces

#: The maximum depth to which references are followed, since they may be cyclic.
_MAX_DEPTH: Final = 20
_TYPES: Final[tuple[tuple[type, str], ...]] = (
    (bool, "boolean"),
    (str, "string"),
    (int, "integer"),
    (float, "number"),
    (list, "array"),
    (Mapping, "object"),
    (type(None), "null"),
)
_WORDS: Final = {"true": True, "false": False, "null": None, "none": None}


def value_of(text: str, name: str, parameters: Mapping[str, object] | None) -> object:
    """Convert the text that was given for a parameter by its schema; a text that does not match stays a string.

    Without a type in the schema, JSON is converted.
    """
    schema = _schema_of(name, parameters)
    types = set(_types(schema, parameters or {}, _MAX_DEPTH))
    if types == {"string"}:
        return text
    stripped = text.strip()
    if "string" in types:
        return _union_value(text, stripped, schema, parameters or {})
    if not types or types & {"integer", "number"}:
        value = _whole_value(stripped)
        if value is not None:
            return value.value
    if types & {"boolean", "null"} and stripped.lower() in _WORDS:
        return _WORDS[stripped.lower()]
    if types & {"array", "object"}:
        nearly = read_nearly(stripped)
        if nearly is not None and nearly.end == len(stripped):
            return nearly.value
    return text


def _union_value(text: str, stripped: str, schema: object, root: Mapping[str, object]) -> object:
    """Convert a text that may be a string or something else: to its JSON value, if the schema accepts that.

    A string that the schema lists stays a string, and so does a number that would be written differently (`1.10`).
    """
    parts = [*_parts(schema, root, _MAX_DEPTH)] if isinstance(schema, Mapping) else []
    if any(text in _listed(part) for part in parts):
        return text
    read = _whole_value(stripped)
    if read is None or isinstance(read.value, str):
        return text
    value = read.value
    if isinstance(value, int | float) and compact(value) != stripped:
        return text
    return value if any(_accepts(part, value) for part in parts) else text


def _accepts(part: Mapping[str, object], value: object) -> bool:
    """Whether a subschema accepts a value that is not a string, judging by its type and the values that it lists."""
    listed = _listed(part)
    if listed:
        return compact(value) in [compact(each) for each in listed]
    types = part.get("type")
    names = [types] if isinstance(types, str) else types if isinstance(types, list | tuple) else ()
    kind = _type_of(value)
    if kind == "integer" or (isinstance(value, float) and value.is_integer()):
        return "integer" in names or "number" in names
    return kind in names


def _listed(part: Mapping[str, object]) -> list[object]:
    """Return the values of a subschema's `const` or `enum`, if there are any."""
    values = part.get("enum")
    return [part["const"]] if "const" in part else list(values) if isinstance(values, list | tuple) else []


def _type_of(value: object) -> str:
    return next(name for kind, name in _TYPES if isinstance(value, kind))


def _whole_value(text: str) -> Value | None:
    """Read a text that is nothing but one JSON value."""
    value = read_value(text)
    return value if value is not None and skip_spaces(text, value.end) == len(text) else None


def _schema_of(name: str, parameters: Mapping[str, object] | None) -> object:
    """Find the schema of a parameter."""
    if parameters is None:
        return None
    for part in _parts(parameters, parameters, _MAX_DEPTH):
        properties = part.get("properties")
        if isinstance(properties, Mapping) and name in properties:
            return properties[name]
    patterns = parameters.get("patternProperties")
    if isinstance(patterns, Mapping):
        for pattern, schema in patterns.items():
            if _matches(pattern, name):
                return schema
    return parameters.get("additionalProperties")


def _matches(pattern: str, name: str) -> bool:
    try:
        return len(pattern) <= 200 and re.search(pattern, name) is not None
    except re.error:
        return False


def _parts(schema: Mapping[str, object], root: Mapping[str, object], depth: int) -> Iterator[Mapping[str, object]]:
    """Yield a schema and the subschemas that apply together with it."""
    if depth <= 0:
        return
    yield schema
    for keyword in ("allOf", "anyOf", "oneOf"):
        parts = schema.get(keyword)
        for part in parts if isinstance(parts, list | tuple) else ():
            if isinstance(part, Mapping):
                yield from _parts(part, root, depth - 1)
    target = _target(schema.get("$ref"), root)
    if target is not None:
        yield from _parts(target, root, depth - 1)


def _target(reference: object, root: Mapping[str, object]) -> Mapping[str, object] | None:
    """Resolve a reference within the schema, such as `#/$defs/node`."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    node: object = root
    for step in filter(None, unquote(reference[1:]).split("/")):
        node = node.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(node, Mapping) else None
    return node if isinstance(node, Mapping) else None


def _types(schema: object, root: Mapping[str, object], depth: int) -> Iterator[str]:
    """Yield the types that a schema permits; none if it permits any."""
    if not isinstance(schema, Mapping):
        return
    for part in _parts(schema, root, depth):
        types = part.get("type")
        if isinstance(types, str):
            yield types
        elif isinstance(types, list | tuple):
            yield from (each for each in types if isinstance(each, str))
        else:
            yield from map(_type_of, _listed(part))
