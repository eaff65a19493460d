"""For commands that delete: the confirmation on a terminal, and a helpful error for an unknown name."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

import click

from handlers.commands.standard_input import is_terminal

#: How many names an error lists.
_LISTED = 10

yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask for confirmation.")


def confirm(question: str, *, yes: bool) -> None:
    """Ask for confirmation on a terminal, unless `yes`; a script is not asked. Raises Abort if the answer is no."""
    if not yes and is_terminal():
        click.confirm(question, abort=True, err=True)


def unknown(message: str, name: str, known: Sequence[str], how_to_add: str) -> click.ClickException:
    """The error for a name that does not exist; it lists similar names, or else all names."""
    if not known:
        return click.ClickException(f"{message}: there is none yet ({how_to_add})")
    if similar := get_close_matches(name, known, n=3, cutoff=0.5):
        return click.ClickException(f"{message}; did you mean {' or '.join(map(repr, similar))}?")
    more = f" and {len(known) - _LISTED} more" if len(known) > _LISTED else ""
    return click.ClickException(f"{message}; there are {', '.join(map(repr, known[:_LISTED]))}{more}")
