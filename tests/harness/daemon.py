"""Inputs for starting a daemon as a separate process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from running import Overrides

import bridge

#: The checkout: `python -m bridge` finds the daemon there.
ROOT = Path(bridge.__file__).parent.parent


def toml(sections: Overrides) -> str:
    """Sections of plain values and tables as TOML, whose strings, numbers and lists have JSON's syntax."""
    return "\n".join(
        f"[{name}]\n" + "".join(f"{key} = {_value(value)}\n" for key, value in values.items())
        for name, values in sections.items()
    )


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{json.dumps(key)} = {_value(inner)}' for key, inner in value.items())}}}"
    return json.dumps(value)
