"""JSON Schema (2020-12) written short: the words in which each dialect describes its requests and answers.

A dialect's `SCHEMAS` are the components of `/openapi.json` by name; they refer to one another by `ref`. What the bridge
sends has just the fields that are named; what it takes may have others, which are ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from bridge.dialects.fields import Fields

Schema: TypeAlias = dict[str, object]
Reader: TypeAlias = Callable[[Fields, str], object]

#: What a field must be that one of `Fields` reads.
_READ: Final[Mapping[Reader, Schema]] = {
    Fields.string: {"type": "string"},
    Fields.number: {"type": "number"},
    Fields.integer: {"type": "integer"},
    Fields.boolean: {"type": "boolean"},
    Fields.mapping: {"type": "object"},
    Fields.array: {"type": "array"},
    Fields.strings: {"type": "array", "items": {"type": "string"}},
    Fields.any: {},
}
_WITHOUT_EFFECT: Final = "Checked, without effect; named in x-bridge-ignored."


def text(about: str = "", **more: object) -> Schema:
    """A string."""
    return _typed("string", about, more)


def whole(about: str = "", **more: object) -> Schema:
    """An integer."""
    return _typed("integer", about, more)


def flag(about: str = "", **more: object) -> Schema:
    """A boolean."""
    return _typed("boolean", about, more)


def anything(about: str = "") -> Schema:
    """An object of whatever fields."""
    return _typed("object", about, {})


def nothing() -> Schema:
    """Null."""
    return {"type": "null"}


def word(*words: str, about: str = "") -> Schema:
    """One of these words."""
    return _typed("string", about, {"enum": list(words)} if len(words) > 1 else {"const": words[0]})


def array(items: Schema, about: str = "", **more: object) -> Schema:
    """An array."""
    return _typed("array", about, {"items": items, **more})


def ref(name: str) -> Schema:
    """One of the components."""
    return {"$ref": f"#/components/schemas/{name}"}


def one_of(*schemas: Schema, about: str = "") -> Schema:
    """Exactly one of these."""
    return {**({"description": about} if about else {}), "oneOf": list(schemas)}


def any_of(*schemas: Schema, about: str = "") -> Schema:
    """At least one of these."""
    return {**({"description": about} if about else {}), "anyOf": list(schemas)}


def or_null(schema: Schema) -> Schema:
    """The same, or null."""
    if isinstance(kind := schema.get("type"), str) and schema.keys().isdisjoint(("enum", "const")):
        return {**schema, "type": [kind, "null"]}
    about = {"description": schema["description"]} if "description" in schema else {}
    return {**about, "anyOf": [{name: value for name, value in schema.items() if name not in about}, nothing()]}


def answered(always: Mapping[str, Schema], sometimes: Mapping[str, Schema] | None = None, about: str = "") -> Schema:
    """An object that the bridge sends."""
    return _typed("object", about, {"properties": {**always, **(sometimes or {})}, "required": list(always)})


def taken(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None, about: str = "") -> Schema:
    """An object that the bridge reads: what may be absent may be null too."""
    properties = {**required, **{name: or_null(schema) for name, schema in (optional or {}).items()}}
    return _typed("object", about, {"properties": properties, "required": list(required)})


def without_effect(readers: Mapping[str, Reader]) -> dict[str, Schema]:
    """Parameters that are checked by these readers and have no effect."""
    return {name: {**_READ[reader], "description": _WITHOUT_EFFECT} for name, reader in readers.items()}


def _typed(kind: str, about: str, more: Mapping[str, object]) -> Schema:
    return {"type": kind, **({"description": about} if about else {}), **more}
