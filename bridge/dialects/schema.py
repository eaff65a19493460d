"""Functions that build JSON Schema (2020-12), with which each dialect describes its requests and answers.

A dialect's `SCHEMAS` are components of `/openapi.json` by name; they refer to one another by `ref`. What the bridge
sends has only the fields that are described; what it receives may have others, which are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from bridge.dialects.fields import Fields, Reader

Schema: TypeAlias = dict[str, object]

#: The type of a field, by the method of `Fields` that reads it.
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
#: The description of a parameter that has no effect.
WITHOUT_EFFECT: Final = "Has no effect, but its type is checked; x-bridge-ignored lists it."


def string(about: str = "", **more: object) -> Schema:
    """A string."""
    return _typed("string", about, more)


def integer(about: str = "", **more: object) -> Schema:
    """An integer."""
    return _typed("integer", about, more)


def boolean(about: str = "", **more: object) -> Schema:
    """A boolean."""
    return _typed("boolean", about, more)


def any_object(about: str = "") -> Schema:
    """An object with any fields."""
    return _typed("object", about, {})


def null() -> Schema:
    """Null."""
    return {"type": "null"}


def literal(*words: str, about: str = "") -> Schema:
    """One of these strings."""
    return _typed("string", about, {"enum": list(words)} if len(words) > 1 else {"const": words[0]})


def array(items: Schema, about: str = "", **more: object) -> Schema:
    """An array."""
    return _typed("array", about, {"items": items, **more})


def ref(name: str) -> Schema:
    """A reference to a component."""
    return {"$ref": f"#/components/schemas/{name}"}


def one_of(*schemas: Schema, about: str = "") -> Schema:
    """Exactly one of these schemas."""
    return {**({"description": about} if about else {}), "oneOf": list(schemas)}


def any_of(*schemas: Schema, about: str = "") -> Schema:
    """At least one of these schemas."""
    return {**({"description": about} if about else {}), "anyOf": list(schemas)}


def nullable(schema: Schema) -> Schema:
    """The same schema, or null."""
    if isinstance(kind := schema.get("type"), str) and schema.keys().isdisjoint(("enum", "const")):
        return {**schema, "type": [kind, "null"]}
    about = {"description": schema["description"]} if "description" in schema else {}
    return {**about, "anyOf": [{name: value for name, value in schema.items() if name not in about}, null()]}


def output_object(
    always: Mapping[str, Schema], sometimes: Mapping[str, Schema] | None = None, about: str = ""
) -> Schema:
    """An object that the bridge sends: with the fields in `always`, and perhaps those in `sometimes`."""
    return _typed("object", about, {"properties": {**always, **(sometimes or {})}, "required": list(always)})


def input_object(
    required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None, about: str = ""
) -> Schema:
    """An object that the bridge receives. Optional fields may be null."""
    properties = {**required, **{name: nullable(schema) for name, schema in (optional or {}).items()}}
    return _typed("object", about, {"properties": properties, "required": list(required)})


def without_effect(readers: Mapping[str, Reader]) -> dict[str, Schema]:
    """Parameters that have no effect; these readers check their types."""
    return {name: {**_READ[reader], "description": WITHOUT_EFFECT} for name, reader in readers.items()}


def _typed(kind: str, about: str, more: Mapping[str, object]) -> Schema:
    return {"type": kind, **({"description": about} if about else {}), **more}
