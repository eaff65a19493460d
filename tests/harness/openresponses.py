"""The specification of the Responses API, where the checkout has it beside it: every object and event against it.

It is data that stays out of the repository: `../shared/openresponses.json`, or where LMARENA_BRIDGE_OPENRESPONSES says.
Its own slips are mended here: it knows no tool, item or choice that is no function, no echoed schema, and other names
for the events of a reasoning text than the SDKs do.
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

#: How the reason of a skip begins where the specification is missing.
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
#: Events of custom tools, which the specification does not have; the SDK's types check them.
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
    """The name of the schema of each event, by its type."""
    found = {}
    for name, schema in _specification().items():
        if name.endswith("StreamingEvent"):
            (kind,) = schema["properties"]["type"]["enum"]
            found[kind] = name
    return found


def check_object(name: str, value: object) -> None:
    """Validate a value against a schema of the specification. Raises ValidationError; skips where it is missing."""
    _validator(name).validate(value)


def check_event(event: Mapping[str, Any]) -> None:
    """Validate one event. Raises ValidationError, and KeyError for an event that does not exist."""
    kind = event["type"]
    if kind not in _UNSPECIFIED:
        known = _RENAMED.get(kind, kind)
        check_object(_schema_of_events()[known], {**event, "type": known})
