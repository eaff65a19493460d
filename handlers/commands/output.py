"""`--json`: a command's result as one JSON document on standard output, with stable names."""

from __future__ import annotations

import click
import orjson

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


def print_json(value: object) -> None:
    """Print plain values as indented JSON."""
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())
