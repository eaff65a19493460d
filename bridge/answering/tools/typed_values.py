"""Values that came as text, as in XML, read by the type that a tool's schema gives them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import unquote

from bridge.answering.tools.json_values import compact, read_nearly, read_value, skip_spaces

#: References are followed so many times: they may lead in a circle.
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
    """Read the text that was given for a parameter. A string stays a string; without a type JSON if it is JSON."""
    schema = _schema_of(name, parameters)
    types = set(_types(schema, parameters or {}, _MAX_DEPTH))
    if types == {"string"}:
        return text
    stripped = text.strip()
    if "string" in types:
        return _of_union(text, stripped, schema, parameters or {})
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


def _of_union(text: str, stripped: str, schema: object, root: Mapping[str, object]) -> object:
    """Read a text that may be a string and other things: what JSON makes of it, if the schema has a place for that.

    A string that the schema lists stays one, and so does what another number would be once written again (`1.10`).
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
    return value if any(_has_place(part, value) for part in parts) else text


def _has_place(part: Mapping[str, object], value: object) -> bool:
    """Whether one part of a schema takes a value that is no string, as far as its type and the values listed say."""
    listed = _listed(part)
    if listed:
        return compact(value) in [compact(each) for each in listed]
    types = part.get("type")
    names = [types] if isinstance(types, str) else types if isinstance(types, list | tuple) else ()
    kind = next(name for kind, name in _TYPES if isinstance(value, kind))
    if kind == "integer" or (isinstance(value, float) and value.is_integer()):
        return "integer" in names or "number" in names
    return kind in names


def _listed(part: Mapping[str, object]) -> list[object]:
    """The values that a part of a schema lists, if it does."""
    values = part.get("enum")
    return [part["const"]] if "const" in part else list(values) if isinstance(values, list | tuple) else []


def _whole_value(text: str) -> _Read | None:
    value = read_value(text)
    return _Read(value.value) if value is not None and skip_spaces(text, value.end) == len(text) else None


class _Read:
    """A value that was read; it may be None itself."""

    def __init__(self, value: object) -> None:
        self.value = value


def _schema_of(name: str, parameters: Mapping[str, object] | None) -> object:
    """Find the schema of one parameter."""
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
    """Yield a schema and those that it is made of."""
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
    """Follow a reference within the schema (`#/$defs/node`)."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    node: object = root
    for step in filter(None, unquote(reference[1:]).split("/")):
        node = node.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(node, Mapping) else None
    return node if isinstance(node, Mapping) else None


def _types(schema: object, root: Mapping[str, object], depth: int) -> Iterator[str]:
    """Yield the names of the types that a value may have; none where any may be."""
    if not isinstance(schema, Mapping):
        return
    for part in _parts(schema, root, depth):
        types = part.get("type")
        if isinstance(types, str):
            yield types
        elif isinstance(types, list | tuple):
            yield from (each for each in types if isinstance(each, str))
        else:
            values = part.get("enum")
            if "const" in part:
                values = [part["const"]]
            for value in values if isinstance(values, list | tuple) else ():
                yield next(name for kind, name in _TYPES if isinstance(value, kind))
