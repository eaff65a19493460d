"""JSON Schema: is a schema valid, and does a value fit it? Pure functions, and the one door to the library.

Both are asked about schemas that callers wrote, and values that models wrote. So nothing is fetched from the network,
patterns backtrack a bounded number of times, and a schema whose references multiply into more than `MAX_EXPANDED`
parts is refused: checking a value against it could take hours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote

import orjson

if TYPE_CHECKING:
    from jsonschema_rs import ValidationError, Validator

#: Parts that a schema may have once its references are replaced by what they refer to.
MAX_EXPANDED: Final = 200_000

#: How deep a value may be nested: the library's recursion would overrun the stack at some 10,000.
MAX_DEPTH: Final = 200

#: Steps back that matching one pattern may take.
_MAX_BACKTRACKS: Final = 100_000
_MAX_MESSAGE_CHARS: Final = 300
_REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")
_TOO_DEEP: Final = "It is nested too deeply, or holds something that is not JSON."


class Misfit(NamedTuple):
    """What is wrong, and where: `path` is in OpenAI's notation (`items[2].name`), empty for the whole value."""

    path: str
    message: str


def check_schema(schema: object) -> Misfit | None:
    """Say what makes a schema invalid; None where values can be checked against it."""
    import jsonschema_rs  # when first needed: most requests bring no schema

    if not isinstance(schema, Mapping | bool):
        return Misfit("", "A schema is an object.")
    try:
        _validator(schema)
        if isinstance(schema, Mapping) and _expands_too_far(schema):
            return Misfit("", "Its references lead to too many parts, or to something that is not in the schema.")
    except jsonschema_rs.ValidationError as error:
        return _misfit(error)
    except (ValueError, RecursionError):
        return Misfit("", _TOO_DEEP)
    return None


def first_misfit(schema: Mapping[str, object], value: object) -> Misfit | None:
    """Say where a value does not fit a schema that `check_schema` found valid; None where it fits.

    Whole floats are integers, as JSON Schema has it. Formats are not checked. Raises ValueError for an invalid schema.
    """
    import jsonschema_rs  # when first needed

    validator = _validator(schema)
    if _is_too_deep(value):
        return Misfit("", _TOO_DEEP)
    try:
        validator.validate(value)
    except jsonschema_rs.ValidationError as error:
        return _misfit(error)
    except ValueError:
        return Misfit("", _TOO_DEEP)
    return None


def _validator(schema: Mapping[str, object] | bool) -> Validator:
    import jsonschema_rs  # when first needed

    if isinstance(schema, Mapping):
        schema = dict(schema)
        if "$schema" in schema and not _is_known(schema["$schema"]):
            del schema["$schema"]
    patterns = jsonschema_rs.FancyRegexOptions(backtrack_limit=_MAX_BACKTRACKS)
    return jsonschema_rs.validator_for(schema, validate_formats=False, pattern_options=patterns, offline=True)


def _is_known(draft: object) -> bool:
    """Whether `$schema` names a draft of JSON Schema; any other word says nothing about how to read the rest."""
    return isinstance(draft, str) and "//json-schema.org/" in draft


def _misfit(error: ValidationError) -> Misfit:
    message = error.message
    if len(message) > _MAX_MESSAGE_CHARS:
        message = message[:_MAX_MESSAGE_CHARS] + "…"
    return Misfit(path_of(error.instance_path), message)


def _is_too_deep(value: object) -> bool:
    """Whether objects and arrays are nested deeper than `MAX_DEPTH`; one level after another, without recursion."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        inner = [
            list(each.values()) if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)
        ]
        if not inner:
            return False
        level = [item for items in inner for item in items]
    return True


def path_of(steps: Sequence[str | int]) -> str:
    """Write the way to a value in OpenAI's notation: `items[2].name`."""
    return "".join([f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps]).removeprefix(".")


def _expands_too_far(schema: Mapping[str, object]) -> bool:
    """Whether references multiply: a schema of thirty lines can describe a billion parts.

    A reference that leads back to where it stands counts once. One that cannot be followed here counts as too far.
    """
    if b'ref":' not in orjson.dumps(schema).lower():  # as most have none: a twentieth of the time
        return False
    anchors = {name: node for node in _objects(schema) for name in _names(node)}
    sizes: dict[str, int] = {}

    def size(node: object) -> int:
        if isinstance(node, list):
            return sum([size(item) for item in node])
        if not isinstance(node, dict):
            return 1
        total = 1 + sum([size(value) for value in node.values()])
        for reference in [node[name] for name in _REFERENCES if isinstance(node.get(name), str)]:
            if reference not in sizes:
                sizes[reference] = 1  # where it leads back to
                target = anchors.get(reference) or _pointed(schema, reference)
                sizes[reference] = MAX_EXPANDED if target is None else size(target)
            total += sizes[reference]
        return total

    return size(dict(schema)) > MAX_EXPANDED


def _objects(schema: object) -> Iterator[dict[str, object]]:
    """Yield every object of a schema."""
    left = [schema]
    while left:
        node = left.pop()
        if isinstance(node, dict):
            yield node
            left.extend(node.values())
        elif isinstance(node, list):
            left.extend(node)


def _names(node: Mapping[str, object]) -> Iterator[str]:
    """Yield the references by which an object of a schema can be meant, beside pointers."""
    for keyword, prefix in (("$anchor", "#"), ("$dynamicAnchor", "#"), ("$id", "")):
        name = node.get(keyword)
        if isinstance(name, str):
            yield prefix + name


def _pointed(schema: Mapping[str, object], reference: str) -> object:
    """Follow a JSON pointer (`#/$defs/node`); None where it leads nowhere."""
    if reference == "#":
        return dict(schema)
    if not reference.startswith("#/"):
        return "a draft" if "//json-schema.org/" in reference else None
    node: object = schema
    for step in unquote(reference[2:]).split("/"):
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(node, Mapping):
            node = node.get(name)
        elif isinstance(node, list) and name.isdecimal() and int(name) < len(node):
            node = node[int(name)]
        else:
            return None
    return node
