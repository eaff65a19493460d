"""Validates objects and events of the Responses API against its specification, if that is available.

The specification is not part of the repository: it is read from `../shared/openresponses.json`, or from the path in
LMARENA_BRIDGE_OPENRESPONSES. Its gaps are filled here: it allows only functions as tools, calls and tool choices, does
not allow the schema to be echoed, and names the events of a reasoning text differently from the SDKs.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

#: The beginning of the skip reason if the specification is missing.
SKIPPED_WITHOUT_SPECIFICATION = "the specification of the Responses API is not at"

_PLACE = Path(__file__).parents[3] / "shared" / "openresponses.json"


def _object(kind: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": {"type": kind}, "required": ["type", *required]}


_CUSTOM_CALL = _object({"const": "custom_tool_call"}, "id", "call_id", "name", "input")
_OTHER_TOOL = _object({"not": {"const": "function"}})
_CUSTOM_CHOICE = _object({"const": "custom"}, "name")
_RENAMED = {
    "response.reasoning_text.delta": "response.reasoning.delta",
    "response.reasoning_text.done": "response.reasoning.done",
}
#: Events of custom tools, which the specification lacks; they are checked against the SDK's types.
_UNSPECIFIED = ("response.custom_tool_call_input.delta", "response.custom_tool_call_input.done")


@functools.cache
def _specification() -> dict[str, Any]:
    place = Path(os.environ.get("LMARENA_BRIDGE_OPENRESPONSES", _PLACE))
    if not place.is_file():
        pytest.skip(f"{SKIPPED_WITHOUT_SPECIFICATION} {place} (LMARENA_BRIDGE_OPENRESPONSES)")
    schemas: dict[str, Any] = json.loads(place.read_text())["components"]["schemas"]
    schemas["ItemField"]["oneOf"].append(_CUSTOM_CALL)
    schemas["Tool"]["oneOf"].append(_OTHER_TOOL)
    resource = schemas["ResponseResource"]["properties"]
    resource["tool_choice"]["oneOf"].append(_CUSTOM_CHOICE)
    schemas["JsonSchemaResponseFormat"]["properties"]["schema"] = {"type": "object"}
    return schemas


@functools.cache
def _validator(name: str) -> Any:
    return jsonschema_rs.Draft202012Validator(
        {"$ref": f"#/components/schemas/{name}", "components": {"schemas": _specification()}}
    )


@functools.cache
def _schema_of_events() -> dict[str, str]:
    """The name of each event's schema, by the event's type."""
    found = {}
    for name, schema in _specification().items():
        if name.endswith("StreamingEvent"):
            (kind,) = schema["properties"]["type"]["enum"]
            found[kind] = name
    return found


def check_object(name: str, value: object) -> None:
    """Validate a value against a schema of the specification. Raises ValidationError; skips without a specification."""
    _validator(name).validate(value)


def check_event(event: Mapping[str, Any]) -> None:
    """Validate one event. Raises ValidationError, and KeyError for an event that does not exist."""
    kind = event["type"]
    if kind not in _UNSPECIFIED:
        known = _RENAMED.get(kind, kind)
        check_object(_schema_of_events()[known], {**event, "type": known})
