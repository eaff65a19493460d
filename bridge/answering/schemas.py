"""JSON Schema: whether a schema is valid, and whether a value matches it. The only module that uses jsonschema_rs.

Schemas come from callers and values from models. So nothing is fetched from the network, patterns backtrack a limited
number of times, and a check that could take too long is not started (`schema_cost`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

import orjson

from bridge.answering.pattern_cost import MAX_BACKTRACKS, MAX_PATTERN_CHARS
from bridge.answering.schema_cost import (
    TooComplex,
    expands_too_far,
    has_long_patterns,
    plain_size,
    takes_too_long,
)

if TYPE_CHECKING:
    from jsonschema_rs import ValidationError, Validator

#: The maximum depth of a value; the library's recursion would overflow the stack at some 10,000.
MAX_DEPTH: Final = 200

#: Results for this many schemas of up to this size are cached: an agent sends the same tools in each of its turns.
_CACHED: Final = 1024
_MAX_CACHED_BYTES: Final = 8 * 1024
#: The maximum length of a misfit's message, and of its path, whose names are the caller's or the model's.
_MAX_MESSAGE_CHARS: Final = 300
_TOO_DEEP: Final = "It is nested too deeply, or contains something that is not JSON."
_TOO_MUCH: Final = "Its references are circular, expand to too many subschemas, or point outside the schema."
_TOO_LONG_PATTERNS: Final = f"Its patterns have more than {MAX_PATTERN_CHARS:,} characters."
_TOO_LONG: Final = "It is too large to be checked against this schema."


class Misfit(NamedTuple):
    """What is wrong, and where: `path` is in OpenAI's notation (`items[2].name`), '' for the whole value."""

    path: str
    message: str


def check_schema(schema: object) -> Misfit | None:
    """Return what makes a schema invalid or too complex; None if values can be checked against it."""
    if not isinstance(schema, Mapping | bool):
        return Misfit("", "A schema must be an object.")
    try:
        document = orjson.dumps(schema)
    except orjson.JSONEncodeError:
        return _check(schema)
    return _check_document(document) if len(document) <= _MAX_CACHED_BYTES else _check(schema)


@lru_cache(maxsize=_CACHED)
def _check_document(document: bytes) -> Misfit | None:
    return _check(orjson.loads(document))


def _check(schema: Mapping[str, object] | bool) -> Misfit | None:
    import jsonschema_rs  # deferred, since most requests have no schema

    try:
        if isinstance(schema, Mapping) and has_long_patterns(dict(schema)):
            return Misfit("", _TOO_LONG_PATTERNS)
        _validator(schema)
        if isinstance(schema, Mapping) and expands_too_far(dict(schema)):
            return Misfit("", _TOO_MUCH)
    except jsonschema_rs.ValidationError as error:
        return _misfit(error)
    except (TooComplex, RecursionError):
        return Misfit("", _TOO_MUCH)
    except ValueError:
        return Misfit("", _TOO_DEEP)
    return None


def first_misfit(schema: Mapping[str, object], value: object) -> Misfit | None:
    """Return why a value does not match a schema that `check_schema` found valid; None if it matches.

    As in JSON Schema, 1.0 is an integer. Formats are not checked. Raises ValueError for an invalid schema.
    """
    return Checker(schema).first_misfit(value)


class Checker:
    """Checks values against one schema that `check_schema` found valid. Creating one takes longer than a check.

    Raises ValueError for an invalid schema.
    """

    def __init__(self, schema: Mapping[str, object]) -> None:
        self._schema = dict(schema)
        self._plain_size = plain_size(self._schema)
        self._validator = _validator(schema)

    def first_misfit(self, value: object) -> Misfit | None:
        """Return why a value does not match; None if it does."""
        import jsonschema_rs  # deferred

        if is_too_deep(value):
            return Misfit("", _TOO_DEEP)
        try:
            if takes_too_long(self._schema, value, self._plain_size):
                return Misfit("", _TOO_LONG)
            self._validator.validate(value)
        except jsonschema_rs.ValidationError as error:
            return _misfit(error)
        except (TooComplex, RecursionError):
            return Misfit("", _TOO_LONG)
        except ValueError:
            return Misfit("", _TOO_DEEP)
        return None


def _validator(schema: Mapping[str, object] | bool) -> Validator:
    import jsonschema_rs  # deferred

    if isinstance(schema, Mapping):
        schema = dict(schema)
        if "$schema" in schema and not _is_known(schema["$schema"]):
            del schema["$schema"]
    patterns = jsonschema_rs.FancyRegexOptions(backtrack_limit=MAX_BACKTRACKS)
    return jsonschema_rs.validator_for(schema, validate_formats=False, pattern_options=patterns, offline=True)


def _is_known(draft: object) -> bool:
    """Whether `$schema` names a draft of JSON Schema; anything else is ignored."""
    return isinstance(draft, str) and "//json-schema.org/" in draft


def _misfit(error: ValidationError) -> Misfit:
    return Misfit(_shortened(path_of(error.instance_path)), _shortened(error.message))


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_MESSAGE_CHARS else text[:_MAX_MESSAGE_CHARS] + "…"


def is_too_deep(value: object) -> bool:
    """Whether objects and arrays are nested deeper than `MAX_DEPTH`, found without recursion."""
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
    """Write the path to a value in OpenAI's notation: `items[2].name`."""
    return "".join([f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps]).removeprefix(".")
