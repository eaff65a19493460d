"""`--json`: a command's result as one JSON document on standard output, with stable names."""

from __future__ import annotations

import json

import click
import orjson

from upstream.protocol.printable import replaced

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")


def print_json(value: object) -> None:
    """Print plain values as indented JSON; control characters for terminals are escaped."""
    lines = orjson.dumps(value, option=orjson.OPT_INDENT_2).decode().split("\n")
    click.echo("\n".join(replaced(line, _escaped) for line in lines))


def _escaped(char: str) -> str:
    return json.dumps(char)[1:-1]
