"""Reads what a request says about the form of its answer: stop strings, token limits, JSON; common to all APIs."""

from __future__ import annotations

from typing import Final

from bridge.answering.chat import JsonFormat
from bridge.answering.schemas import check_schema
from bridge.dialects.fields import Fields
from bridge.dialects.tool_reading import MAX_SCHEMA_BYTES

#: The maximum number of stop strings, and of their characters together; OpenAI permits four strings.
MAX_STOPS: Final = 256
MAX_STOP_CHARS: Final = 8 * 1024


def read_stops(fields: Fields, name: str) -> tuple[str, ...]:
    """Read a string or an array of strings; empty ones have no effect. Raises ApiError (400)."""
    if fields.kind(name) is str:
        stops = [fields.string(name) or ""]
    elif fields.kind(name) in (list, type(None)):
        stops = fields.strings(name) or []
    else:
        raise fields.invalid(name, "invalid_type", f"'{fields.path(name)}' must be a string or an array of strings.")
    if len(stops) > MAX_STOPS or sum(map(len, stops)) > MAX_STOP_CHARS:
        limit = f"'{fields.path(name)}' must have at most {MAX_STOPS} strings of at most {MAX_STOP_CHARS} characters."
        raise fields.invalid(name, "invalid_value", limit)
    return tuple(dict.fromkeys(filter(None, stops)))


def read_max_tokens(fields: Fields, name: str) -> int | None:
    """Read a token limit; None if there is none, for which some clients send 0 or -1. Raises ApiError (400)."""
    limit = fields.integer(name, minimum=-1)
    return None if limit in (0, -1) else limit


def read_json_schema(about: Fields) -> JsonFormat:
    """Read a format's schema, name and description. Raises ApiError (400), with the path of what is invalid."""
    schema, text = about.json_object("schema") or (None, b"")
    if schema is not None:
        if len(text) > MAX_SCHEMA_BYTES:
            limit = f"'{about.path('schema')}' must not be larger than {MAX_SCHEMA_BYTES} bytes."
            raise about.invalid("schema", "invalid_value", limit)
        misfit = check_schema(schema)
        if misfit is not None:
            path = ".".join(filter(None, ("schema", misfit.path)))
            message = f"'{about.path(path)}' is not a valid JSON Schema: {misfit.message}"
            raise about.invalid(path, "invalid_value", message)
    return JsonFormat(
        schema, about.string("name") or "", about.boolean("strict") or False, about.string("description") or ""
    )
